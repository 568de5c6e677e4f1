//! Which backend, and which of its endpoints, takes a request. Retries are decided in `forward`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::reason::Reason;
use crate::snapshot::{Backend, Endpoint, Strategy, Upstream};

/// A backend by weight. One without an endpoint is skipped by weight; one that does not exist answers for its share.
pub fn choose_backend(backends: &[Backend]) -> Result<&Arc<Upstream>, Reason> {
    if let [
        Backend {
            upstream: Some(upstream),
            weight,
        },
    ] = backends
        && *weight > 0
    {
        return if upstream.endpoints.is_empty() {
            Err(Reason::NoReadyEndpoint)
        } else {
            Ok(upstream)
        };
    }
    let takes_share = |backend: &&Backend| {
        backend
            .upstream
            .as_ref()
            .is_none_or(|upstream| !upstream.endpoints.is_empty())
    };
    let total: u32 = backends.iter().filter(takes_share).map(|backend| backend.weight).sum();
    if total == 0 {
        return Err(Reason::NoReadyEndpoint);
    }
    let mut ticket = fastrand::u32(0..total);
    for backend in backends.iter().filter(takes_share) {
        match ticket.checked_sub(backend.weight) {
            Some(rest) => ticket = rest,
            None => return backend.upstream.as_ref().ok_or(Reason::BackendNotFound),
        }
    }
    Err(Reason::NoReadyEndpoint)
}

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
