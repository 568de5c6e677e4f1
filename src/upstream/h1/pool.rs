//! The idle HTTP/1.1 connections to one endpoint. Each watches its own idle time; taking one and its giving up are one atomic step, so
//! that a request never gets a connection that Postern itself is closing.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::body::request::{ClientBody, Sent};
use crate::net::stream::Stream;
use crate::runtime::Traffic;
use crate::upstream::endpoint::{EndpointState, IDLE_LIMIT, Open};
use crate::upstream::gauge::GaugeGuard;
use crate::upstream::tls::UpstreamTls;

/// Connections kept per endpoint.
const MAX_IDLE: usize = 256;

#[derive(Debug, Default)]
pub struct Pool(Mutex<Vec<PooledConnection>>);

/// A connection to the app, in use or idle.
#[derive(Debug)]
struct PooledConnection {
    sender: SendRequest<ClientBody>,
    /// The settings of its TLS handshake; None in plaintext.
    tls: Option<Arc<UpstreamTls>>,
    state: Arc<ConnectionState>,
    gauge: GaugeGuard,
}

/// One connection in use by one exchange. Dropping it closes the connection; `release` puts it back.
#[derive(Debug)]
pub struct Lease {
    /// None once it was put back: then somebody else may use it.
    connection: Option<PooledConnection>,
    open: Open,
    request: Option<Arc<Sent>>,
    reusable: bool,
    pub reused: bool,
}

/// The state that a connection's task and its user share: busy, idle or closed, and since when.
#[derive(Debug)]
struct ConnectionState {
    phase: AtomicU8,
    /// Milliseconds after `born`.
    idle_since: AtomicU64,
    idle_limit: AtomicU64,
    born: Instant,
    task: AtomicWaker,
}

const BUSY: u8 = 0;
const IDLE: u8 = 1;
const CLOSED: u8 = 2;

impl Pool {
    /// An idle connection that is still open and whose TLS is `tls`, the latest used first.
    fn take(&self, tls: Option<&Arc<UpstreamTls>>) -> Option<PooledConnection> {
        loop {
            let mut connections = self.lock();
            // One that was put back a moment ago may not be ready yet: its task has still to say so.
            let ready = connections
                .iter()
                .rposition(|connection| connection.sender.is_ready() && connection.has_tls(tls))?;
            let connection = connections.remove(ready);
            drop(connections);
            if connection.state.take() {
                return Some(connection);
            }
            connection.state.close();
        }
    }

    fn put(&self, connection: PooledConnection) {
        let mut connections = self.lock();
        // Looked at under the lock: what closes later finds itself here, and is swept.
        if connections.len() < MAX_IDLE && connection.state.phase.load(Ordering::Acquire) == IDLE {
            connections.push(connection);
        } else {
            connection.state.close();
        }
    }

    /// Takes out what has closed.
    fn sweep(&self) {
        self.lock()
            .retain(|connection| connection.state.phase.load(Ordering::Relaxed) == IDLE);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PooledConnection>> {
        self.0.lock()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lock().iter().for_each(|connection| connection.state.close());
    }
}

impl Lease {
    /// Takes an idle connection into use.
    pub fn reuse(open: Open, tls: Option<&Arc<UpstreamTls>>, traffic: &Arc<Traffic>) -> Result<Self, Open> {
        match open.endpoint().pool.take(tls) {
            Some(mut connection) => {
                connection.gauge.activate(traffic);
                Ok(Self::new(connection, open, true))
            }
            None => Err(open),
        }
    }

    /// Takes a fresh connection into use, and spawns the task that drives it.
    pub fn of(
        sender: SendRequest<ClientBody>,
        connection: Connection<TokioIo<Stream>, ClientBody>,
        open: Open,
        tls: Option<&Arc<UpstreamTls>>,
        traffic: &Arc<Traffic>,
    ) -> Self {
        let state = Arc::new(ConnectionState::new());
        tokio::spawn(drive(connection, state.clone(), Arc::downgrade(open.endpoint())));
        let gauge = GaugeGuard::active(traffic);
        let connection = PooledConnection {
            sender,
            tls: tls.cloned(),
            state,
            gauge,
        };
        Self::new(connection, open, false)
    }

    fn new(connection: PooledConnection, open: Open, reused: bool) -> Self {
        Self {
            connection: Some(connection),
            open,
            request: None,
            reusable: true,
            reused,
        }
    }

