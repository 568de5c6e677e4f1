//! What one client connection is for all of its requests.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFuture;

use super::Proxy;
use super::connections::{Serves, Waits};
use super::peer::Peer;
use super::permit::UpgradePermit;
use crate::body::clock::{Clock, Phase};
use crate::websocket::deployment_state::Registered;
use crate::websocket::tunnel::Opening;

/// What bounds a connection's pauses, and tells it to finish; it is there from the first moment to the last.
pub struct Bounds<'a, 'p> {
    /// Runs out when a pause has lasted too long.
    pub tick: Pin<&'a mut Sleep>,
    /// Resolves when connections are to finish.
    pub draining: Pin<&'a mut WaitForCancellationFuture<'p>>,
}

/// What the requests of one connection share.
#[derive(Debug)]
pub struct Client {
    /// What it shares with all connections.
    pub proxy: Arc<Proxy>,
    /// Whom the connection is from.
    pub peer: Arc<Peer>,
    /// What its pauses are measured by.
    pub clock: Arc<Clock>,
    /// The place in line that the first request, if it is an upgrade, already has.
    permit: Mutex<Option<UpgradePermit>>,
    /// Where an accepted upgrade leaves the app's half until the client's is free.
    opening: Mutex<Option<Opening>>,
    /// Whether the last write found the socket full.
    pub(super) write_blocked: AtomicBool,
}

impl Client {
    /// `permit`: what the first request has waited for, if it was seen to be an upgrade.
    pub fn new(proxy: Arc<Proxy>, peer: Arc<Peer>, permit: Option<UpgradePermit>) -> Self {
        let keep_alive = proxy.listener().keep_alive_timeout;
        Self {
            proxy,
            peer,
            clock: Arc::new(Clock::new(keep_alive)),
            permit: Mutex::new(permit),
            opening: Mutex::default(),
            write_blocked: AtomicBool::new(false),
        }
    }

    /// The permit of the first request; None: it was not seen to be an upgrade, or another request was the first.
    pub fn take_permit(&self) -> Option<UpgradePermit> {
        self.permit.lock().take()
    }

    /// Leaves an accepted upgrade for when the client has been told.
    pub fn open_socket(&self, opening: Opening) {
        *self.opening.lock() = Some(opening);
    }

    /// What is to be known of the socket before the client has it, if there is one.
    pub fn with_socket(&self, say: impl FnOnce(&Registered)) {
        if let Some(opening) = &*self.opening.lock() {
            say(&opening.socket);
        }
    }

    /// The upgrade that waits for the client's half; None: there is none.
    pub fn take_opening(&self) -> Option<Opening> {
        self.opening.lock().take()
    }
}

impl Serves for Client {
    fn waits(&self) -> Option<Waits> {
        let (phase, time) = self.clock.phase();
        match (phase, self.write_blocked.load(Relaxed)) {
            (Phase::Idle | Phase::Sending, true) => Some(Waits::Stalled(time)),
            (Phase::Idle, false) => Some(Waits::Idle(time)),
            // Not between the app's 101 and the client's.
            (Phase::Head, false) if self.opening.lock().is_none() => Some(Waits::Idle(time)),
            _ => None,
        }
    }
}
