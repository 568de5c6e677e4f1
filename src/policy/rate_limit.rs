//! So many requests in such a time, for each key: whether one more is admitted, and what the client is told of where it
//! stands. Frames of an open socket are no requests. How it is counted is `state::windows`'; among replicas, `shared`'s.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};
use serde::Serialize;

use super::by::Keys;
use super::{Principal, Refusal, Request};
use crate::reason::Reason;
use crate::shared::{Shared, Unavailable};
use crate::state::windows::{Quota, Taken, Windows};

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// The rule's, as clients are told it.
    pub name: Arc<str>,
    pub keys: Keys,
    pub quota: Quota,
    pub scope: Scope,
    pub on_store_failure: OnStoreFailure,
}

/// Among whom it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Scope {
    /// Each replica by itself.
    Replica,
    /// All that have the same store.
    Shared,
}

/// What becomes of a request that the store does not answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum OnStoreFailure {
    /// This replica counts by itself.
    Local,
    Deny,
    Allow,
}

/// Where a client stands with one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    name: Arc<str>,
    pub limit: u32,
    /// Units that are free.
    pub remaining: u32,
    /// Seconds, rounded up: until the present window is over or, where the request was refused, until it would be admitted.
    pub reset_after: u64,
    /// Seconds, rounded up.
    pub window: u64,
}

impl RateLimit {
    /// None: it was admitted without being counted.
    pub async fn take(
        &self,
        request: &Request<'_>,
        principal: Option<&Principal>,
        windows: &Windows,
        shared: &Shared,
    ) -> Result<Option<Standing>, Refusal> {
        let local = || windows.take(self.keys.local(request, principal), &self.quota);
        let taken = match self.scope {
            Scope::Replica => local(),
            Scope::Shared => match shared.take(self.keys.shared(request, principal), &self.quota).await {
                Ok(taken) => taken,
                Err(Unavailable) => match self.on_store_failure {
                    OnStoreFailure::Local => local(),
                    OnStoreFailure::Deny => return Err(Reason::StoreUnavailable.into()),
                    OnStoreFailure::Allow => return Ok(None),
                },
            },
        };
        let standing = self.standing(&taken);
        match taken.admitted {
            true => Ok(Some(standing)),
            false => Err(standing.refusal()),
        }
    }

    fn standing(&self, taken: &Taken) -> Standing {
        let Taken { admitted, counters } = taken;
        let reset = match admitted {
            true => counters.window_left(&self.quota),
            false => counters.wait(&self.quota),
        };
        Standing {
            name: self.name.clone(),
            limit: self.quota.limit,
            remaining: counters.left(&self.quota),
            reset_after: reset.div_ceil(1000).max(1),
            window: self.quota.window.div_ceil(1000),
        }
    }
}

impl Standing {
    /// Of several limits the client is told of that which leaves it least, and of equals that which does so longest.
    pub fn stricter(self, other: Self) -> Self {
        let room = |standing: &Self| (standing.remaining, std::cmp::Reverse(standing.reset_after));
        if room(&other) < room(&self) { other } else { self }
    }

    /// Says so to the client, in place of whatever else was to be said of limits. The first three are custom, the time a
    /// Unix one; the last two are the IETF's (draft-ietf-httpapi-ratelimit-headers).
    pub fn write(&self, headers: &mut HeaderMap) {
        let Self {
            limit,
            remaining,
            reset_after,
            window,
            ..
        } = self;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let reset = now.as_secs() + reset_after;
        headers.insert(LIMIT, HeaderValue::from(*limit));
        headers.insert(REMAINING, HeaderValue::from(*remaining));
        headers.insert(RESET, HeaderValue::from(reset));
        // A string of a structured field (RFC 9651 section 3.3.3), without what would have to be escaped.
        let is_plain = |c: &char| (' '..='~').contains(c) && !['"', '\\'].contains(c);
        let name: String = self.name.chars().filter(is_plain).collect();
        let lines = [
            (POLICY, format!("\"{name}\";q={limit};w={window}")),
            (STANDING, format!("\"{name}\";r={remaining};t={reset_after}")),
        ];
        for (header, text) in lines {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(header, value);
            }
        }
    }

    fn refusal(&self) -> Refusal {
        let mut refusal = Refusal::from(Reason::RateLimited);
        self.write(&mut refusal.headers);
        refusal.headers.insert(RETRY_AFTER, HeaderValue::from(self.reset_after));
        refusal
    }
}

pub const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STANDING: HeaderName = HeaderName::from_static("ratelimit");
