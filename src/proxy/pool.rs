//! Idle connections to one endpoint. Each watches its own idle time; taking one and its giving up are one atomic step, so
//! that a request never gets a connection that Postern itself is closing.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::body::{ClientBody, Sent};
use crate::state;
use crate::state::endpoint::Open;

/// Below the keep-alive timeout of the servers at large (Node 5 s): so that it is Postern that closes first.
pub const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// Connections kept per endpoint.
const MAX_IDLE: usize = 256;

#[derive(Debug, Default)]
pub struct Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    sender: SendRequest<ClientBody>,
    life: Arc<Life>,
    /// Counts it as idle for the Deployment that used it last.
    _counted: Counted,
}

/// One connection in use by one exchange. Dropping it closes the connection; `release` puts it back.
#[derive(Debug)]
pub struct Lease {
    sender: Option<SendRequest<ClientBody>>,
    life: Arc<Life>,
    open: Open,
    deployment: Arc<state::Deployment>,
    request: Option<Arc<Sent>>,
    reusable: bool,
    pub reused: bool,
    _counted: Counted,
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

#[derive(Debug)]
struct Counted {
    deployment: Arc<state::Deployment>,
    idle: bool,
}

impl Pool {
    /// An idle connection that still lives, the latest used first.
    pub fn take(&self, open: Open, deployment: &Arc<state::Deployment>) -> Result<Lease, Open> {
        loop {
            let popped = self.lock().pop();
            let Some(idle) = popped else { return Err(open) };
            if idle.life.take() && idle.sender.is_ready() {
                return Ok(Lease::new(idle.sender, idle.life, open, deployment, true));
            }
            idle.life.close();
        }
    }

    fn put(&self, idle: Idle) {
        let mut connections = self.lock();
        if connections.len() < MAX_IDLE {
            connections.push(idle);
        } else {
            idle.life.close();
        }
    }

    /// Takes out what has closed.
    fn sweep(&self) {
        self.lock()
            .retain(|idle| idle.life.phase.load(Ordering::Relaxed) == IDLE);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lock().iter().for_each(|idle| idle.life.close());
    }
}

impl Lease {
    /// Takes a fresh connection into use, and spawns the task that drives it.
    pub fn of(
        sender: SendRequest<ClientBody>,
        connection: Connection<TokioIo<TcpStream>, ClientBody>,
        open: Open,
        deployment: &Arc<state::Deployment>,
    ) -> Self {
        let life = Arc::new(Life::new());
        tokio::spawn(drive(connection, life.clone(), Arc::downgrade(open.endpoint())));
        Self::new(sender, life, open, deployment, false)
    }

    fn new(
        sender: SendRequest<ClientBody>,
        life: Arc<Life>,
        open: Open,
        deployment: &Arc<state::Deployment>,
        reused: bool,
    ) -> Self {
        Self {
            sender: Some(sender),
            life,
            open,
            deployment: deployment.clone(),
            request: None,
            reusable: true,
            reused,
            _counted: Counted::new(deployment, false),
        }
    }

    /// None only after `release`.
    pub fn sender(&mut self, request: Arc<Sent>) -> Option<&mut SendRequest<ClientBody>> {
        self.request = Some(request);
        self.sender.as_mut()
    }

    /// The answer's framing is doubtful: nothing may follow it on this connection.
    pub fn forbid_reuse(&mut self) {
        self.reusable = false;
    }

    /// The app said how long it keeps an idle connection: `Keep-Alive: timeout=N`.
    pub fn keep_alive(&self, timeout: Duration) {
        let limit = timeout.saturating_sub(Duration::from_secs(1)).min(IDLE_LIMIT);
        self.life.idle_limit.store(limit.as_millis() as u64, Ordering::Relaxed);
    }

    /// The answer has ended. A request that has not ended with it leaves the connection unusable.
    pub fn release(mut self) {
        let whole = self
            .request
            .as_ref()
            .is_some_and(|request| request.whole.load(Ordering::Relaxed));
        let limit = self.life.idle_limit.load(Ordering::Relaxed);
        if let Some(sender) = self.sender.take()
            && self.reusable
            && whole
            && limit > 0
            && !sender.is_closed()
        {
            self.life.rest();
            let counted = Counted::new(&self.deployment, true);
            self.open.endpoint().pool.put(Idle {
                sender,
                life: self.life.clone(),
                _counted: counted,
            });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Still BUSY: not put back, so nobody will use it again.
        if self
            .life
            .phase
            .compare_exchange(BUSY, CLOSED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            self.life.task.wake();
        }
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
        // The task looks at its clock only now and then; the app may have closed by what it said.
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
    fn new(deployment: &Arc<state::Deployment>, idle: bool) -> Self {
        let counted = Self {
            deployment: deployment.clone(),
            idle,
        };
        counted.gauge().fetch_add(1, Ordering::Relaxed);
        counted
    }

    fn gauge(&self) -> &std::sync::atomic::AtomicI64 {
        let traffic = &self.deployment.traffic;
        if self.idle {
            &traffic.connections_idle
        } else {
            &traffic.connections_active
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
    connection: Connection<TokioIo<TcpStream>, ClientBody>,
    life: Arc<Life>,
    endpoint: Weak<state::Endpoint>,
) {
    let mut connection = pin!(connection);
    let mut tick = pin!(tokio::time::sleep(IDLE_LIMIT));
    poll_fn(|cx| {
        life.task.register(cx.waker());
        if life.phase.load(Ordering::Acquire) == CLOSED || Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while tick.as_mut().poll(cx).is_ready() {
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
