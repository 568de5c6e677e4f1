//! Brings the statuses on the objects in line with the reports: by the leader alone, only what differs, at a bounded
//! pace. What a status says is decided in conditions.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{debug, warn};

use super::conditions::{self, Difference};
use super::events::{Notice, Notices};
use super::failures::Failures;
use super::tracked::{COUNTS, Place, SETTLE, Tracked};
use super::update::{Mailbox, Status, Update};
use crate::api::deployment::Deployment;
use crate::api::policy::SentinelPolicy;
use crate::api::{GROUP, VERSION};
use crate::config::Settings;
use crate::object::{Kind, ObjectId};

/// How writes ended: postern_status_writes_total by result.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub written: Counter,
    /// The object was gone, or another one of its name had taken its place.
    pub gone: Counter,
    /// Refused or not answered in time; tried again.
    pub failed: Counter,
}

enum Outcome {
    Written(Status),
    Gone,
    Failed(String),
}

struct Done {
    id: ObjectId,
    uid: Arc<str>,
    before: Option<Status>,
    outcome: Outcome,
}

struct Writer {
    client: Client,
    notices: Notices,
    counters: Counters,
    failures: Arc<Failures>,
    addresses: Vec<String>,
    /// Nothing is queued and no timer is set while we do not lead.
    leading: bool,
    objects: BTreeMap<ObjectId, Tracked>,
    queue: BTreeSet<(Place, ObjectId)>,
    sequence: u64,
    /// When to look at an object again.
    timers: BTreeSet<(Instant, ObjectId)>,
}

/// Runs until leadership cannot be known any more.
pub(super) async fn run(
    client: Client,
    mailbox: Arc<Mailbox<ObjectId, Update>>,
    failures: Arc<Failures>,
    mut leadership: watch::Receiver<bool>,
    mut settings: watch::Receiver<Arc<Settings>>,
    notices: Notices,
    counters: Counters,
) {
    let mut writer = Writer {
        client,
        notices,
        counters,
        failures: failures.clone(),
        addresses: settings.borrow_and_update().publish_addresses.clone(),
        leading: *leadership.borrow_and_update(),
        objects: BTreeMap::new(),
        queue: BTreeSet::new(),
        sequence: 0,
        timers: BTreeSet::new(),
    };
    let mut writes: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let timer = writer.timers.first().map(|(at, _)| *at);
        let may_write = writes.len() < CONCURRENT && !writer.queue.is_empty();
        tokio::select! {
            updates = mailbox.take() => {
                for (id, update) in updates {
                    writer.track(&id, update);
                    writer.examine(&id);
                }
            }
            touched = failures.changed() => touched.iter().for_each(|id| writer.examine(id)),
            changed = leadership.changed() => {
                if changed.is_err() {
                    return;
                }
                // Dropped at once: somebody else may lead soon.
                writes.clear();
                writer.lead(*leadership.borrow_and_update());
            }
            Ok(()) = settings.changed() => {
                let addresses = settings.borrow_and_update().publish_addresses.clone();
                writer.publish_addresses(addresses);
            }
            Some(done) = writes.next() => writer.finish(done),
            () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => writer.due(),
            _ = pace.tick(), if may_write => writes.extend(writer.next()),
        }
    }
}

impl Writer {
    fn track(&mut self, id: &ObjectId, update: Update) {
        let Some(report) = update.report else {
            if let Some(gone) = self.objects.remove(id) {
                gone.queued.map(|place| self.queue.remove(&(place, id.clone())));
                gone.expiry.map(|at| self.timers.remove(&(at, id.clone())));
            }
            return;
        };
        match self.objects.get_mut(id) {
            Some(tracked) => tracked.update(report, update.observed),
            None => {
                self.objects.insert(id.clone(), Tracked::new(report, update.observed));
            }
        }
    }

    /// Leadership changed: what was queued, timed or on its way is so no more.
    fn lead(&mut self, leading: bool) {
        self.leading = leading;
        self.queue.clear();
        self.timers.clear();
        for tracked in self.objects.values_mut() {
            *tracked = Tracked::new(tracked.report.clone(), tracked.observed.take());
        }
        self.examine_all();
    }

    fn publish_addresses(&mut self, addresses: Vec<String>) {
        if addresses != self.addresses {
            self.addresses = addresses;
            self.examine_all();
        }
    }

    fn examine_all(&mut self) {
        let ids: Vec<_> = self.objects.keys().cloned().collect();
        ids.iter().for_each(|id| self.examine(id));
    }

    /// Queues a write, or sets a timer, if the status on the object is not what it should be.
    fn examine(&mut self, id: &ObjectId) {
        let Some(tracked) = self.objects.get_mut(id).filter(|_| self.leading) else {
            return;
        };
        if let Some(place) = tracked.queued.take() {
            self.queue.remove(&(place, id.clone()));
        }
        if tracked.in_flight {
            return;
        }
        let now = Instant::now();
        let clock = Timestamp::now();
        if let Some(at) = tracked.expiry.take() {
            self.timers.remove(&(at, id.clone()));
        }
        tracked.expiry = conditions::turn(&tracked.report, clock).map(|wait| now + wait.min(LOOK_AGAIN));
        self.timers.extend(tracked.expiry.map(|at| (at, id.clone())));
        tracked.written = tracked.written.take().filter(|(_, at)| now < *at + SETTLE);
        let (before, settled) = tracked.before();
        let failures = self.failures.of(id);
        let wanted = conditions::status(&tracked.report, &failures, before, &self.addresses, clock);
        let difference = conditions::difference(&wanted, before);
        let counts_rest = tracked
            .written
            .as_ref()
            .map(|(_, at)| *at + COUNTS)
            .filter(|_| difference == Some(Difference::Counts));
        let rest = [tracked.rest, counts_rest]
            .into_iter()
            .flatten()
            .max()
            .filter(|rest| *rest > now);
        match (difference, rest) {
            (None, _) => self.timers.extend(settled.map(|at| (at, id.clone()))),
            (Some(_), Some(rest)) => {
                self.timers.insert((rest, id.clone()));
            }
            (Some(difference), None) => {
                let place = (difference, self.sequence);
                self.sequence += 1;
                tracked.queued = Some(place);
                self.queue.insert((place, id.clone()));
            }
        }
    }

