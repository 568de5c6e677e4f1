//! One open socket as the rest of Postern knows it: counted, listed, and told to end. The bytes are the tunnel's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use strum::VariantArray;

use super::registry;
use crate::policy::connection_limit::Lease;
use crate::proxy::telling::Witness;
use crate::runtime::Traffic;
use crate::runtime::traffic::ClosedBy;
use crate::upstream::endpoint::Open;

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
    deployment: Arc<registry::Deployment>,
}

/// The tunnel's hold on its socket: while it lives the socket is registered and counted as open.
#[derive(Debug)]
pub struct Registered {
    socket: Arc<Socket>,
    /// Counts it at its endpoint.
    _open: Open,
}

/// Counts the bytes of one direction.
#[derive(Clone, Copy)]
pub struct Meter<'a> {
    own: &'a AtomicU64,
    all: &'a AtomicU64,
}

const STILL_OPEN: u8 = u8::MAX;

impl Socket {
    /// From the moment the app has accepted the handshake.
    pub fn open(deployment: &Arc<registry::Deployment>, open: Open) -> Registered {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let socket = Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            opened: Instant::now(),
            ending: AtomicBool::new(false),
            closed_by: AtomicU8::new(STILL_OPEN),
            bytes_to_app: AtomicU64::new(0),
            bytes_to_client: AtomicU64::new(0),
            tunnel: AtomicWaker::new(),
            deployment: deployment.clone(),
        });
        deployment.traffic.sockets_open.fetch_add(1, Ordering::Relaxed);
        deployment.traffic.sockets_opened.fetch_add(1, Ordering::Relaxed);
        deployment.register(socket.clone());
        Registered { socket, _open: open }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// Tells the tunnel to end: FIN both ways, then a short read to the end.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.tunnel.wake();
    }
}

impl Registered {
    /// What counts it where rules limit how many there may be.
    pub fn hold(&self, leases: Vec<Lease>) {
        self.socket.deployment.hold(self.socket.id, leases);
    }

    /// Who is told when it has ended.
    pub fn tell(&self, witness: Witness) {
        self.socket.deployment.tell(self.socket.id, witness);
    }

    /// Whether `end` was called; if not yet, `waker` will hear of it.
    pub fn is_ending(&self, waker: &Waker) -> bool {
        self.socket.tunnel.register(waker);
        self.socket.ending.load(Ordering::Acquire)
    }

    fn traffic(&self) -> &Traffic {
        &self.socket.deployment.traffic
    }

    pub fn to_app(&self) -> Meter<'_> {
        Meter {
            own: &self.socket.bytes_to_app,
            all: &self.traffic().socket_bytes_to_app,
        }
    }

    pub fn to_client(&self) -> Meter<'_> {
        Meter {
            own: &self.socket.bytes_to_client,
            all: &self.traffic().socket_bytes_to_client,
        }
    }

    /// Who ended it; the first word counts.
    pub fn closed_by(&self, by: ClosedBy) {
        let _ = self
            .socket
            .closed_by
            .compare_exchange(STILL_OPEN, by as u8, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Meter<'_> {
    pub fn add(self, bytes: usize) {
        let bytes = bytes as u64;
        // The tunnel alone writes it.
        self.own
            .store(self.own.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let traffic = self.traffic();
        let by = usize::from(self.socket.closed_by.load(Ordering::Relaxed));
        // Without a word the tunnel never began: the client was gone before its 101.
        let by = ClosedBy::VARIANTS.get(by).copied().unwrap_or(ClosedBy::Client);
        let open = self.socket.opened.elapsed();
        traffic.sockets_closed[by as usize].fetch_add(1, Ordering::Relaxed);
        traffic.sockets_open.fetch_sub(1, Ordering::Relaxed);
        traffic.socket_duration.observe(open);
        if let Some(witness) = self.socket.deployment.deregister(self.socket.id) {
            let bytes = [&self.socket.bytes_to_app, &self.socket.bytes_to_client];
            let [to_app, to_client] = bytes.map(|bytes| bytes.load(Ordering::Relaxed));
            witness.closed(open, (to_app, to_client), by);
        }
        self.socket.deployment.ended();
    }
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
