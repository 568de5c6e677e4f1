//! Everything that needs a real apiserver, in one binary: Postern as a whole between real objects and real sockets.

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod outage;
mod traffic;
