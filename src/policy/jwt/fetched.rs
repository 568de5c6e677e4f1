//! The keys that one URL says (a JSON Web Key Set), fetched ahead of need and kept while any rule of one namespace refers to the
//! URL. The data plane reads them; a task of the control plane's fetches, when it is its namespace's turn. A set that was fetched
//! once serves until a newer one was.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::Full;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::keys::{Invalid, KeySet};
use crate::egress::{self, Egress, Limits, Reach};
use crate::runtime::turns::Turn;

/// The key set behind one URL, kept fresh by one task for all rules of a namespace and their requests.
#[derive(Default)]
pub struct Jwks {
    progress: watch::Sender<Progress>,
    /// Wakes the task: a fetch is asked for, or nobody refers to this any more.
    wanted: Arc<Notify>,
    started: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    set: Option<Arc<KeySet>>,
    begun: u64,
    ended: u64,
    last: Option<Instant>,
}

/// Who fetches what, and by what.
struct Fetcher {
    namespace: Arc<str>,
    url: Uri,
    egress: Arc<Egress>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Egress(#[from] egress::Failure),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Set(#[from] Invalid),
}

const LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    body: 1 << 20,
};
/// Unless the answer says otherwise, within `FRESH`.
const REFRESH: Duration = Duration::from_secs(300);
const FRESH: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Between a fetch and the next that a request may cause: whoever makes up names of keys causes no more.
const GAP: Duration = Duration::from_secs(10);

impl Jwks {
    /// Fetches at once, and from then on, on the runtime that this is called on. Once; again does nothing.
    pub fn start(self: &Arc<Self>, namespace: &Arc<str>, url: &Uri, egress: &Arc<Egress>) {
        if !self.started.swap(true, Relaxed) {
            let fetcher = Fetcher {
                namespace: namespace.clone(),
                url: url.clone(),
                egress: egress.clone(),
            };
            tokio::spawn(fetcher.follow(Arc::downgrade(self), self.wanted.clone()));
        }
    }

    /// None: the URL has not said any keys yet. Only while it was never asked before is its answer waited for.
    pub async fn current(&self, limit: Duration) -> Option<Arc<KeySet>> {
        let first = {
            let progress = self.progress.borrow();
            if progress.set.is_some() {
                return progress.set.clone();
            }
            progress.ended == 0
        };
        if first && self.started.load(Relaxed) {
            self.ended(1, limit).await;
        }
        self.progress.borrow().set.clone()
    }

    /// Other keys than those, if the URL has them by now; asked by all at once, and not again within `GAP`.
    pub async fn newer(&self, than: &Arc<KeySet>, limit: Duration) -> Option<Arc<KeySet>> {
        let other = || self.progress.borrow().set.clone().filter(|set| !Arc::ptr_eq(set, than));
        if let Some(set) = other() {
            return Some(set);
        }
        let awaited = {
            let progress = self.progress.borrow();
            if progress.begun > progress.ended {
                progress.begun
            } else if progress.may_begin() {
                self.wanted.notify_one();
                progress.begun + 1
            } else {
                return None;
            }
        };
        self.ended(awaited, limit).await;
        other()
    }

    async fn ended(&self, count: u64, limit: Duration) {
        let mut progress = self.progress.subscribe();
        // Too late is as good as never: the caller looks for itself.
        let _ = timeout(limit, progress.wait_for(|progress| progress.ended >= count)).await;
    }

    fn begin(&self) {
        self.progress.send_modify(|progress| {
            progress.begun += 1;
            progress.last = Some(Instant::now());
        });
    }

    fn end(&self, fetched: Option<KeySet>) {
        self.progress.send_modify(|progress| {
            progress.ended += 1;
            // The same keys stay the same set: what was verified by it is.
            if let Some(set) = fetched
                && progress.set.as_deref() != Some(&set)
            {
                progress.set = Some(Arc::new(set));
            }
        });
    }
}

impl Progress {
    fn may_begin(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= GAP)
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        self.wanted.notify_one();
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Jwks").field(&*self.progress.borrow()).finish()
    }
}

impl Fetcher {
    /// Until nobody refers to the keys any more.
    async fn follow(self, keys: Weak<Jwks>, wanted: Arc<Notify>) {
        let host = self.url.host().unwrap_or_default();
        let mut failures = 0;
        while let Some(turn) = self.turn(&keys, &wanted).await
            && let Some(state) = keys.upgrade()
        {
            state.begin();
            let fetched = self.fetch().await;
            drop(turn);
            let pause = match &fetched {
                Ok((_, fresh)) => {
                    if failures > 0 {
                        info!(host, failures, "keys can be fetched again");
                    }
                    failures = 0;
                    *fresh
                }
                Err(error) => {
                    if failures == 0 {
                        let known = state.progress.borrow().set.is_some();
                        warn!(host, %error, known, "cannot fetch keys: trying again; known keys stay in use");
                    }
                    failures += 1;
                    backoff(failures)
                }
            };
            state.end(fetched.ok().map(|(set, _)| set));
            drop(state);
            let due = Instant::now() + jittered(pause);
            rest(&keys, &wanted, due).await;
        }
    }

    /// None: nobody refers to the keys any more. Who waits keeps them no longer than others do.
    async fn turn(&self, keys: &Weak<Jwks>, wanted: &Notify) -> Option<Turn> {
        let mut turn = pin!(self.egress.fetches.take(&self.namespace));
        loop {
            tokio::select! {
                turn = &mut turn => return Some(turn),
                () = wanted.notified() => if keys.strong_count() == 0 {
                    return None;
                },
            }
        }
    }

    /// The keys, and for how long they are fresh.
    async fn fetch(&self) -> Result<(KeySet, Duration), Error> {
        let mut request = Request::new(Full::<Bytes>::default());
        *request.uri_mut() = self.url.clone();
        let accept = header::HeaderValue::from_static("application/jwk-set+json, application/json");
        request.headers_mut().insert(header::ACCEPT, accept);
        let reach = Reach::Tenant(&self.namespace);
        let answer = self.egress.send(reach, request, LIMITS).await?;
        if answer.status() != StatusCode::OK {
            return Err(Error::Status(answer.status()));
        }
        let fresh = fresh(answer.headers());
        Ok((KeySet::read(&answer.into_body()?)?, fresh))
    }
}

/// Until it is time for the next fetch, or one is wanted and may be.
async fn rest(keys: &Weak<Jwks>, wanted: &Notify, due: Instant) {
    loop {
        tokio::select! {
            () = sleep_until(due) => return,
            () = wanted.notified() => match keys.upgrade() {
                Some(state) if !state.progress.borrow().may_begin() => {}
                _ => return,
            },
        }
    }
}

/// RFC 9111 section 5.2.2.1.
fn fresh(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    let mut directives = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let seconds = directives.find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        let value = value.trim_matches('"').parse::<u32>().ok()?;
        name.eq_ignore_ascii_case("max-age").then_some(value)
    });
    let told = seconds.map_or(REFRESH, |seconds| Duration::from_secs(seconds.into()));
    told.clamp(FRESH.0, FRESH.1)
}

fn backoff(failures: u32) -> Duration {
    (RETRY.0 * 2_u32.saturating_pow(failures.min(16) - 1)).min(RETRY.1)
}

/// By up to a tenth less: replicas that started together do not ask together for long.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 - fastrand::f64() / 10.0)
}

#[cfg(test)]
mod tests;
