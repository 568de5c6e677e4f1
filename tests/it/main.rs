//! Everything that needs no cluster, in one binary. Most of it meets Postern as its users do: the binary on a folder of
//! manifests, with real sockets on both sides.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "tests panic when they fail"
)]

#[path = "../support/mod.rs"]
mod support;

#[macro_use]
mod over;

mod access_log;
mod balance;
mod browser;
mod challenge;
mod chart;
mod cli;
mod client_tls;
mod compile;
mod dial;
mod docs;
mod edits;
mod errors;
mod examples;
mod floors;
mod generated;
mod h2c;
mod headers;
mod http;
mod http2;
mod hygiene;
mod image;
mod loops;
mod metrics;
mod misdirected;
mod observability;
mod plaintext;
mod policy;
mod probes;
mod rotation;
mod scan;
mod shared_limits;
mod shutdown;
mod tenants;
mod timeouts;
mod tls;
mod tls_abuse;
mod traces;
mod trust;
mod upgrade;
mod upstream;
mod upstream_tls;
mod walls;
mod websocket;
mod websocket_h2;
mod wss;
