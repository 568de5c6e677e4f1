//! Handshakes with apps: by whose authorities and by which name an app is verified, and what Postern shows of itself. How
//! long a handshake may take is `proxy::dial`'s. `egress` meets other servers in the same way.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::snapshot::{UpstreamKey, UpstreamTls};

/// Sessions kept to be resumed, of all the Services that one `UpstreamTls` is for.
const SESSIONS: usize = 64;

/// What an app is met with.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a> {
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

/// For servers that are no apps.
pub fn by_system_authorities() -> Result<ClientConfig, rustls::Error> {
    make(&UpstreamTls::default())
}

fn make(tls: &UpstreamTls) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(super::provider()).with_safe_default_protocol_versions()?;
    let roots = match &tls.authorities {
        Some(authorities) => authorities.roots.clone(),
        None => system_roots(),
    };
    let builder = builder.with_root_certificates(roots);
    let mut config = match &tls.client_certificate {
        Some(certificate) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certificate.key.clone())))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

/// Read once: where `SSL_CERT_FILE` and `SSL_CERT_DIR` say, or where systems at large have them.
pub fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            let mut roots = RootCertStore::empty();
            let (added, unusable) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                let errors = found.errors;
                tracing::warn!(
                    ?errors,
                    "the system trusts no certificate authority: apps over TLS need upstreamTls.caRef"
                );
            } else {
                tracing::debug!(added, unusable, "read the system's authorities");
            }
            Arc::new(roots)
        })
        .clone()
}
