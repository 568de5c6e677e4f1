//! Handshakes with apps: by whose authorities and by which name an app is verified, and what Postern shows of itself. How
//! long a handshake may take is `upstream::dial`'s. `egress` meets other servers in the same way.

use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::{Serialize, Serializer};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::object::UpstreamKey;
use crate::tls::roots::system_roots;
use crate::tls::{Authorities, Certificate, client_config};

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

impl UpstreamTls {
    /// Nothing but defaults.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        self.authorities == other.authorities
            && self.server_name == other.server_name
            && self.client_certificate == other.client_certificate
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

fn server_name<S: Serializer>(name: &Option<ServerName<'static>>, to: S) -> Result<S::Ok, S::Error> {
    name.as_ref().map(ServerName::to_str).serialize(to)
}

/// What an app is met with.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a> {
    /// Authorities, client certificate and expected name.
    pub tls: &'a UpstreamTls,
    /// Whose name is expected where `tls` says none.
    pub service: &'a UpstreamKey,
}

impl Upstream<'_> {
    /// Takes as long as the app does: to be bounded by the caller.
    pub async fn connect(self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(config(self.tls)?);
        connector.connect(self.server_name()?, stream).await
    }

    fn server_name(self) -> io::Result<ServerName<'static>> {
        if let Some(name) = &self.tls.server_name {
            return Ok(name.clone());
        }
        let name = format!("{}.{}.svc", self.service.service, self.service.namespace);
        ServerName::try_from(name).map_err(io::Error::other)
    }
}

fn config(tls: &UpstreamTls) -> io::Result<Arc<ClientConfig>> {
    if let Some(config) = tls.config.get() {
        return Ok(config.clone());
    }
    let made = Arc::new(make(tls).map_err(io::Error::other)?);
    // Made twice at once, the first stays: its sessions are resumed by all.
    Ok(tls.config.get_or_init(|| made).clone())
}

fn make(tls: &UpstreamTls) -> Result<ClientConfig, rustls::Error> {
    let roots = match &tls.authorities {
        Some(authorities) => authorities.roots.clone(),
        None => system_roots(),
    };
    client_config(roots, tls.client_certificate.as_deref())
}
