//! What all replicas count together, in a Redis (5 or later, or what speaks like it): rate limits whose scope is Shared, and
//! leases on open sockets. One round trip each, and never a long one: `link` says how a store that does not answer is kept
//! away from requests. What then happens to a request, and who is counted, is `policy`'s.
//!
//! Each call touches one key, named by a hash: what clients sent never gets there. The clock is the store's.

mod dial;
mod known;
mod leases;
mod link;
mod script;
mod settings;

pub use known::{Known, MAX_SHARED_KEYS};
pub use leases::Lease;
pub use settings::{DEADLINE, Store, Unavailable};

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{FromRedisValue, Value};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::windows::{Counters, Quota, Taken};
use leases::Leases;
use link::Link;
use script::Script;

/// The store, or that there is none: then whatever is asked of it is `Unavailable`. Needs a runtime with I/O and time; ends
/// its work when dropped.
#[derive(Debug, Default)]
pub struct Shared {
    store: Option<Running>,
    /// Calls that nothing came of.
    errors: Arc<AtomicU64>,
}

/// One request's way to the store: all its calls together wait no longer than one may.
#[derive(Debug)]
pub struct Visit<'a> {
    shared: &'a Shared,
    /// In nanoseconds.
    left: AtomicU64,
}

/// All replicas together have as many sockets as they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no socket is left")]
pub struct Full;

#[derive(Debug)]
struct Running {
    link: Arc<Link>,
    leases: Arc<Leases>,
    /// In this order: who uses the link ends before it does.
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Shared {
    /// Connects in the background, and again whenever it must.
    pub fn start(store: Store, errors: Arc<AtomicU64>) -> Self {
        let link = Arc::<Link>::default();
        let (leases, released) = Leases::new();
        let leases = Arc::new(leases);
        let tasks = [
            tokio::spawn(leases.clone().keep(released, link.clone())),
            tokio::spawn(link.clone().keep(store)),
        ];
        let store = Some(Running {
            link,
            leases,
            _tasks: tasks.map(AbortOnDropHandle::new),
        });
        Self { store, errors }
    }

    /// Counts what is asked for all the same.
    pub fn none(errors: Arc<AtomicU64>) -> Self {
        Self { store: None, errors }
    }

    /// Resolves when the store has answered; at once where there is none.
    pub async fn connected(&self) {
        if let Some(store) = &self.store {
            store.link.connected().await;
        }
    }

    /// For one request: `DEADLINE` is what all its calls may wait, in sum.
    pub fn visit(&self) -> Visit<'_> {
        self.visit_within(DEADLINE)
    }

    /// Like `visit`, with another deadline.
    pub fn visit_within(&self, patience: Duration) -> Visit<'_> {
        let left = AtomicU64::new(patience.as_nanos() as u64);
        Visit { shared: self, left }
    }

    fn counted<T>(&self, answer: Result<T, Unavailable>) -> Result<T, Unavailable> {
        answer.inspect_err(|Unavailable| _ = self.errors.fetch_add(1, Relaxed))
    }
}

impl Visit<'_> {
    /// Takes the quota's cost from what the key has left at all replicas together.
    pub async fn take(&self, key: u128, quota: &Quota) -> Result<Taken, Unavailable> {
        let name = format!("postern:rate:{{{key:032x}}}");
        let arguments = [u64::from(quota.limit), quota.window, u64::from(quota.cost)];
        let answer = match &self.shared.store {
            Some(store) => self.call(&store.link, &script::TAKE, &name, &arguments).await,
            None => Err(Unavailable),
        };
        // What is not an answer of the script is another's key of this name.
        let answer = self.shared.counted(answer.and_then(read::<(u64, u64, u32, u32)>))?;
        let (admitted, elapsed, current, previous) = answer;
        Ok(Taken {
            admitted: admitted == 1,
            counters: Counters {
                elapsed,
                current,
                previous,
            },
        })
    }

    /// Leases one of the key's `max` sockets, and renews it until it is dropped; the leases of a replica that has died end by
    /// themselves. While the store does not answer, a socket is leased that may be one too many; None where there is no store.
    pub async fn open(&self, key: u128, max: u32) -> Result<Option<Lease>, Full> {
        let Some(store) = &self.shared.store else {
            let _ = self.shared.counted::<()>(Err(Unavailable));
            return Ok(None);
        };
        let lease = store.leases.lease(key);
        let (name, arguments) = lease.opening(max);
        let answer = self.call(&store.link, &script::OPEN, &name, &arguments).await;
        match self.shared.counted(answer.and_then(read::<u64>)) {
            Ok(0) => {
                lease.refused();
                Err(Full)
            }
            // Unavailable: it may have arrived all the same; if not, it is there as soon as the store is back.
            Ok(_) | Err(Unavailable) => Ok(Some(lease.hold())),
        }
    }

    async fn call(&self, link: &Link, script: &Script, key: &str, arguments: &[u64]) -> Result<Value, Unavailable> {
        let left = Duration::from_nanos(self.left.load(Relaxed));
        if left.is_zero() {
            return Err(Unavailable);
        }
        let since = Instant::now();
        let answer = link.call(script, key, arguments, left).await;
        let left = left.saturating_sub(since.elapsed());
        self.left.store(left.as_nanos() as u64, Relaxed);
        answer
    }
}

fn read<T: FromRedisValue>(answer: Value) -> Result<T, Unavailable> {
    redis::from_redis_value(answer).map_err(|_| Unavailable)
}
