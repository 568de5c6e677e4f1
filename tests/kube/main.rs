//! Everything that needs a real apiserver, in one binary: Postern as a whole between real objects and real sockets.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "tests panic when they fail"
)]

#[path = "../support/mod.rs"]
mod support;

mod acme;
mod chart;
mod cluster;
mod crd_rules;
mod leader;
mod link;
mod outage;
mod pebble;
mod policy;
mod rights;
mod saved_state;
mod status;
mod tls;
mod traffic;
mod watch;