    /// None only after `release`.
    pub fn sender(&mut self, request: Arc<Sent>) -> Option<&mut SendRequest<ClientBody>> {
        self.request = Some(request);
        self.connection.as_mut().map(|connection| &mut connection.sender)
    }

    /// The answer's framing is doubtful: nothing may follow it on this connection.
    pub fn forbid_reuse(&mut self) {
        self.reusable = false;
    }

    /// The app said how long it keeps an idle connection: `Keep-Alive: timeout=N`.
    pub fn keep_alive(&self, timeout: Duration) {
        if let Some(connection) = &self.connection {
            let limit = timeout.saturating_sub(Duration::from_secs(1)).min(IDLE_LIMIT);
            connection
                .state
                .idle_limit
                .store(limit.as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// The answer has ended. A request that has not ended with it leaves the connection unusable.
    pub fn release(mut self) {
        let request = self.request.take();
        let whole = request.is_some_and(|request| request.whole.load(Ordering::Relaxed));
        if self.reusable
            && whole
            && let Some(mut connection) = self.connection.take_if(|connection| connection.is_reusable())
        {
            connection.gauge.rest();
            connection.state.rest();
            self.open.endpoint().pool.put(connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.state.close();
        }
    }
}

impl PooledConnection {
    /// Another Deployment's client certificate, or one that was replaced, is another connection's.
    fn has_tls(&self, tls: Option<&Arc<UpstreamTls>>) -> bool {
        match (&self.tls, tls) {
            (None, None) => true,
            (Some(own), Some(wanted)) => Arc::ptr_eq(own, wanted) || own == wanted,
            _ => false,
        }
    }

    fn is_reusable(&self) -> bool {
        self.state.idle_limit.load(Ordering::Relaxed) > 0 && !self.sender.is_closed()
    }
}

impl ConnectionState {
    fn new() -> Self {
        Self {
            phase: AtomicU8::new(BUSY),
            idle_since: AtomicU64::new(0),
            idle_limit: AtomicU64::new(IDLE_LIMIT.as_millis() as u64),
            born: Instant::now(),
            task: AtomicWaker::new(),
        }
    }

    fn rest(&self) {
        self.idle_since
            .store(self.born.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.phase.store(IDLE, Ordering::Release);
    }

    fn take(&self) -> bool {
        // The task looks at its clock only every few seconds; the app may have closed by what it said.
        self.due() > Instant::now()
            && self
                .phase
                .compare_exchange(IDLE, BUSY, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    fn close(&self) {
        self.phase.store(CLOSED, Ordering::Release);
        self.task.wake();
    }

    /// When to look again; None: it was idle for too long and is now closed.
    fn check(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.phase.load(Ordering::Acquire) != IDLE {
            return Some(now + IDLE_LIMIT);
        }
        let due = self.due();
        if due > now {
            return Some(due);
        }
        let given_up = self
            .phase
            .compare_exchange(IDLE, CLOSED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        (!given_up).then(|| now + IDLE_LIMIT)
    }

    fn due(&self) -> Instant {
        let millis = self.idle_since.load(Ordering::Relaxed) + self.idle_limit.load(Ordering::Relaxed);
        self.born + Duration::from_millis(millis)
    }
}

/// Drives one connection until it ends, is given up by its user, or has been idle for too long.
async fn drive(
    connection: Connection<TokioIo<Stream>, ClientBody>,
    state: Arc<ConnectionState>,
    endpoint: Weak<EndpointState>,
) {
    let mut connection = pin!(connection);
    let mut tick = pin!(tokio::time::sleep(IDLE_LIMIT));
    let mut unset = true;
    poll_fn(|cx| {
        state.task.register(cx.waker());
        if state.phase.load(Ordering::Acquire) == CLOSED || Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Polled once, it has the task's waker; polling it again would only cost.
        let look = std::mem::take(&mut unset) || tick.is_elapsed();
        while look && tick.as_mut().poll(cx).is_ready() {
            match state.check() {
                Some(next) => tick.as_mut().reset(next),
                None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    })
    .await;
    state.phase.store(CLOSED, Ordering::Release);
    if let Some(endpoint) = endpoint.upgrade() {
        endpoint.pool.sweep();
    }
}
