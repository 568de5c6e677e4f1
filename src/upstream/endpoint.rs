//! What belongs to one address of one upstream while any snapshot, request or socket refers to it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::descriptor::Ports;
use super::h1::pool::Pool;
use super::h2::shared::Connections;

/// How long an idle connection is kept. Below the keep-alive timeout of common servers (Node.js: 5 s), so that Postern is the
/// side that closes.
pub const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// What outlives each snapshot of an endpoint: connections, and what is under way on them.
#[derive(Debug, Default)]
pub struct EndpointState {
    /// Requests and sockets under way: what LeastConnections compares.
    open: AtomicUsize,
    /// Connections that are open, idle or not: each has a local port to itself.
    pub ports: Ports,
    /// Idle HTTP/1.1 connections, closed when nothing refers to the endpoint any more.
    pub pool: Pool,
    /// HTTP/2 connections, idle or not.
    pub streams: Connections,
}

/// One request or socket under way at an endpoint.
#[derive(Debug)]
pub struct Open(Arc<EndpointState>);

impl EndpointState {
    /// Requests and sockets that are under way now, at this replica.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }
}

impl Open {
    /// Counts one more, until this is dropped.
    pub fn at(endpoint: &Arc<EndpointState>) -> Self {
        endpoint.open.fetch_add(1, Relaxed);
        Self(endpoint.clone())
    }

    /// Where it is counted.
    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
