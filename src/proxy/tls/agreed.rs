//! What a connection's TLS handshake went by, for as long as the connection lasts: requests are held against it.

use std::sync::Arc;

use super::client_certificate::ClientCertificate;
use crate::object::ObjectKey;
use crate::snapshot::{ClientTls, ListenerKey, Snapshot};

/// One handshake's outcome.
#[derive(Debug)]
pub struct Agreed {
    /// Lower case, without trailing dot.
    pub server_name: Option<Arc<str>>,
    /// The certificates that its client was shown.
    pub identity: Identity,
    /// The rule by which it was asked for a certificate; None: it was not.
    pub client: Option<Arc<ClientTls>>,
    /// What it showed and Postern verified; None: nothing.
    pub client_certificate: Option<ClientCertificate>,
}

/// As whom Postern showed itself. By the Secrets' names: a renewed certificate is the same identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Box<[ObjectKey]>);

impl Identity {
    /// `host`: empty for a client that named none.
    pub fn of(snapshot: &Snapshot, listener: ListenerKey, host: &str) -> Self {
        Self(Self::secrets(snapshot, listener, host).cloned().collect())
    }

    /// Whether a client of `host` would be shown the same by this snapshot.
    pub fn is_of(&self, snapshot: &Snapshot, listener: ListenerKey, host: &str) -> bool {
        self.0.iter().eq(Self::secrets(snapshot, listener, host))
    }

    fn secrets<'a>(snapshot: &'a Snapshot, listener: ListenerKey, host: &str) -> impl Iterator<Item = &'a ObjectKey> {
        let unnamed = host.is_empty().then_some(&snapshot.default_certificates);
        let unnamed = unnamed.into_iter().flat_map(|defaults| defaults.iter());
        unnamed
            .chain(snapshot.certificates(listener, host))
            .map(|certificate| &certificate.secret)
    }
}