    fn due(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, id));
                return;
            }
            self.examine(&id);
        }
    }

    /// The next write, begun.
    fn next(&mut self) -> Option<BoxFuture<'static, Done>> {
        let (_, id) = self.queue.pop_first()?;
        let tracked = self.objects.get_mut(&id)?;
        let (before, _) = tracked.before();
        let before = before.cloned();
        let failures = self.failures.of(&id);
        let now = Timestamp::now();
        let status = conditions::status(&tracked.report, &failures, before.as_ref(), &self.addresses, now);
        tracked.queued = None;
        tracked.in_flight = true;
        let uid = tracked.report.uid.clone();
        let client = self.client.clone();
        Some(Box::pin(async move {
            let outcome = write(client, &id, &uid, status).await;
            Done {
                id,
                uid,
                before,
                outcome,
            }
        }))
    }

    fn finish(&mut self, done: Done) {
        let Done {
            id,
            uid,
            before,
            outcome,
        } = done;
        let tracked = self.objects.get_mut(&id);
        if let Outcome::Written(status) = &outcome {
            self.counters.written.inc();
            for transition in conditions::transitions(before.as_ref(), status) {
                self.notices.leave(Notice {
                    id: id.clone(),
                    uid: uid.to_string(),
                    transition,
                });
            }
        }
        let Some(tracked) = tracked else { return };
        tracked.in_flight = false;
        if tracked.report.uid == uid {
            let now = Instant::now();
            match outcome {
                Outcome::Written(status) => {
                    tracked.written = Some((status, now));
                    tracked.failures = 0;
                    tracked.rest = None;
                }
                Outcome::Gone => {
                    self.counters.gone.inc();
                    debug!(object = %id.key, "status not written: the object is gone");
                    // The watch will tell; should it not, this is no reason to try every moment.
                    tracked.rest = Some(now + MAX_REST);
                }
                Outcome::Failed(error) => {
                    self.counters.failed.inc();
                    let rest = MAX_REST.min(MIN_REST * 2_u32.saturating_pow(tracked.failures));
                    tracked.failures = tracked.failures.saturating_add(1);
                    tracked.rest = Some(now + rest);
                    warn!(object = %id.key, error, again_in = ?rest, "cannot write status");
                }
            }
        }
        self.examine(&id);
    }
}

/// The kinds whose status is ours to write, as the apiserver knows them. None: it is not.
fn resource(kind: Kind) -> Option<ApiResource> {
    match kind {
        Kind::Deployment => Some(ApiResource::erase::<Deployment>(&())),
        Kind::SentinelPolicy => Some(ApiResource::erase::<SentinelPolicy>(&())),
        _ => None,
    }
}

/// Server-side apply: what we no longer say goes, what others say stays.
///
/// On the status subresource the apiserver ignores a uid that is sent along, so a new object of the same name may get
/// its predecessor's status. The answer tells; its own status follows.
async fn write(client: Client, ObjectId { key, kind }: &ObjectId, uid: &str, status: Status) -> Outcome {
    let Some(resource) = resource(*kind) else {
        return Outcome::Gone;
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client, &key.namespace, &resource);
    let body = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": resource.kind,
        "metadata": {"name": &*key.name, "namespace": &*key.namespace},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    match timeout(CALL, api.patch_status(&key.name, &params, &Patch::Apply(body))).await {
        Ok(Ok(object)) if object.metadata.uid.as_deref() != Some(uid) => Outcome::Gone,
        // The answer is the object; if its status is not what we know how to read, it is still what we said.
        Ok(Ok(mut object)) => {
            let found = object.data.get_mut("status").map(serde_json::Value::take);
            let found = found.and_then(|found| match &status {
                Status::Deployment(_) => serde_json::from_value(found).ok().map(Status::Deployment),
                Status::SentinelPolicy(_) => serde_json::from_value(found).ok().map(Status::SentinelPolicy),
            });
            Outcome::Written(found.unwrap_or(status))
        }
        Ok(Err(kube::Error::Api(refusal))) if refusal.code == 404 => Outcome::Gone,
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed("no answer in time".to_owned()),
    }
}

/// The field manager that owns the status.
const MANAGER: &str = "postern";
/// 50 writes a second.
const PACE: Duration = Duration::from_millis(20);
const CONCURRENT: usize = 8;
const MIN_REST: Duration = Duration::from_secs(1);
const MAX_REST: Duration = Duration::from_secs(60);
/// A timer goes by the process' clock, an expiry by the world's: they part a little every day.
const LOOK_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);
const CALL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
