//! Postern as its users meet it, without a cluster: the binary on a folder of manifests, real sockets on both sides.

#[path = "../support/mod.rs"]
mod support;

mod upgrade;
mod websocket;
