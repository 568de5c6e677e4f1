//! The authorities that the system trusts.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;

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
