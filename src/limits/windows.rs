//! How much of a limit each key has used in a sliding window, in bounded memory. What a key is `policy::by` says; counting
//! for several replicas at once is `shared`'s, by the same arithmetic.
//!
//! A window is two counters. It begins with a key's first request and is followed without a gap by the next one, as long as
//! there is something to remember; what the one before admitted is taken to have come evenly, so that its weight falls from
//! one to zero while this one passes. Of `limit` that means, with `share` of the present window gone and `previous` admitted
//! in the one before:
//!
//! - the first window of a key admits `limit`, exactly;
//! - any span as long as the window holds at most `limit + share * previous`: less than twice the limit, which takes a whole
//!   limit at the very end of one window, and for even traffic the limit itself, give or take one;
//! - nothing is refused while the last span of that length holds at most `limit - cost - (1 - share) * previous`.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::runtime::shrink::shrink;

/// The windows of one rule.
#[derive(Debug, Default)]
pub struct Windows(OnceLock<Box<Shards>>);

/// `limit` units in a `window`, of which one request takes `cost`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quota {
    /// Units, at least one.
    pub limit: u32,
    /// In milliseconds, at most `MAX_WINDOW`.
    pub window: u64,
    /// Units, at least one; a cost above the limit is never admitted.
    pub cost: u32,
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Milliseconds since the present window began.
    pub elapsed: u64,
    /// Units that were admitted in the present window.
    pub current: u32,
    /// Units that were admitted in the window before it.
    pub previous: u32,
}

/// What became of a request, and where its key stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// If not, nothing was taken.
    pub admitted: bool,
    /// With the cost, if it was admitted.
    pub counters: Counters,
}

/// So that no product of a count and a time leaves 64 bits.
pub const MAX_WINDOW: u64 = 30 * 24 * 3600 * 1000;

/// Keys remembered at once, of one rule. Which one goes when there is no room is `Shard::make_room`'s.
pub const MAX_KEYS: usize = SHARDS * SHARD_KEYS;
const SHARDS: usize = 16;
const SHARD_KEYS: usize = 4096;

#[derive(Debug)]
struct Shards {
    epoch: Instant,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    windows: HashMap<u128, Window>,
    /// What has ended is looked for when there are as many.
    sweep_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    /// Both in milliseconds since the epoch.
    start: u64,
    end: u64,
    current: u32,
    previous: u32,
}

impl Quota {
    /// A window of zero or beyond `MAX_WINDOW` is the nearest that there is, as is a limit or cost of zero.
    pub fn new(limit: u32, window: Duration, cost: u32) -> Self {
        let window = u64::try_from(window.as_millis()).unwrap_or(MAX_WINDOW);
        Self {
            limit: limit.max(1),
            window: window.clamp(1, MAX_WINDOW),
            cost: cost.max(1),
        }
    }
}

