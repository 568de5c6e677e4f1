//! One Service port and the endpoints that answer for it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde::{Serialize, Serializer};

use super::Slot;
use crate::state;

/// The stable identity of an upstream: counts and pools follow it through every change of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamKey {
    pub namespace: Arc<str>,
    pub service: Arc<str>,
    /// The Service port's number.
    pub port: u16,
}

/// What is spoken to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Protocol {
    Http1,
    /// HTTP/2 by prior knowledge; upgrades go as HTTP/1.1 all the same.
    H2c,
    /// HTTP/1.1 over TLS.
    Https,
}

/// Where new requests and sockets may go: the ready endpoints or, if there is none, those serving while terminating.
#[derive(Debug, PartialEq, Serialize)]
pub struct Upstream {
    pub key: UpstreamKey,
    pub protocol: Protocol,
    /// Where RoundRobin stands; it may start anew with a new list of endpoints.
    #[serde(skip)]
    pub rotation: Slot<AtomicUsize>,
    /// Sorted by address, without duplicates. Empty: 503 no_ready_endpoint.
    pub endpoints: Box<[Endpoint]>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    #[serde(skip)]
    pub runtime: Slot<state::Endpoint>,
}

impl fmt::Display for UpstreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)
    }
}

impl Serialize for UpstreamKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
