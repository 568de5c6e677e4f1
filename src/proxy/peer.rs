//! Who a connection is from and how it came: known when its first request begins, the same for all of them.

use std::net::IpAddr;

use http::HeaderValue;

use super::tls::{Agreed, ClientCertificate};
use crate::snapshot::ListenerKey;

/// The client, or the proxy that speaks for it.
#[derive(Debug)]
pub struct Peer {
    pub listener: ListenerKey,
    /// An IPv4-mapped address in its IPv4 form; behind a proxy that speaks the PROXY protocol, what that said.
    pub ip: IpAddr,
    /// `ip` as text.
    pub address: HeaderValue,
    /// The port that the client connected to.
    pub port: HeaderValue,
    /// None: in plaintext.
    pub tls: Option<Agreed>,
}

impl Peer {
    /// None never happens: an address' text is a header value.
    pub fn new(listener: ListenerKey, ip: IpAddr, port: HeaderValue, tls: Option<Agreed>) -> Option<Self> {
        let ip = ip.to_canonical();
        let address = HeaderValue::try_from(ip.to_string()).ok()?;
        Some(Self {
            listener,
            ip,
            address,
            port,
            tls,
        })
    }

    /// As verified in the handshake.
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.tls.as_ref()?.client_certificate.as_ref()
    }
}
