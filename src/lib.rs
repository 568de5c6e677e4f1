//! Postern: an ingress controller for Kubernetes that takes long-lived connections seriously.
//!
//! Data flows one way:
//!
//! ```text
//! kube-apiserver ──watch──┐
//!                         ├─► store ─► compile ─► Snapshot ─► Live ─► proxy ─► pod endpoints
//! manifest files ──watch──┘             (pure)       └─► Report ─► status writer (leader), Events, `postern check`
//! ```
//!
//! `compile` is a pure function; `publish` swaps its result in one atomic step; a request reads one `Live` from
//! beginning to end. What must outlive a change of configuration (counts, pools, sockets) stands beside the part that it
//! belongs to, is joined to a snapshot by a `runtime::Slot`, and is found by `live::State`.
//!
//! A part names parts of lower floors alone: ARCHITECTURE.md has the floors, `tests/it/floors.rs` holds them.

// To see that a connection's future is Send, the compiler looks through all that h2 is made of.
#![recursion_limit = "256"]

pub mod acme;
pub mod admin;
pub mod api;
pub mod app;
pub mod body;
pub mod cli;
pub mod compile;
pub mod condition;
pub mod config;
pub mod egress;
pub mod fields;
pub mod hostname;
pub mod limits;
pub mod live;
pub mod matching;
pub mod metrics;
pub mod net;
pub mod object;
pub mod policy;
pub mod proxy;
pub mod publish;
pub mod reason;
pub mod runtime;
pub mod saved_state;
pub mod snapshot;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod tls;
pub mod upstream;
pub mod watch;
pub mod websocket;
