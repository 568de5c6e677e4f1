//! Leases on open sockets: each is a member of its key's sorted set in the store, whose score is when it ends. They are
//! renewed together while their sockets are open, and those of a replica that is gone end by themselves. After an outage, a
//! restart or a flush of the store those that are held are there again as soon as it is back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::link::Link;
use super::script;
use crate::runtime::shrink::shrink;

/// How long the sockets of a replica that has died still count.
pub const LIFETIME: Duration = Duration::from_secs(30);
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// For what no request waits for.
const UNHURRIED: Duration = Duration::from_secs(1);
/// Leases in one call, so that none takes the store long.
const BATCH: usize = 500;
/// Leases given up and not yet told of. What does not fit ends by itself.
const QUEUE: usize = 4096;

/// What this replica holds.
#[derive(Debug)]
pub struct Leases {
    held: Mutex<HashMap<u128, HashSet<u64>>>,
    released: mpsc::Sender<(u128, u64)>,
}

/// One open socket among all replicas, until it is dropped.
#[derive(Debug)]
pub struct Lease {
    leases: Arc<Leases>,
    key: u128,
    id: u64,
    /// Whether the store may know of it.
    known: bool,
}

/// The key and id of each lease that was dropped, for `Leases::keep`.
pub type Released = mpsc::Receiver<(u128, u64)>;

impl Leases {
    /// No lease is held; whoever has the receiver gives up at the store what is dropped here.
    pub fn new() -> (Self, Released) {
        let (released, receiver) = mpsc::channel(QUEUE);
        let held = Mutex::default();
        (Self { held, released }, receiver)
    }

    /// Made before the store is asked, so that nothing is left behind by a request that is given up meanwhile; not renewed
    /// before it is held, lest one that is refused comes to be known that way.
    pub fn lease(self: &Arc<Self>, key: u128) -> Lease {
        Lease {
            leases: self.clone(),
            key,
            // Random, so that those of different replicas differ.
            id: fastrand::u64(..),
            known: true,
        }
    }

    /// Renews what is held and tells of what is not any more, as long as it is polled.
    pub async fn keep(self: Arc<Self>, mut released: Released, link: Arc<Link>) {
        let mut renewal = interval(RENEW_EVERY);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut up = link.watch();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                _ = renewal.tick() => self.renew(&link).await,
                changed = up.changed() => match changed {
                    Ok(()) if *up.borrow_and_update() => self.renew(&link).await,
                    Ok(()) => {}
                    Err(_) => return,
                },
                count = released.recv_many(&mut batch, BATCH) => match count {
                    0 => return,
                    _ => close(&link, &mut batch).await,
                },
            }
        }
    }

    async fn renew(&self, link: &Link) {
        let keys: Vec<u128> = self.lock().keys().copied().collect();
        for key in keys {
            let ids: Vec<u64> = match self.lock().get(&key) {
                Some(ids) => ids.iter().copied().collect(),
                None => continue,
            };
            for ids in ids.chunks(BATCH) {
                let arguments: Vec<u64> = std::iter::once(lifetime()).chain(ids.iter().copied()).collect();
                if link
                    .call(&script::RENEW, &name(key), &arguments, UNHURRIED)
                    .await
                    .is_err()
                {
                    // When it is back, all are renewed.
                    return;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, HashSet<u64>>> {
        self.held.lock()
    }
}

impl Lease {
    /// What `script::OPEN` is told: the key, and with what.
    pub fn opening(&self, max: u32) -> (String, [u64; 3]) {
        (name(self.key), [u64::from(max), lifetime(), self.id])
    }

    /// From now on it is renewed.
    pub fn hold(self) -> Self {
        self.leases.lock().entry(self.key).or_default().insert(self.id);
        self
    }

    /// The store has said no: there is nothing to give up.
    pub fn refused(mut self) {
        self.known = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.lock();
        if let Some(ids) = held.get_mut(&self.key) {
            ids.remove(&self.id);
            if ids.is_empty() {
                held.remove(&self.key);
            }
        }
        shrink(&mut held);
        drop(held);
        if self.known {
            let _ = self.leases.released.try_send((self.key, self.id));
        }
    }
}

async fn close(link: &Link, batch: &mut Vec<(u128, u64)>) {
    batch.sort_unstable();
    for of_a_key in batch.chunk_by(|(a, _), (b, _)| a == b) {
        let ids: Vec<u64> = of_a_key.iter().map(|(_, id)| *id).collect();
        if link
            .call(&script::CLOSE, &name(of_a_key[0].0), &ids, UNHURRIED)
            .await
            .is_err()
        {
            break;
        }
    }
    batch.clear();
}

fn name(key: u128) -> String {
    format!("postern:sockets:{{{key:032x}}}")
}

fn lifetime() -> u64 {
    LIFETIME.as_millis() as u64
}
