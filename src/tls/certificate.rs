//! Certificates and authorities as a snapshot holds them: parsed, comparable, without secrets in their printed form.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use serde::{Serialize, Serializer};

use crate::hostname::HostName;
use crate::object::ObjectKey;
use crate::text::Hex;

/// SHA-256 over everything that a part was made of: equal parts are the same part.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A chain and its private key, out of one Secret.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Where it stands in the cluster.
    pub secret: ObjectKey,
    /// The DNS names that the leaf is for.
    pub names: Box<[HostName]>,
    /// In Unix seconds.
    pub not_after: i64,
    /// Of the chain and the key.
    pub fingerprint: Fingerprint,
    /// What handshakes use: the chain, and the key that signs.
    #[serde(skip)]
    pub key: Arc<CertifiedKey>,
}

/// Certificates of authorities.
#[derive(Serialize)]
pub struct Authorities {
    /// The Secret or ConfigMap that they are from.
    pub source: ObjectKey,
    /// Of the certificates.
    pub fingerprint: Fingerprint,
    /// What chains must lead to.
    #[serde(skip)]
    pub roots: Arc<RootCertStore>,
}

impl Certificate {
    /// By a name of its own, or by a wildcard for the first label; a wildcard hostname needs the same wildcard.
    pub fn covers(&self, host: &HostName) -> bool {
        self.names.iter().any(|name| match host {
            HostName::Exact(host) => name.covers(host),
            HostName::Wildcard(_) => name == host,
        })
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret && self.fingerprint == other.fingerprint
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.fingerprint == other.fingerprint
    }
}

// By hand, so that no key is ever printed.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, {})", self.secret, self.fingerprint)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({}, {})", self.source, self.fingerprint)
    }
}

impl Fingerprint {
    /// Over each part with its length, so that no two lists of parts read the same.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.finish().into()
    }
}

/// The digest is one of SHA-256.
impl From<Digest> for Fingerprint {
    fn from(digest: Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
