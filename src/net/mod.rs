//! Sockets and byte streams, below HTTP and TLS.

pub mod client_network;
pub mod proxy_protocol;
pub mod socket;
pub mod stream;
