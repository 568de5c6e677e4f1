//! The certificate that all proxies of one comparison show: ECDSA P-256, signed by an authority made for it.

use super::certs::{Authority, Leaf};
use super::dialer::Transport;
use super::wire;

/// The Secret's namespace and name.
pub const SECRET: &str = "bench/certificate";

pub struct Certificate {
    authority: Authority,
    leaf: Leaf,
}

impl Certificate {
    pub fn new() -> Self {
        let authority = Authority::new("bench");
        let leaf = authority.server(&[wire::HOST]);
        Self { authority, leaf }
    }

    /// With its key, as nginx and HAProxy read it.
    pub fn pem(&self) -> String {
        format!("{}{}", self.leaf.certificate, self.leaf.key)
    }

    /// As a manifest.
    pub fn secret(&self) -> String {
        let (namespace, name) = SECRET.split_once('/').expect("has both");
        self.leaf.secret(namespace, name).to_string()
    }

    pub fn tls(&self) -> Transport {
        let authority = self.authority.pem();
        Transport::Tls { authority }
    }

    pub fn http2(&self) -> Transport {
        let authority = self.authority.pem();
        Transport::Http2 { authority }
    }
}
