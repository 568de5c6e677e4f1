//! The open sockets of one Deployment: listed, counted, and ended together.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::socket::{Meter, Socket};
use crate::runtime::Traffic;
use crate::runtime::shrink::shrink;
use crate::runtime::traffic::ClosedBy;
use crate::upstream::endpoint::Open;

/// It outlives every snapshot: a change of configuration closes no socket.
#[derive(Debug)]
pub struct Registry {
    traffic: Arc<Traffic>,
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
    closed: bool,
}

/// Called once, when the socket has ended.
pub type OnClose = Box<dyn FnOnce(Closed) + Send>;

/// How a socket has ended.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    pub open: Duration,
    pub bytes_to_app: u64,
    pub bytes_to_client: u64,
    pub by: ClosedBy,
}

/// The tunnel's hold on its socket: while it lives the socket is registered and counted as open.
#[derive(Debug)]
pub struct Registered {
    registry: Arc<Registry>,
    socket: Arc<Socket>,
    /// Counts it at its endpoint.
    _open: Open,
}

impl Registry {
    pub fn new(traffic: Arc<Traffic>) -> Self {
        Self {
            traffic,
            sockets: Mutex::default(),
            emptied: Notify::new(),
        }
    }

    /// Registers a new socket, from the moment the app has accepted the handshake.
    pub fn open(self: &Arc<Self>, open: Open) -> Registered {
        let socket = Arc::new(Socket::new());
        self.traffic.sockets_open.fetch_add(1, Ordering::Relaxed);
        self.traffic.sockets_opened.fetch_add(1, Ordering::Relaxed);
        let mut sockets = self.lock();
        if sockets.closed {
            socket.end();
        }
        sockets.open.insert(socket.id(), socket.clone());
        drop(sockets);
        Registered {
            registry: self.clone(),
            socket,
            _open: open,
        }
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

    /// How many sockets are open.
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().open.is_empty()
    }

    /// Resolves once no socket is open.
    pub async fn emptied(&self) {
        let mut emptied = pin!(self.emptied.notified());
        // From now on it hears of an end that comes before it is waited for.
        emptied.as_mut().enable();
        if !self.is_empty() {
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
    /// Sets what is to be done when the socket has ended.
    pub fn on_close(&self, action: OnClose) {
        self.registry.lock().on_close.insert(self.socket.id(), action);
    }

    /// Whether `end` was called; if not yet, `waker` will hear of it.
    pub fn is_ending(&self, waker: &Waker) -> bool {
        self.socket.is_ending(waker)
    }

    pub fn to_app(&self) -> Meter<'_> {
        self.socket.to_app(&self.registry.traffic)
    }

    pub fn to_client(&self) -> Meter<'_> {
        self.socket.to_client(&self.registry.traffic)
    }

    /// Who ended it; the first word counts.
    pub fn closed_by(&self, by: ClosedBy) {
        self.socket.closed_by(by);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let traffic = &self.registry.traffic;
        let closed = self.socket.closed();
        traffic.sockets_closed[closed.by as usize].fetch_add(1, Ordering::Relaxed);
        traffic.sockets_open.fetch_sub(1, Ordering::Relaxed);
        traffic.socket_duration.observe(closed.open);
        if let Some(on_close) = self.registry.deregister(self.socket.id()) {
            on_close(closed);
        }
        // Last: who waits for the end of all goes on when everything that an end brings about is done.
        if self.registry.is_empty() {
            self.registry.emptied.notify_waiters();
        }
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets")
            .field("open", &self.open)
            .field("closed", &self.closed)
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
