//! One Service port and the endpoints that answer for it.

pub mod balance;
pub mod connection;
pub mod descriptor;
pub mod dial;
pub mod endpoint;
pub mod error;
mod gauge;
mod h1;
mod h2;
pub mod tls;

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use serde::Serialize;

use crate::object::UpstreamKey;
use crate::runtime::{Lazy, Slot};

/// What is spoken to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// HTTP/1.1 in plaintext.
    Http1,
    /// HTTP/2 by prior knowledge; upgrades go as HTTP/1.1 all the same.
    H2c,
    /// HTTP/1.1 over TLS.
    Https,
}

/// Where new requests and sockets may go: the ready endpoints or, if there is none, those serving while terminating.
#[derive(Debug, PartialEq, Serialize)]
pub struct Upstream {
    /// The Service and its port.
    pub key: UpstreamKey,
    /// The same for all its endpoints.
    pub protocol: Protocol,
    /// Where RoundRobin stands; it may start anew with a new list of endpoints.
    #[serde(skip)]
    pub rotation: Lazy<AtomicUsize>,
    /// Sorted by address, without duplicates. Empty: 503 no_ready_endpoint.
    pub endpoints: Box<[Endpoint]>,
}

/// One address behind a Service port.
#[derive(Debug, PartialEq, Serialize)]
pub struct Endpoint {
    /// A pod's, as a rule.
    pub address: SocketAddr,
    /// Connections and counts, which outlive snapshots.
    #[serde(skip)]
    pub runtime: Slot<endpoint::EndpointState>,
}
