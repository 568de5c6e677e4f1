//! So many requests in such a time, for each key: whether one more is admitted, and what the client is told of where it
//! stands. Frames of an open socket are no requests. How it is counted is `limits::windows`'; among replicas, `limits::shared`'s.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::by::Keys;
use super::mode::Scope;
use super::principal::Principal;
use super::refusal::Refusal;
use super::request::Request;
use super::rule_state::RuleState;
use crate::limits::shared::Unavailable;
use crate::limits::shared::Visit;
use crate::limits::windows::{Quota, Taken};
use crate::reason::Reason;

/// A rule on requests, a handshake being one of them.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// The rule's, as clients are told it.
    pub name: Arc<str>,
    /// Whom it counts.
    pub keys: Keys,
    /// How many, in what time.
    pub quota: Quota,
    /// Among whom the quota holds.
    pub scope: Scope,
    /// With `Scope::Replica` of no meaning.
    pub on_store_failure: OnStoreFailure,
}

/// What becomes of a request that the store does not answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum OnStoreFailure {
    /// This replica counts by itself.
    Local,
    /// It is refused with `Reason::StoreUnavailable`.
    Deny,
    /// It passes, and is not counted.
    Allow,
}

/// Where a client stands with one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    name: Arc<str>,
    /// Units in a window.
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
        rule: &RuleState,
        shared: &Visit<'_>,
    ) -> Result<Option<Standing>, Refusal> {
        let local = || rule.windows.take(self.keys.local(request, principal), &self.quota);
        let taken = match self.scope {
            Scope::Replica => local(),
            Scope::Shared => {
                let key = self.keys.shared(request, principal);
                match rule.known.admit(key, &self.quota) {
                    // One bucket for all that are too many would let who makes keys up refuse everybody else.
                    false => local(),
                    true => match (shared.take(key, &self.quota).await, self.on_store_failure) {
                        (Ok(taken), _) => taken,
                        (Err(Unavailable), OnStoreFailure::Local) => local(),
                        (Err(Unavailable), OnStoreFailure::Deny) => return Err(Reason::StoreUnavailable.into()),
                        (Err(Unavailable), OnStoreFailure::Allow) => return Ok(None),
                    },
                }
            }
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
    /// The limit to report: the one with the least remaining; on a tie, the one that resets last.
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

/// Units in a window of the strictest limit; where it stands, all of the standing does.
pub const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STANDING: HeaderName = HeaderName::from_static("ratelimit");

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use http::{Method, Uri};

    use super::*;
    use crate::limits::shared::{MAX_SHARED_KEYS, Shared};
    use crate::object::ObjectKey;
    use crate::policy::by::By;
    use crate::policy::mode::Mode;

    fn rule(limit: u32, cost: u32, scope: Scope, on_store_failure: OnStoreFailure) -> RateLimit {
        RateLimit {
            name: "per-client".into(),
            keys: Keys::new(&ObjectKey::new("acme", "guard"), "per-client", Mode::Enforce, []),
            quota: Quota::new(limit, Duration::from_secs(60), cost),
            scope,
            on_store_failure,
        }
    }

    async fn take(rule: &RateLimit, state: &RuleState) -> Result<Option<Standing>, Refusal> {
        take_with(rule, state, HeaderMap::new()).await
    }

    async fn take_with(rule: &RateLimit, state: &RuleState, headers: HeaderMap) -> Result<Option<Standing>, Refusal> {
        let (method, authority) = (Method::GET, HeaderValue::from_static("a.example"));
        let request = Request {
            method: &method,
            headers: &headers,
            authority: &authority,
            host: "a.example",
            uri: &Uri::from_static("/"),
            client: Some(IpAddr::from([192, 0, 2, 1])),
            trusted: false,
            https: true,
            web_socket: false,
            certificate: None,
            readings: Default::default(),
        };
        rule.take(&request, None, state, &Shared::default().visit()).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_passes_and_one_more_is_told_when_to_come_back() {
        let rule = rule(3, 1, Scope::Replica, OnStoreFailure::Local);
        let state = RuleState::default();
        let mut remaining = Vec::new();
        for _ in 0..3 {
            remaining.push(take(&rule, &state).await.unwrap().unwrap().remaining);
        }
        assert_eq!(remaining, [2, 1, 0]);
        tokio::time::advance(Duration::from_millis(500)).await;
        let refusal = take(&rule, &state).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::RateLimited);
        let header = |name: &str| refusal.headers[name].to_str().unwrap().to_owned();
        // A third of the window before has to fade, after what is left of this one.
        assert_eq!(header("retry-after"), "80");
        assert_eq!(header("ratelimit"), "\"per-client\";r=0;t=80");
        assert_eq!(header("ratelimit-policy"), "\"per-client\";q=3;w=60");
        assert_eq!(
            (header("x-ratelimit-limit"), header("x-ratelimit-remaining")),
            ("3".into(), "0".into())
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let reset: u64 = header("x-ratelimit-reset").parse().unwrap();
        assert!((now + 79..=now + 81).contains(&reset));
        tokio::time::advance(Duration::from_secs(80)).await;
        assert!(take(&rule, &state).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_a_second_at_least() {
        let rule = RateLimit {
            quota: Quota::new(1, Duration::from_millis(10), 1),
            ..rule(1, 1, Scope::Replica, OnStoreFailure::Local)
        };
        let state = RuleState::default();
        assert!(take(&rule, &state).await.is_ok());
        let refusal = take(&rule, &state).await.unwrap_err();
        assert_eq!(refusal.headers[RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn without_a_store_a_shared_limit_does_as_it_says() {
        let state = RuleState::default();
        let local = rule(1, 1, Scope::Shared, OnStoreFailure::Local);
        assert_eq!(take(&local, &state).await.unwrap().unwrap().remaining, 0);
        assert_eq!(take(&local, &state).await.unwrap_err().reason, Reason::RateLimited);
        let deny = rule(1, 1, Scope::Shared, OnStoreFailure::Deny);
        assert_eq!(take(&deny, &state).await.unwrap_err().reason, Reason::StoreUnavailable);
        let allow = rule(1, 1, Scope::Shared, OnStoreFailure::Allow);
        for _ in 0..5 {
            assert_eq!(take(&allow, &state).await.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_are_too_many_for_the_store_are_counted_here() {
        let state = RuleState::default();
        let by = [By::Header(HeaderName::from_static("x-who"))];
        let rule = RateLimit {
            keys: Keys::new(&ObjectKey::new("acme", "guard"), "per-client", Mode::Enforce, by),
            ..rule(1, 1, Scope::Shared, OnStoreFailure::Allow)
        };
        let take = async |who: usize| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static("x-who"), HeaderValue::from(who))]);
            take_with(&rule, &state, headers).await
        };
        for who in 0..MAX_SHARED_KEYS {
            assert_eq!(take(who).await.unwrap(), None, "there is no store that would count it");
        }
        for who in [MAX_SHARED_KEYS, MAX_SHARED_KEYS + 1] {
            assert!(take(who).await.unwrap().is_some());
            assert_eq!(take(who).await.unwrap_err().reason, Reason::RateLimited);
        }
        assert_eq!(take(0).await.unwrap(), None, "it is known");
    }

    #[test]
    fn of_several_limits_the_strictest_is_told() {
        let standing = |remaining, reset_after| Standing {
            name: "a".into(),
            limit: 10,
            remaining,
            reset_after,
            window: 60,
        };
        let strictest = standing(3, 10)
            .stricter(standing(1, 5))
            .stricter(standing(1, 20))
            .stricter(standing(2, 60));
        assert_eq!(strictest, standing(1, 20));
    }

    #[test]
    fn a_name_is_told_as_a_string_of_a_structured_field() {
        let standing = Standing {
            name: "a\"b\\c\u{e9}\nd".into(),
            limit: 1,
            remaining: 0,
            reset_after: 1,
            window: 1,
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-limit", HeaderValue::from_static("99"));
        standing.write(&mut headers);
        assert_eq!(headers["ratelimit"], "\"abcd\";r=0;t=1");
        assert_eq!(headers.get_all("x-ratelimit-limit").iter().count(), 1);
    }
}
