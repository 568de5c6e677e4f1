//! TLS on both legs. What it goes by (certificates, authorities, versions) is the snapshot's; here it becomes handshakes.

pub mod certificate;
pub mod roots;

pub use certificate::{Authorities, Certificate, Fingerprint};

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

/// Sessions that one configuration keeps to resume, for all the servers that it is used with.
const SESSIONS: usize = 64;

/// The cryptography of every handshake.
pub fn provider() -> Arc<CryptoProvider> {
    // The process' own; a test that has none installs none.
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}

/// How Postern meets a server that speaks HTTP/1.1 over TLS: by these authorities, and with this certificate if the server
/// asks for one.
pub fn client_config(
    roots: Arc<RootCertStore>,
    certificate: Option<&Certificate>,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match certificate {
        Some(certificate) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certificate.key.clone())))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}
