//! The idle HTTP/1.1 connections to one endpoint, and the leases by which requests use them. Each connection is driven by a
//! task of its own, which also watches how long it is idle. What a connection goes through, and how its task and its user
//! agree on it, is `idle`'s.

mod idle;
mod sync;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::body::request::{ClientBody, Sent};
use crate::net::stream::Stream;
use crate::runtime::Traffic;
use crate::upstream::endpoint::{EndpointState, IDLE_LIMIT, Open};
use crate::upstream::gauge::GaugeGuard;
use crate::upstream::tls::UpstreamTls;
use idle::{ConnectionState, IdleList, Kept, Look};

#[derive(Debug, Default)]
pub struct Pool(IdleList<PooledConnection>);

/// A connection to the app, in use or idle.
#[derive(Debug)]
struct PooledConnection {
    sender: SendRequest<ClientBody>,
    /// The settings of its TLS handshake; None in plaintext.
    tls: Option<Arc<UpstreamTls>>,
    gauge: GaugeGuard,
}

/// One connection in use by one exchange. Dropping it closes the connection; `release` puts it back.
#[derive(Debug)]
pub struct Lease {
    /// None once it was put back: then somebody else may use it.
    kept: Option<Kept<PooledConnection>>,
    open: Open,
    request: Option<Arc<Sent>>,
    reusable: bool,
    pub reused: bool,
}

impl Lease {
    /// Takes an idle connection into use.
    pub fn reuse(open: Open, tls: Option<&Arc<UpstreamTls>>, traffic: &Arc<Traffic>) -> Result<Self, Open> {
        // One that was put back a moment ago may not be ready yet: its task has still to say so.
        let fits = |connection: &PooledConnection| connection.sender.is_ready() && connection.has_tls(tls);
        match open.endpoint().pool.0.take(Instant::now(), fits) {
            Some(mut kept) => {
                kept.connection.gauge.activate(traffic);
                Ok(Self::new(kept, open, true))
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
        let state = Arc::new(ConnectionState::new(Instant::now(), IDLE_LIMIT));
        tokio::spawn(drive(connection, state.clone(), Arc::downgrade(open.endpoint())));
        let gauge = GaugeGuard::active(traffic);
        let connection = PooledConnection {
            sender,
            tls: tls.cloned(),
            gauge,
        };
        Self::new(Kept { connection, state }, open, false)
    }

    fn new(kept: Kept<PooledConnection>, open: Open, reused: bool) -> Self {
        Self {
            kept: Some(kept),
            open,
            request: None,
            reusable: true,
            reused,
        }
    }

    /// None only after `release`.
    pub fn sender(&mut self, request: Arc<Sent>) -> Option<&mut SendRequest<ClientBody>> {
        self.request = Some(request);
        self.kept.as_mut().map(|kept| &mut kept.connection.sender)
    }

    /// The answer's framing is doubtful: nothing may follow it on this connection.
    pub fn forbid_reuse(&mut self) {
        self.reusable = false;
    }

    /// The app said how long it keeps an idle connection: `Keep-Alive: timeout=N`.
    pub fn keep_alive(&self, timeout: Duration) {
        if let Some(kept) = &self.kept {
            let limit = timeout.saturating_sub(Duration::from_secs(1)).min(IDLE_LIMIT);
            kept.state.limit_idling(limit);
        }
    }

    /// The answer has ended. A request that has not ended with it leaves the connection unusable.
    pub fn release(mut self) {
        let request = self.request.take();
        let whole = request.is_some_and(|request| request.whole.load(Ordering::Relaxed));
        if self.reusable
            && whole
            && let Some(mut kept) = self.kept.take_if(|kept| is_reusable(kept))
        {
            kept.connection.gauge.rest();
            self.open.endpoint().pool.0.put(kept, Instant::now());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(kept) = &self.kept {
            kept.state.close();
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
}

fn is_reusable(kept: &Kept<PooledConnection>) -> bool {
    kept.state.may_idle() && !kept.connection.sender.is_closed()
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
        if state.poll_closed(cx) || Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Polled once, it has the task's waker; polling it again would only cost.
        let look = std::mem::take(&mut unset) || tick.is_elapsed();
        while look && tick.as_mut().poll(cx).is_ready() {
            match state.check(Instant::now()) {
                Look::Busy => tick.as_mut().reset(Instant::now() + IDLE_LIMIT),
                Look::Idle(due) => tick.as_mut().reset(due),
                Look::Closed => return Poll::Ready(()),
            }
        }
        Poll::Pending
    })
    .await;
    state.end();
    if let Some(endpoint) = endpoint.upgrade() {
        endpoint.pool.0.sweep();
    }
}

#[cfg(test)]
mod tests;
