//! Where the next attempt goes: a connection that is open, or endpoint after endpoint, each dialled at most once.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::Forward;
use crate::proxy::request_log::Attempted;
use crate::reason::Reason;
use crate::runtime::traffic::DialResult;
use crate::upstream::balance;
use crate::upstream::connection::{Connection, Dialer};
use crate::upstream::descriptor::Descriptor;
use crate::upstream::dial::KERNEL_LIMIT;
use crate::upstream::endpoint::Open;

/// How often a request is sent again after a shared connection that turned out to be on its way out.
const MAX_RESENDS: usize = 3;

/// The attempts of one request.
pub(super) struct Attempts<'t> {
    attempted: &'t mut Attempted,
    /// No endpoint is tried from then on.
    end: Instant,
    /// Indices of endpoints that were dialled.
    tried: Vec<usize>,
    /// To be dialled next, whatever the balance says by then.
    chosen: Option<(usize, Open)>,
    /// Whether an open connection will do.
    reuse: bool,
    resends: usize,
    /// What to answer when no endpoint is left.
    worst: Reason,
}

/// One endpoint's turn.
pub(super) struct Attempt {
    /// The endpoint's.
    pub(super) address: SocketAddr,
    /// Counts the request at its endpoint while it is held.
    pub(super) open: Open,
    /// How long the dial may take.
    pub(super) limit: Duration,
    /// What the connection takes of the machine.
    pub(super) descriptor: Descriptor,
}

impl Attempts<'_> {
    /// Prepares another attempt after one that failed on a connection, which may be `shared` with other requests.
    pub(super) fn again(&mut self, shared: bool) -> Result<(), Reason> {
        // Where one idle connection had closed, the others in its pool may have closed too. A shared one that takes no more
        // requests is known not to.
        self.reuse = shared;
        if self.reuse {
            if self.resends == MAX_RESENDS {
                return Err(Reason::BadGateway);
            }
            self.resends += 1;
        }
        if self.end <= Instant::now() {
            Err(self.worst)
        } else {
            Ok(())
        }
    }
}

impl Forward<'_> {
    /// Attempts until `deadline`, and within the budget.
    pub(super) fn attempts<'t>(&self, deadline: Instant, attempted: &'t mut Attempted) -> Attempts<'t> {
        let budget = self.deployment.timeouts.dial_budget.unwrap_or(KERNEL_LIMIT);
        Attempts {
            attempted,
            end: deadline.min(Instant::now() + budget),
            tried: Vec::new(),
            chosen: None,
            reuse: true,
            resends: 0,
            worst: Reason::Unreachable,
        }
    }

    /// An open connection, or a fresh one.
    pub(super) async fn connect(&self, attempts: &mut Attempts<'_>) -> Result<Connection, Reason> {
        if attempts.reuse {
            let (index, open) = self.choose(attempts)?;
            attempts.attempted.endpoint = Some(self.upstream.endpoints[index].address);
            match self.dialer().reuse(open) {
                Ok(connection) => return Ok(connection),
                // The balance holds: the one that was chosen is dialled first.
                Err(open) => attempts.chosen = Some((index, open)),
            }
        }
        // Boxed, since most requests find an open connection.
        Box::pin(self.open(attempts)).await
    }

    async fn open(&self, attempts: &mut Attempts<'_>) -> Result<Connection, Reason> {
        let dialer = self.dialer();
        let connection = self
            .dial(attempts, |attempt| {
                dialer.open(attempt.open, attempt.address, attempt.limit, attempt.descriptor)
            })
            .await?;
        if connection.is_reused() {
            // Not dialled after all: its endpoint may come again.
            attempts.tried.pop();
        } else if connection.is_shared() {
            // An endpoint that takes nothing on a fresh connection is tried no more.
            attempts.worst = Reason::BadGateway;
        }
        Ok(connection)
    }

    /// Calls `dial` for endpoint after endpoint until it connects.
    pub(super) async fn dial<T, F>(&self, attempts: &mut Attempts<'_>, dial: impl Fn(Attempt) -> F) -> Result<T, Reason>
    where
        F: Future<Output = Result<T, DialResult>>,
    {
        loop {
            let (address, attempt) = self.next_attempt(attempts)?;
            let dialled = match attempt {
                Ok(attempt) => dial(attempt).await,
                Err(full) => Err(full),
            };
            match dialled {
                Ok(connected) => return Ok(connected),
                Err(result) => self.note_failure(attempts, address, result)?,
            }
        }
    }

    /// For connections to this upstream, counted for this Deployment.
    pub(super) fn dialer(&self) -> Dialer<'_> {
        Dialer {
            upstream: self.upstream,
            tls: self.upstream_tls,
            traffic: &self.deployment.runtime.get().traffic,
        }
    }

    /// The inner error: the machine has nothing left for a connection there.
    fn next_attempt(&self, attempts: &mut Attempts<'_>) -> Result<(SocketAddr, Result<Attempt, DialResult>), Reason> {
        let (index, open) = match attempts.chosen.take() {
            Some(chosen) => chosen,
            None => self.choose(attempts)?,
        };
        let left = attempts.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(attempts.worst);
        }
        attempts.tried.push(index);
        let address = self.upstream.endpoints[index].address;
        attempts.attempted.endpoint = Some(address);
        let limit = left.min(self.deployment.timeouts.connect.unwrap_or(KERNEL_LIMIT));
        let descriptors = &self.client.proxy.state.app_connections;
        let descriptor = Descriptor::take(descriptors, self.deployment.id.namespace(), &open.endpoint().ports);
        if let Err(full) = &descriptor {
            self.dialer().traffic.dials[*full as usize].fetch_add(1, Relaxed);
        }
        let attempt = descriptor.map(|descriptor| Attempt {
            address,
            open,
            limit,
            descriptor,
        });
        Ok((address, attempt))
    }

    /// The balance's choice among the endpoints that were not dialled yet.
    fn choose(&self, attempts: &Attempts<'_>) -> Result<(usize, Open), Reason> {
        let index = balance::choose_endpoint(self.deployment.strategy, self.upstream, &attempts.tried);
        let index = index.ok_or(attempts.worst)?;
        Ok((index, Open::at(self.upstream.endpoints[index].runtime.get())))
    }

    fn note_failure(&self, attempts: &mut Attempts<'_>, address: SocketAddr, result: DialResult) -> Result<(), Reason> {
        match result {
            DialResult::NoDescriptors => return Err(Reason::Overloaded),
            // Only this endpoint's address: another one may have ports left.
            DialResult::NoPorts => attempts.worst = Reason::Overloaded,
            // Something answers there, but nothing to be trusted with a request.
            DialResult::TlsFailed => attempts.worst = Reason::BadGateway,
            _ => {}
        }
        let (deployment, result) = (&self.deployment.id.key, result.label());
        tracing::debug!(%deployment, %address, result, "cannot reach endpoint");
        Ok(())
    }
}
