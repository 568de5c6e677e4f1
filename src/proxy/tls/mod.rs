//! The accepting side of TLS: which certificate a handshake gets, and what it agreed on.

mod agreed;
mod client_certificate;
pub mod server;

pub use agreed::{Agreed, Identity};
pub use client_certificate::ClientCertificate;
