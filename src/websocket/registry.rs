//! What belongs to one Deployment object while it is configured or has requests or sockets.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore};

use super::socket::Socket;
use crate::policy::connection_limit::Lease;
use crate::proxy::telling::Witness;
use crate::runtime::Traffic;
use crate::runtime::shrink::shrink;

/// Handshakes with the app that one Deployment may have under way. A handshake costs ten times the memory of the socket that
/// it becomes, and the allocator does not give it back: unbounded, a reconnect storm would leave its memory behind.
/// The bound is the Deployment's own, so that an app that does not answer delays nobody else's sockets.
const UPGRADES_IN_FLIGHT: usize = 64;

#[derive(Debug)]
pub struct Deployment {
    pub traffic: Traffic,
    pub upgrades: Arc<Semaphore>,
    sockets: Mutex<Sockets>,
    /// Notified when no socket is open any more.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Sockets {
    open: HashMap<u64, Arc<Socket>>,
    /// Of those that are counted by rules which limit how many there may be.
    leases: HashMap<u64, Vec<Lease>>,
    /// Of those that are to be told of at their end.
    witnesses: HashMap<u64, Box<Witness>>,
    /// Deleted or Stopped: a handshake that was under way then ends as soon as it is a socket.
    closed: bool,
}

impl Deployment {
    pub(crate) fn register(&self, socket: Arc<Socket>) {
        let mut sockets = self.lock();
        if sockets.closed {
            socket.end();
        }
        sockets.open.insert(socket.id(), socket);
    }

    /// Leases are given back when the socket is deregistered.
    pub(crate) fn hold(&self, id: u64, leases: Vec<Lease>) {
        if !leases.is_empty() {
            self.lock().leases.insert(id, leases);
        }
    }

    pub(crate) fn tell(&self, id: u64, witness: Witness) {
        self.lock().witnesses.insert(id, Box::new(witness));
    }

    /// Returns who is to be told that it has ended.
    pub(crate) fn deregister(&self, id: u64) -> Option<Box<Witness>> {
        let (leases, witness) = {
            let mut sockets = self.lock();
            take(&mut sockets.open, id);
            (take(&mut sockets.leases, id), take(&mut sockets.witnesses, id))
        };
        drop(leases);
        witness
    }

    /// From now on no socket is to stay; returns those that are open, for the caller to end.
    pub fn close(&self) -> Vec<Arc<Socket>> {
        let mut sockets = self.lock();
        sockets.closed = true;
        sockets.open.values().cloned().collect()
    }

    pub fn reopen(&self) {
        self.lock().closed = false;
    }

    pub fn socket_count(&self) -> usize {
        self.lock().open.len()
    }

    /// To be called when all that a socket's end brings about is done: who waits for the last one goes on then.
    pub(crate) fn ended(&self) {
        if self.socket_count() == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// Resolves once no socket is open.
    pub async fn emptied(&self) {
        let mut emptied = pin!(self.emptied.notified());
        // From now on it hears of an end that comes before it is waited for.
        emptied.as_mut().enable();
        if self.socket_count() > 0 {
            emptied.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock()
    }
}

impl Default for Deployment {
    fn default() -> Self {
        Self {
            traffic: Traffic::default(),
            upgrades: Arc::new(Semaphore::new(UPGRADES_IN_FLIGHT)),
            sockets: Mutex::default(),
            emptied: Notify::new(),
        }
    }
}

fn take<T>(table: &mut HashMap<u64, T>, id: u64) -> Option<T> {
    let taken = table.remove(&id);
    shrink(table);
    taken
}
