//! How many streams and how much memory one HTTP/2 connection holds.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::io::Seen;
use crate::proxy::Proxy;
use crate::proxy::connections::{Serves, Waits};
use crate::proxy::peer::Peer;

/// What the streams of one connection share.
#[derive(Debug)]
pub(super) struct Shared {
    /// What it shares with all connections.
    pub(super) proxy: Arc<Proxy>,
    peer: Arc<Peer>,
    seen: Arc<Seen>,
    load: Mutex<Load>,
}

/// What is open on a connection.
#[derive(Debug)]
pub(super) struct Load {
    requests: usize,
    sockets: usize,
    /// Since when it has had neither, if it has neither.
    idle_since: Instant,
    /// Whether the connection lives.
    pub(super) open: bool,
    counted: Option<TaskTrackerToken>,
}

/// One stream's share in its connection's load.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    is_socket: bool,
}

impl Shared {
    /// No stream yet: the connection is idle from now on.
    pub(super) fn new(peer: Arc<Peer>, proxy: Arc<Proxy>, seen: Arc<Seen>) -> Self {
        let load = Load {
            requests: 0,
            sockets: 0,
            idle_since: Instant::now(),
            open: true,
            counted: Some(proxy.unfinished.token()),
        };
        Self {
            proxy,
            peer,
            seen,
            load: Mutex::new(load),
        }
    }

    /// Changes the load; then notes since when it is idle, and whether a drain waits for it.
    pub(super) fn change(&self, change: impl FnOnce(&mut Load)) {
        let mut load = self.lock();
        change(&mut load);
        if load.requests + load.sockets == 0 {
            load.idle_since = Instant::now();
        }
        match (load.counted.is_some(), load.is_counted()) {
            (false, true) => load.counted = Some(self.proxy.unfinished.token()),
            (true, false) => load.counted = None,
            _ => {}
        }
    }

    /// Held for a few instructions, never across a wait.
    pub(super) fn lock(&self) -> MutexGuard<'_, Load> {
        self.load.lock()
    }
}

impl Serves for Shared {
    fn waits(&self) -> Option<Waits> {
        let load = self.lock();
        if load.sockets > 0 {
            return None;
        }
        match (load.idle_since(), self.seen.stalled()) {
            (_, Some(time)) => Some(Waits::Stalled(time)),
            (Some(since), None) => Some(Waits::Idle(since.elapsed())),
            (None, None) => None,
        }
    }
}

impl Load {
    /// Whether a drain waits for the connection. Not for one that carries nothing but sockets: these are counted themselves.
    fn is_counted(&self) -> bool {
        self.open && (self.requests > 0 || self.sockets == 0)
    }

    /// None: a request or a socket is open.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.requests + self.sockets == 0).then_some(self.idle_since)
    }
}

impl Place {
    /// Counts a request on the connection until it is dropped.
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        shared.change(|load| load.requests += 1);
        Self {
            shared: shared.clone(),
            is_socket: false,
        }
    }

    /// The connection's.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.shared.proxy
    }

    /// The connection's.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.shared.peer
    }

    /// Once, when the answer has begun.
    pub fn is_answered_now(&self) {
        self.shared.seen.answers.fetch_add(1, Relaxed);
    }

    /// Once, when the request has become a socket: a drain no longer waits for it.
    pub fn is_socket_now(&mut self) {
        self.is_socket = true;
        self.shared.change(|load| {
            load.requests -= 1;
            load.sockets += 1;
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let is_socket = self.is_socket;
        self.shared.change(|load| match is_socket {
            true => load.sockets -= 1,
            false => load.requests -= 1,
        });
    }
}
