//! Keeps the schedule and makes the orders that are due, while we lead. How an order is made is its caller's.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::failure::Failure;
use super::mailbox::Mailbox;
use super::schedule::{Job, Schedule, Setback, Validity};
use crate::status::Failures;

/// What the manager goes by and whom it tells.
pub struct Surroundings {
    pub mailbox: Arc<Mailbox>,
    pub leadership: watch::Receiver<bool>,
    /// Unix seconds.
    pub now: fn() -> i64,
    /// Told why a Deployment got no certificate.
    pub failures: Arc<Failures>,
}

/// One thing that is under way.
enum Done {
    Cleared,
    Ordered(Job, Result<Validity, Failure>),
}

/// Runs until leadership cannot be known any more. `clear` comes first in each term: what an earlier leader has left is
/// removed before an order adds to it.
pub async fn run<C, O, CF, OF>(surroundings: Surroundings, clear: C, order: O)
where
    C: Fn() -> CF,
    O: Fn(Job) -> OF,
    CF: Future<Output = ()> + Send + 'static,
    OF: Future<Output = Result<Validity, Failure>> + Send + 'static,
{
    let Surroundings {
        mailbox,
        mut leadership,
        now,
        failures,
    } = surroundings;
    let mut schedule = Schedule::default();
    let mut under_way: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
    let mut cleared = false;
    leadership.mark_changed();
    loop {
        while let Some(job) = cleared.then(|| schedule.begin(now())).flatten() {
            info!(hostname = %job.hostname, secret = %job.secret, "ordering a certificate");
            let ordered = order(job.clone());
            under_way.push(ordered.map(|result| Done::Ordered(job, result)).boxed());
        }
        let wake = schedule.wake(now()).filter(|_| cleared);
        tokio::select! {
            updates = mailbox.take() => {
                for (object, wanted) in updates {
                    for hostname in schedule.track(object.clone(), wanted, now()) {
                        failures.clear(&object, &hostname);
                    }
                }
            }
            changed = leadership.changed() => {
                if changed.is_err() {
                    return;
                }
                // Dropped at once: somebody else may lead soon. What they leave behind, the next term clears.
                under_way.clear();
                schedule.give_up_all();
                cleared = false;
                if *leadership.borrow_and_update() {
                    under_way.push(clear().map(|()| Done::Cleared).boxed());
                }
            }
            Some(done) = under_way.next() => match done {
                Done::Cleared => cleared = true,
                Done::Ordered(job, result) => finish(&mut schedule, &job, result, now(), &failures),
            },
            () = sleep(pause(wake, now())), if wake.is_some() => {}
        }
    }
}

fn finish(schedule: &mut Schedule, job: &Job, result: Result<Validity, Failure>, now: i64, failures: &Failures) {
    let Job { hostname, secret } = job;
    let told = match result {
        Ok(validity) => {
            schedule.succeed(secret, validity, now);
            info!(%hostname, %secret, not_after = validity.not_after, "certificate issued");
            None
        }
        Err(failure) => {
            let setback = match failure.is_rate_limit() {
                true => Setback::RateLimited,
                false => Setback::Ordinary,
            };
            let again_in = schedule.fail(secret, setback, now, fastrand::f64());
            warn!(%hostname, %secret, error = %failure, again_in, "certificate not issued: trying again later");
            Some(failure.to_string())
        }
    };
    for object in schedule.wanted_by(secret) {
        match &told {
            Some(text) => failures.set(object, hostname, text),
            None => failures.clear(object, hostname),
        }
    }
}

/// Never long: the wall clock may be set.
fn pause(wake: Option<i64>, now: i64) -> Duration {
    let seconds = wake.map_or(0, |wake| wake.saturating_sub(now)).max(0).unsigned_abs();
    Duration::from_secs(seconds).min(LOOK_AGAIN)
}

const LOOK_AGAIN: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
