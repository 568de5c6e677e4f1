//! Which backend of a route takes a request, by weight.

use std::sync::Arc;

use crate::reason::Reason;
use crate::snapshot::Backend;
use crate::upstream::Upstream;

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
