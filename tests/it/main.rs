//! Postern as its users meet it, without a cluster: the binary on a folder of manifests, real sockets on both sides.

#[path = "../support/mod.rs"]
mod support;

mod balance;
mod dial;
mod edits;
mod errors;
mod headers;
mod http;
mod hygiene;
mod shutdown;
mod upgrade;
mod websocket;