impl Windows {
    /// Takes the quota's cost from what the key has left, or nothing where that is too little.
    pub fn take(&self, key: u128, quota: &Quota) -> Taken {
        let shards = self.0.get_or_init(Box::default);
        let now = u64::try_from(shards.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Any bits of a keyed hash are as good as any others.
        let shard = &shards.shards[key as usize % SHARDS];
        let mut shard = shard.lock();
        shard.take(key, quota, now)
    }

    /// Whether `take` would admit it now.
    pub fn has_left(&self, key: u128, quota: &Quota) -> bool {
        let Some(shards) = self.0.get() else { return true };
        let now = u64::try_from(shards.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let shard = shards.shards[key as usize % SHARDS].lock();
        shard.counters(key, now).take(quota).admitted
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        let shards = self.0.get().map(|shards| shards.shards.iter());
        let lengths = shards.into_iter().flatten().map(|shard| {
            let shard = shard.lock();
            shard.windows.len()
        });
        lengths.sum()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shard {
    fn counters(&self, key: u128, now: u64) -> Counters {
        match self.windows.get(&key) {
            Some(window) => Counters {
                elapsed: now.saturating_sub(window.start),
                current: window.current,
                previous: window.previous,
            },
            None => Counters::default(),
        }
    }

    fn take(&mut self, key: u128, quota: &Quota, now: u64) -> Taken {
        let taken = self.counters(key, now).take(quota);
        if taken.admitted {
            if self.windows.len() >= self.sweep_at && !self.windows.contains_key(&key) {
                self.make_room(now);
            }
            let start = now.saturating_sub(taken.counters.elapsed);
            let window = Window {
                start,
                end: start.saturating_add(2 * quota.window),
                current: taken.counters.current,
                previous: taken.counters.previous,
            };
            self.windows.insert(key, window);
        }
        taken
    }

    /// Evicts the windows that have ended or, if none has, the eighth with the lowest counts (the oldest first among equals). A
    /// client that rotates keys to have its count forgotten must therefore first fill seven eighths of a shard, some 3,500
    /// keys, with counts as high.
    fn make_room(&mut self, now: u64) {
        self.windows.retain(|_, window| window.end > now);
        if self.windows.len() >= SHARD_KEYS {
            let rank = |key: &u128, window: &Window| {
                let held = u64::from(window.current) + u64::from(window.previous);
                (held, window.start, *key)
            };
            let mut ranks: Vec<_> = self.windows.iter().map(|(key, window)| rank(key, window)).collect();
            let (_, last_to_go, _) = ranks.select_nth_unstable(SHARD_KEYS / 8);
            let last_to_go = *last_to_go;
            self.windows.retain(|key, window| rank(key, window) > last_to_go);
        }
        shrink(&mut self.windows);
        self.sweep_at = (2 * self.windows.len()).clamp(64, SHARD_KEYS);
    }
}

impl Counters {
    /// With the cost taken, or as they were where too little is left; either way in the window that is the present one
    /// by now.
    pub fn take(self, quota: &Quota) -> Taken {
        let mut counters = self.turned(quota.window);
        let admitted = counters.left(quota) >= quota.cost;
        if admitted {
            counters.current = counters.current.saturating_add(quota.cost);
        }
        Taken { admitted, counters }
    }

    /// Units that are free now.
    pub fn left(&self, quota: &Quota) -> u32 {
        let window = quota.window;
        let weighed = u64::from(self.previous) * window.saturating_sub(self.elapsed);
        let used = u64::from(self.current) * window + weighed;
        let left = (u64::from(quota.limit) * window).saturating_sub(used) / window;
        // Not more than the limit, which is a u32.
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Milliseconds until the present window is over.
    pub fn window_left(&self, quota: &Quota) -> u64 {
        quota.window.saturating_sub(self.elapsed)
    }

    /// Milliseconds until the cost is free, if nobody takes anything meanwhile.
    pub fn wait(&self, quota: &Quota) -> u64 {
        let window = quota.window;
        // When what the one before holds has lost enough weight: `held * (window - at) <= spare * window`.
        let fades = |held: u32, spare: u32| match u64::from(spare) * window / u64::from(held.max(1)) {
            _ if held == 0 => 0,
            weight => window.saturating_sub(weight),
        };
        let Some(spare) = quota.limit.checked_sub(quota.cost) else {
            return 2 * window;
        };
        match spare.checked_sub(self.current) {
            Some(spare) => fades(self.previous, spare).saturating_sub(self.elapsed),
            None => self.window_left(quota) + fades(self.current, spare),
        }
    }

    /// As of now, where the window that was the present one may be over.
    fn turned(self, window: u64) -> Self {
        match self.elapsed / window {
            0 => self,
            1 if self.current > 0 => Self {
                elapsed: self.elapsed - window,
                current: 0,
                previous: self.current,
            },
            _ => Self::default(),
        }
    }
}

impl Default for Shards {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            shards: Default::default(),
        }
    }
}

#[cfg(test)]
mod tests;
