//! Idle connections to one endpoint. Each watches its own idle time; taking one and its giving up are one atomic step, so
//! that a request never gets a connection that Postern itself is closing.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::endpoint::{self, Open};
use super::tls::UpstreamTls;
use crate::body::request::{ClientBody, Sent};
use crate::net::stream::Stream;
use crate::runtime::Traffic;

/// Below the keep-alive timeout of the servers at large (Node 5 s): so that it is Postern that closes first.
pub const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// Connections kept per endpoint.
const MAX_IDLE: usize = 256;

#[derive(Debug, Default)]
pub struct Pool(Mutex<Vec<Link>>);

/// A connection to the app, in use or idle.
#[derive(Debug)]
struct Link {
    sender: SendRequest<ClientBody>,
    /// What its handshake went by; None: in plaintext.
    tls: Option<Arc<UpstreamTls>>,
    life: Arc<Life>,
    counted: Counted,
}

/// One connection in use by one exchange. Dropping it closes the connection; `release` puts it back.
#[derive(Debug)]
pub struct Lease {
    /// None once it was put back: then somebody else may use it.
    link: Option<Link>,
    open: Open,
    request: Option<Arc<Sent>>,
    reusable: bool,
    pub reused: bool,
}

/// What the connection's task and its user agree by.
#[derive(Debug)]
struct Life {
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

/// Stands in a Deployment's gauge of active or of idle connections.
#[derive(Debug)]
pub struct Counted {
    traffic: Arc<Traffic>,
    idle: bool,
}

impl Pool {
    /// An idle connection that still lives and goes by the same `tls`, the latest used first.
    pub fn take(&self, open: Open, tls: Option<&Arc<UpstreamTls>>, traffic: &Arc<Traffic>) -> Result<Lease, Open> {
        loop {
            let mut links = self.lock();
            // One that was put back a moment ago may not be ready yet: its task has still to say so.
            let ready = links
                .iter()
                .rposition(|link| link.sender.is_ready() && link.goes_by(tls));
            let taken = ready.map(|index| links.remove(index));
            drop(links);
            let Some(mut link) = taken else {
                return Err(open);
            };
            if link.life.take() {
                link.counted.activate(traffic);
                return Ok(Lease::new(link, open, true));
            }
            link.life.close();
        }
    }

    fn put(&self, link: Link) {
        let mut links = self.lock();
        // Looked at under the lock: what closes later finds itself here, and is swept.
        if links.len() < MAX_IDLE && link.life.phase.load(Ordering::Acquire) == IDLE {
            links.push(link);
        } else {
            link.life.close();
        }
    }

    /// Takes out what has closed.
    fn sweep(&self) {
        self.lock()
            .retain(|link| link.life.phase.load(Ordering::Relaxed) == IDLE);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Link>> {
        self.0.lock()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lock().iter().for_each(|link| link.life.close());
    }
}

impl Lease {
    /// Takes a fresh connection into use, and spawns the task that drives it.
    pub fn of(
        sender: SendRequest<ClientBody>,
        connection: Connection<TokioIo<Stream>, ClientBody>,
        open: Open,
        tls: Option<&Arc<UpstreamTls>>,
        traffic: &Arc<Traffic>,
    ) -> Self {
        let life = Arc::new(Life::new());
        tokio::spawn(drive(connection, life.clone(), Arc::downgrade(open.endpoint())));
        let counted = Counted::active(traffic);
        let link = Link {
            sender,
            tls: tls.cloned(),
            life,
            counted,
        };
        Self::new(link, open, false)
    }

    fn new(link: Link, open: Open, reused: bool) -> Self {
        Self {
            link: Some(link),
            open,
            request: None,
            reusable: true,
            reused,
        }
    }

    /// None only after `release`.
    pub fn sender(&mut self, request: Arc<Sent>) -> Option<&mut SendRequest<ClientBody>> {
        self.request = Some(request);
        self.link.as_mut().map(|link| &mut link.sender)
    }

    /// The answer's framing is doubtful: nothing may follow it on this connection.
    pub fn forbid_reuse(&mut self) {
        self.reusable = false;
    }

    /// The app said how long it keeps an idle connection: `Keep-Alive: timeout=N`.
    pub fn keep_alive(&self, timeout: Duration) {
        if let Some(link) = &self.link {
            let limit = timeout.saturating_sub(Duration::from_secs(1)).min(IDLE_LIMIT);
            link.life.idle_limit.store(limit.as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// The answer has ended. A request that has not ended with it leaves the connection unusable.
    pub fn release(mut self) {
        let request = self.request.take();
        let whole = request.is_some_and(|request| request.whole.load(Ordering::Relaxed));
        if self.reusable
            && whole
            && let Some(mut link) = self.link.take_if(|link| link.is_reusable())
        {
            link.counted.rest();
            link.life.rest();
            self.open.endpoint().pool.put(link);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.life.close();
        }
    }
}

impl Link {
    /// Another Deployment's client certificate, or one that was replaced, is another connection's.
    fn goes_by(&self, tls: Option<&Arc<UpstreamTls>>) -> bool {
        match (&self.tls, tls) {
            (None, None) => true,
            (Some(own), Some(wanted)) => Arc::ptr_eq(own, wanted) || own == wanted,
            _ => false,
        }
    }

    fn is_reusable(&self) -> bool {
        self.life.idle_limit.load(Ordering::Relaxed) > 0 && !self.sender.is_closed()
    }
}

impl Life {
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

impl Counted {
    pub fn active(traffic: &Arc<Traffic>) -> Self {
        traffic.connections_active.fetch_add(1, Ordering::Relaxed);
        Self {
            traffic: traffic.clone(),
            idle: false,
        }
    }

    pub fn activate(&mut self, traffic: &Arc<Traffic>) {
        *self = Self::active(traffic);
    }

    pub fn rest(&mut self) {
        self.gauge().fetch_sub(1, Ordering::Relaxed);
        self.idle = true;
        self.gauge().fetch_add(1, Ordering::Relaxed);
    }

    fn gauge(&self) -> &AtomicI64 {
        if self.idle {
            &self.traffic.connections_idle
        } else {
            &self.traffic.connections_active
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Drives one connection until it ends, is given up by its user, or has been idle for too long.
async fn drive(
    connection: Connection<TokioIo<Stream>, ClientBody>,
    life: Arc<Life>,
    endpoint: Weak<endpoint::Endpoint>,
) {
    let mut connection = pin!(connection);
    let mut tick = pin!(tokio::time::sleep(IDLE_LIMIT));
    let mut unset = true;
    poll_fn(|cx| {
        life.task.register(cx.waker());
        if life.phase.load(Ordering::Acquire) == CLOSED || Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Polled once, it has the task's waker; polling it again would only cost.
        let look = std::mem::take(&mut unset) || tick.is_elapsed();
        while look && tick.as_mut().poll(cx).is_ready() {
            match life.check() {
                Some(next) => tick.as_mut().reset(next),
                None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    })
    .await;
    life.phase.store(CLOSED, Ordering::Release);
    if let Some(endpoint) = endpoint.upgrade() {
        endpoint.pool.sweep();
    }
}
