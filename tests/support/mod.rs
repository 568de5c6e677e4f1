//! What the tests of every level stand on: real apps, scripted backends, plain sockets and a running Postern.
//! Nothing here knows what is right; the tests say that.

#![allow(dead_code, reason = "each level uses its own part of this")]

pub mod apps;
pub mod backend;
pub mod black_hole;
pub mod browser;
pub mod certs;
pub mod chart;
pub mod chromium;
pub mod collector;
pub mod control_plane;
pub mod documentation;
pub mod exchange;
pub mod firefox;
pub mod frames;
pub mod front;
pub mod go_build;
pub mod guarded;
pub mod head;
pub mod http2;
pub mod link;
pub mod netns;
pub mod pods;
pub mod postern;
pub mod process;
pub mod prometheus;
pub mod redis;
pub mod site;
pub mod tls;
pub mod tokens;
pub mod wire;
pub mod ws;

use std::future::Future;
use std::time::{Duration, Instant};

/// No wait of a test is longer. Far above what anything takes on a busy machine: reaching it is a failure.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Waits for a condition, not for a time.
pub async fn eventually<F, R>(fact: &str, mut holds: F)
where
    F: FnMut() -> R,
    R: Future<Output = bool>,
{
    eventually_within(LIMIT, fact, &mut holds).await;
}

/// For what takes longer by its nature.
pub async fn eventually_within<F, R>(limit: Duration, fact: &str, mut holds: F)
where
    F: FnMut() -> R,
    R: Future<Output = bool>,
{
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < limit, "still not so after {limit:?}: {fact}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An await that must end.
pub async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, wait).await {
        Ok(done) => done,
        Err(_) => panic!("no end after {LIMIT:?}: {what}"),
    }
}

/// Bytes that do not repeat, the same for a seed: a byte lost, doubled or moved shows.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
