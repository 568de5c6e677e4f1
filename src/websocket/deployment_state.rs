//! What belongs to one Deployment object while it is configured or has requests or sockets; its open sockets above all:
//! listed, counted, and ended together.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore};

use super::socket::{Closed, Meter, Socket};
use crate::net::stream::Held;
use crate::runtime::Traffic;
use crate::runtime::shrink::shrink;
use crate::runtime::traffic::ClosedBy;
use crate::upstream::endpoint::Open;

/// Handshakes with the app that one Deployment may have under way. A handshake costs ten times the memory of the socket that
/// it becomes, and the allocator does not give it back: unbounded, a reconnect storm would leave its memory behind.
/// The bound is the Deployment's own, so that an app that does not answer delays nobody else's sockets.
const UPGRADES_IN_FLIGHT: usize = 64;

/// It outlives every snapshot: a change of configuration closes no socket.
#[derive(Debug)]
pub struct DeploymentState {
    /// Counters of the Deployment.
    pub traffic: Arc<Traffic>,
    /// Permits for handshakes with the app.
    pub upgrades: Arc<Semaphore>,
    sockets: Mutex<Sockets>,
    /// Notified when no socket is open any more.
    emptied: Notify,
}

#[derive(Default)]
struct Sockets {
    open: HashMap<u64, Arc<Socket>>,
    /// What is to be done at a socket's end, by the socket's id: most sockets need none.
    on_close: HashMap<u64, OnClose>,
    /// Deleted or Stopped: a handshake that was under way then ends as soon as it is a socket.
    refused: bool,
}

/// Called once, when the socket has ended.
pub type OnClose = Box<dyn FnOnce(Closed) + Send>;

/// The tunnel's hold on its socket: while it lives the socket is registered and counted as open.
#[derive(Debug)]
pub struct Registered {
    socket: Arc<Socket>,
    /// Boxed: a tunnel is small.
    counted: Box<Counted>,
}

/// What counts a socket's two connections for as long as it is open.
#[derive(Debug)]
struct Counted {
    _at_endpoint: Open,
    _to_app: Option<Box<dyn Held>>,
    to_client: Option<Box<dyn Held>>,
}

impl Default for DeploymentState {
    fn default() -> Self {
        Self {
            traffic: Arc::default(),
            upgrades: Arc::new(Semaphore::new(UPGRADES_IN_FLIGHT)),
            sockets: Mutex::default(),
            emptied: Notify::new(),
        }
    }
}

impl DeploymentState {
    /// Registers a new socket, from the moment the app has accepted the handshake.
    pub fn open_socket(self: &Arc<Self>, at_endpoint: Open, to_app: Option<Box<dyn Held>>) -> Registered {
        let socket = Arc::new(Socket::new(self.clone()));
        self.traffic.sockets_open.fetch_add(1, Ordering::Relaxed);
        self.traffic.sockets_opened.fetch_add(1, Ordering::Relaxed);
        let mut sockets = self.lock();
        if sockets.refused {
            socket.end();
        }
        sockets.open.insert(socket.id(), socket.clone());
        drop(sockets);
        let counted = Counted {
            _at_endpoint: at_endpoint,
            _to_app: to_app,
            to_client: None,
        };
        Registered {
            socket,
            counted: Box::new(counted),
        }
    }

    /// From now on no socket is to stay; returns those that are open, for the caller to end.
    pub fn refuse_new_sockets(&self) -> Vec<Arc<Socket>> {
        let mut sockets = self.lock();
        sockets.refused = true;
        sockets.open.values().cloned().collect()
    }

    /// After `refuse_new_sockets`: sockets may open again.
    pub fn accept_new_sockets(&self) {
        self.lock().refused = false;
    }

    /// Sockets that are open now.
    pub fn socket_count(&self) -> usize {
        self.lock().open.len()
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

    fn deregister(&self, id: u64) -> Option<OnClose> {
        let mut sockets = self.lock();
        take(&mut sockets.open, id);
        take(&mut sockets.on_close, id)
    }

    fn lock(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock()
    }
}

impl Registered {
    /// Keeps what counts the client's connection, where that is the socket's alone.
    pub fn hold(&mut self, to_client: impl Held + 'static) {
        self.counted.to_client = Some(Box::new(to_client));
    }

    /// Sets what is to be done when the socket has ended.
    pub fn on_close(&self, action: OnClose) {
        self.socket.deployment.lock().on_close.insert(self.socket.id(), action);
    }

    /// Whether `end` was called; if not yet, `waker` will hear of it.
    pub fn is_ending(&self, waker: &Waker) -> bool {
        self.socket.is_ending(waker)
    }

    /// For the bytes from the client.
    pub fn to_app(&self) -> Meter<'_> {
        self.socket.to_app()
    }

    /// For the bytes from the app.
    pub fn to_client(&self) -> Meter<'_> {
        self.socket.to_client()
    }

    /// Who ended it; the first word counts.
    pub fn note_closed_by(&self, by: ClosedBy) {
        self.socket.note_closed_by(by);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let deployment = &self.socket.deployment;
        let traffic = &deployment.traffic;
        let closed = self.socket.closed();
        traffic.sockets_closed[closed.by as usize].fetch_add(1, Ordering::Relaxed);
        traffic.sockets_open.fetch_sub(1, Ordering::Relaxed);
        traffic.socket_duration.observe(closed.open);
        if let Some(on_close) = deployment.deregister(self.socket.id()) {
            on_close(closed);
        }
        // Last: who waits for the end of all goes on when everything that an end brings about is done.
        if deployment.socket_count() == 0 {
            deployment.emptied.notify_waiters();
        }
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets")
            .field("open", &self.open)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

fn take<T>(table: &mut HashMap<u64, T>, id: u64) -> Option<T> {
    let taken = table.remove(&id);
    shrink(table);
    taken
}

/// Ends these sockets one after the other, evenly over `window`: clients that come back do so a few at a time.
pub async fn end_spread(sockets: Vec<Arc<Socket>>, window: Duration) {
    let Ok(count) = u32::try_from(sockets.len()) else {
        return;
    };
    let start = tokio::time::Instant::now();
    for (nth, socket) in (0u32..).zip(sockets) {
        tokio::time::sleep_until(start + window * nth / count.max(1)).await;
        socket.end();
    }
}
