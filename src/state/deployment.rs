//! What belongs to one Deployment object while it is configured or has requests or sockets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::Traffic;
use crate::websocket::socket::Socket;

/// Handshakes with the app that one Deployment may have under way. A handshake costs ten times the memory of the socket that
/// it becomes, and the allocator does not give it back: unbounded, a reconnect storm would leave its memory behind.
/// The bound is the Deployment's own, so that an app that does not answer delays nobody else's sockets.
const UPGRADES_IN_FLIGHT: usize = 128;

#[derive(Debug)]
pub struct Deployment {
    pub traffic: Traffic,
    pub upgrades: Arc<Semaphore>,
    sockets: Mutex<HashMap<u64, Arc<Socket>>>,
}

impl Deployment {
    pub(crate) fn register(&self, socket: Arc<Socket>) {
        self.lock().insert(socket.id(), socket);
    }

    pub(crate) fn deregister(&self, id: u64) {
        let mut sockets = self.lock();
        sockets.remove(&id);
        // A storm's table is not kept for the few that stay.
        if sockets.capacity() > 64 && sockets.len() < sockets.capacity() / 8 {
            sockets.shrink_to_fit();
        }
    }

    /// The sockets that are open now.
    pub fn sockets(&self) -> Vec<Arc<Socket>> {
        self.lock().values().cloned().collect()
    }

    pub fn socket_count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Socket>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Deployment {
    fn default() -> Self {
        Self {
            traffic: Traffic::default(),
            upgrades: Arc::new(Semaphore::new(UPGRADES_IN_FLIGHT)),
            sockets: Mutex::default(),
        }
    }
}
