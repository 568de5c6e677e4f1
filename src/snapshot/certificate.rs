//! Certificates and what else TLS needs of the configuration: parsed, comparable, and printed without their secrets.

use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use serde::Serialize;

use crate::runtime::Lazy;
use crate::tls::{Authorities, Certificate};

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

/// Client certificates of a hostname or of a route.
#[derive(Debug, PartialEq, Serialize)]
pub struct ClientTls {
    pub authorities: Arc<Authorities>,
    pub mode: ClientTlsMode,
    /// Made of the above at the first handshakes: a flood of them is not to make it anew each time.
    #[serde(skip)]
    pub configs: Lazy<ServerConfigs>,
}

/// By oldest version and by whether HTTP/2 is offered.
pub type ServerConfigs = [[OnceLock<Arc<ServerConfig>>; 2]; 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ClientTlsMode {
    Required,
    Optional,
}

impl HostTls {
    /// Nothing of its own.
    pub fn is_plain(&self) -> bool {
        self.certificates.is_empty() && self.client.is_none()
    }
}
