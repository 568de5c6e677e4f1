//! Certificates and what else TLS needs of the configuration: parsed, comparable, and printed without their secrets.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Serialize, Serializer};

use super::{HostName, Slot};
use crate::store::ObjectKey;
use crate::text::Hex;

/// SHA-256 over everything that a part was made of: equal parts are the same part.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A chain and its private key, out of one Secret.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    pub secret: ObjectKey,
    /// The DNS names that the leaf is for.
    pub names: Box<[HostName]>,
    /// In Unix seconds.
    pub not_after: i64,
    pub fingerprint: Fingerprint,
    #[serde(skip)]
    pub key: Arc<CertifiedKey>,
}

/// How the clients of a hostname are met.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostTls {
    /// The hostname's own, of several kinds of key; the handshake takes the first that the client can verify. Empty: a
    /// covering default, else the self-signed one.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub certificates: Box<[Arc<Certificate>]>,
    /// Whether clients must or may show a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Arc<ClientTls>>,
}

/// Certificates of authorities.
#[derive(Serialize)]
pub struct Authorities {
    pub source: ObjectKey,
    pub fingerprint: Fingerprint,
    #[serde(skip)]
    pub roots: Arc<RootCertStore>,
}

/// Client certificates of a hostname or of a route.
#[derive(Debug, PartialEq, Serialize)]
pub struct ClientTls {
    pub authorities: Arc<Authorities>,
    pub mode: ClientTlsMode,
    /// Made of the above at the first handshakes: a flood of them is not to make it anew each time.
    #[serde(skip)]
    pub configs: Slot<ServerConfigs>,
}

/// By oldest version and by whether HTTP/2 is offered.
pub type ServerConfigs = [[OnceLock<Arc<ServerConfig>>; 2]; 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ClientTlsMode {
    Required,
    Optional,
}

/// How the app is met where its Service's port speaks TLS.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTls {
    /// None: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Arc<Authorities>>,
    /// None: `<service>.<namespace>.svc`.
    #[serde(serialize_with = "server_name", skip_serializing_if = "Option::is_none")]
    pub server_name: Option<ServerName<'static>>,
    /// What Postern shows of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<Arc<Certificate>>,
    /// Made of the above at the first dial: the system's authorities are not the snapshot's to know.
    #[serde(skip)]
    pub config: OnceLock<Arc<ClientConfig>>,
}

impl HostTls {
    /// Nothing of its own.
    pub fn is_plain(&self) -> bool {
        self.certificates.is_empty() && self.client.is_none()
    }
}

impl UpstreamTls {
    /// Nothing but defaults.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
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

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        self.authorities == other.authorities
            && self.server_name == other.server_name
            && self.client_certificate == other.client_certificate
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

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("authorities", &self.authorities)
            .field("server_name", &self.server_name)
            .field("client_certificate", &self.client_certificate)
            .finish_non_exhaustive()
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

fn server_name<S: Serializer>(name: &Option<ServerName<'static>>, to: S) -> Result<S::Ok, S::Error> {
    name.as_ref().map(ServerName::to_str).serialize(to)
}
