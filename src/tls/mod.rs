//! TLS on both legs. What it goes by (certificates, authorities, versions) is the snapshot's; here it becomes handshakes.

pub mod client_certificate;
pub mod server;
