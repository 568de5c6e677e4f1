//! One open socket as the rest of Postern knows it: identified, metered, and told to end. The bytes are the tunnel's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use strum::VariantArray;

use super::deployment_state::DeploymentState;
use crate::runtime::traffic::ClosedBy;

/// Shared by the tunnel and the registry. It stays small: there is one for each of a hundred thousand sockets.
#[derive(Debug)]
pub struct Socket {
    id: u64,
    opened: Instant,
    ending: AtomicBool,
    /// A `ClosedBy`, once one is known.
    closed_by: AtomicU8,
    bytes_to_app: AtomicU64,
    bytes_to_client: AtomicU64,
    tunnel: AtomicWaker,
    /// Whose socket it is.
    pub(super) deployment: Arc<DeploymentState>,
}

/// How a socket has ended.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// From the app's 101 to the end.
    pub open: Duration,
    /// Bytes from the client.
    pub bytes_to_app: u64,
    /// Bytes from the app.
    pub bytes_to_client: u64,
    /// Who ended it first.
    pub by: ClosedBy,
}

/// Counts the bytes of one direction.
#[derive(Clone, Copy)]
pub struct Meter<'a> {
    own: &'a AtomicU64,
    all: &'a AtomicU64,
}

const STILL_OPEN: u8 = u8::MAX;

impl Socket {
    /// Opened now, by nobody's word closed.
    pub(super) fn new(deployment: Arc<DeploymentState>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            opened: Instant::now(),
            ending: AtomicBool::new(false),
            closed_by: AtomicU8::new(STILL_OPEN),
            bytes_to_app: AtomicU64::new(0),
            bytes_to_client: AtomicU64::new(0),
            tunnel: AtomicWaker::new(),
            deployment,
        }
    }

    /// Unique in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Tells the tunnel to end: FIN both ways, then a short read to the end.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.tunnel.wake();
    }

    /// Whether `end` was called; if not yet, `waker` will hear of it.
    pub(super) fn is_ending(&self, waker: &Waker) -> bool {
        self.tunnel.register(waker);
        self.ending.load(Ordering::Acquire)
    }

    /// Counts for the socket and its Deployment.
    pub(super) fn to_app(&self) -> Meter<'_> {
        Meter {
            own: &self.bytes_to_app,
            all: &self.deployment.traffic.socket_bytes_to_app,
        }
    }

    /// Counts for the socket and its Deployment.
    pub(super) fn to_client(&self) -> Meter<'_> {
        Meter {
            own: &self.bytes_to_client,
            all: &self.deployment.traffic.socket_bytes_to_client,
        }
    }

    /// The first word counts.
    pub(super) fn note_closed_by(&self, by: ClosedBy) {
        let _ = self
            .closed_by
            .compare_exchange(STILL_OPEN, by as u8, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How it has ended. Without a word about who ended it the tunnel never began: the client was gone before its 101.
    pub(super) fn closed(&self) -> Closed {
        let by = usize::from(self.closed_by.load(Ordering::Relaxed));
        Closed {
            open: self.opened.elapsed(),
            bytes_to_app: self.bytes_to_app.load(Ordering::Relaxed),
            bytes_to_client: self.bytes_to_client.load(Ordering::Relaxed),
            by: ClosedBy::VARIANTS.get(by).copied().unwrap_or(ClosedBy::Client),
        }
    }
}

impl Meter<'_> {
    /// Called by the tunnel alone: it does not count right from two tasks at once.
    pub fn add(self, bytes: usize) {
        let bytes = bytes as u64;
        // The tunnel alone writes it.
        self.own
            .store(self.own.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }
}
