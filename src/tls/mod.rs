//! TLS on both legs. What it goes by (certificates, authorities, versions) is the snapshot's; here it becomes handshakes.

mod agreed;
pub mod client;
mod client_certificate;
pub mod server;

use std::sync::Arc;

pub use agreed::{Agreed, Identity};
pub use client_certificate::ClientCertificate;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub fn provider() -> Arc<CryptoProvider> {
    // The process' own; a test that has none installs none.
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}
