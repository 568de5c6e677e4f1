//! Who a connection is from and how it came: known when its first request begins, the same for all of them.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::snapshot::{ClientTls, Snapshot};
use crate::store::ObjectKey;

#[derive(Debug)]
pub struct Peer {
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
    pub fn new(ip: IpAddr, port: HeaderValue, tls: Option<Agreed>) -> Option<Self> {
        let ip = ip.to_canonical();
        let address = HeaderValue::try_from(ip.to_string()).ok()?;
        Some(Self { ip, address, port, tls })
    }
}

/// What a connection's TLS handshake went by.
#[derive(Debug)]
pub struct Agreed {
    /// Lower case, without trailing dot.
    pub server_name: Option<Arc<str>>,
    pub identity: Identity,
    pub client: Option<Arc<ClientTls>>,
    /// The client's certificate as X-Forwarded-Client-Cert tells of it.
    pub client_certificate: Option<HeaderValue>,
}

/// As whom Postern showed itself. By the Secrets' names: a renewed certificate is the same identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Box<[ObjectKey]>);

impl Identity {
    /// `host`: empty for a client that named none.
    pub fn of(snapshot: &Snapshot, host: &str) -> Self {
        Self(Self::secrets(snapshot, host).cloned().collect())
    }

    pub fn is_of(&self, snapshot: &Snapshot, host: &str) -> bool {
        self.0.iter().eq(Self::secrets(snapshot, host))
    }

    fn secrets<'a>(snapshot: &'a Snapshot, host: &str) -> impl Iterator<Item = &'a ObjectKey> {
        let unnamed = host.is_empty().then_some(&snapshot.default_certificates);
        let unnamed = unnamed.into_iter().flat_map(|defaults| defaults.iter());
        unnamed
            .chain(snapshot.certificates(host))
            .map(|certificate| &certificate.secret)
    }
}
