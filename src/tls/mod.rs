//! TLS on both legs. What it goes by (certificates, authorities, versions) is the snapshot's; here it becomes handshakes.

pub mod certificate;
pub mod roots;

pub use certificate::{Authorities, Certificate, Fingerprint};

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub fn provider() -> Arc<CryptoProvider> {
    // The process' own; a test that has none installs none.
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}
