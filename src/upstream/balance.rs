//! Which endpoint of an upstream takes the next request.

use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::{Endpoint, Upstream};

/// An endpoint that was not tried yet; None when all were. `tried` holds indices into the upstream's endpoints.
pub fn choose_endpoint(strategy: Strategy, upstream: &Upstream, tried: &[usize]) -> Option<usize> {
    let endpoints = &upstream.endpoints;
    let untried = || (0..endpoints.len()).filter(|index| !tried.contains(index));
    match strategy {
        Strategy::LeastConnections => least_open(endpoints, untried()),
        Strategy::Random => {
            let count = endpoints.len().checked_sub(tried.len()).filter(|count| *count > 0)?;
            untried().nth(fastrand::usize(0..count))
        }
        Strategy::RoundRobin => {
            let start = upstream.rotation.get().fetch_add(1, Relaxed) % endpoints.len().max(1);
            untried().find(|index| *index >= start).or_else(|| untried().next())
        }
    }
}

/// Ties at random, each with the same chance: the n-th tie replaces the choice with probability 1/n.
fn least_open(endpoints: &[Endpoint], candidates: impl Iterator<Item = usize>) -> Option<usize> {
    let mut best = None;
    let mut least = usize::MAX;
    let mut ties = 0;
    for index in candidates {
        let open = endpoints[index].runtime.get().open();
        if open < least {
            (best, least, ties) = (Some(index), open, 1);
        } else if open == least {
            ties += 1;
            if fastrand::u32(0..ties) == 0 {
                best = Some(index);
            }
        }
    }
    best
}

/// How an endpoint is chosen among those that are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Strategy {
    /// The one with the fewest requests and sockets of this replica; ties are broken at random.
    LeastConnections,
    /// Any, each with the same chance.
    Random,
    /// One after the other, in the order of addresses.
    RoundRobin,
}
