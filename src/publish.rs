//! The one task that owns the store: wait, compile, pair, swap, report. Everything that changes what is served passes here,
//! one change after the other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::acme;
use crate::admin::Readiness;
use crate::api::condition::ConditionType;
use crate::compile::report::Report;
use crate::compile::subject::Subject;
use crate::compile::{Compiled, Input, Previous, compile};
use crate::config::{Routing, Settings};
use crate::egress::Egress;
use crate::live::state::State;
use crate::live::{Live, LiveCell};
use crate::metrics::Published;
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::snapshot::{Deployment, Listener, RunState};
use crate::status::{Mailbox, Status, Update};
use crate::store::{Batch, Changes, Store};
use crate::websocket::socket::{Socket, end_spread};

/// Over how long the sockets of a Deployment that is deleted or Stopped are ended.
const END_WINDOW: Duration = Duration::from_secs(30);

pub struct Publisher {
    pub live: Arc<LiveCell>,
    pub state: Arc<State>,
    pub figures: Arc<Published>,
    /// Our own listeners, as they were bound: no endpoint may be one of them.
    pub own: BTreeSet<SocketAddr>,
    /// Where it may go to is hot.
    pub egress: Arc<Egress>,
    /// None where there is no leader: a folder has no apiserver.
    pub leader: Option<Leader>,
}

/// What the leader does with what compile found out: statuses are written, certificates are ordered.
pub struct Leader {
    pub status: Arc<Mailbox<ObjectId, Update>>,
    pub acme: Arc<acme::Mailbox>,
}

impl Publisher {
    /// Until the sources are gone. `readiness` turns ready with the first full compile.
    pub async fn run(
        self,
        mut batches: mpsc::Receiver<Batch>,
        mut settings: watch::Receiver<Arc<Settings>>,
        readiness: Arc<Readiness>,
    ) {
        let mut store = Store::default();
        let mut previous = Previous::default();
        loop {
            let mut seen = Vec::new();
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(batch) => apply(&mut store, batch, &mut seen),
                    None => return,
                },
                Ok(()) = settings.changed() => {}
            }
            // What came while the last compile ran is compiled with this one.
            while let Ok(batch) = batches.try_recv() {
                apply(&mut store, batch, &mut seen);
            }
            if !store.is_complete() {
                let unlisted = store.unlisted();
                readiness.pending(unlisted.map(|kind| format!("the first list of {kind:?}s")).collect());
                continue;
            }
            let (mut routing, listener) = {
                let settings = settings.borrow_and_update();
                self.egress.allow(&settings.allow_egress);
                (settings.routing.clone(), settings.listener.clone())
            };
            routing.endpoints.own = self.own.clone();
            previous = self.publish(&mut store, &routing, &listener, previous);
            readiness.ready();
            for seen in seen {
                self.figures.propagation.observe(seen.elapsed());
            }
        }
    }

    /// One change, from the store to what is served.
    fn publish(&self, store: &mut Store, routing: &Routing, listener: &Arc<Listener>, previous: Previous) -> Previous {
        let started = Instant::now();
        let changes = store.take_changes();
        let compiled = compile(
            &Input {
                store,
                changes: &changes,
                listener,
            },
            routing,
            previous,
        );
        self.figures.compile.observe(started.elapsed());
        let Compiled {
            snapshot,
            previous,
            changed,
            fresh,
            removed,
            reports,
            default_problems,
        } = compiled;
        // Before the swap: a handshake that the old snapshot lets through afterwards still meets the closed door.
        let ending: Vec<_> = removed
            .iter()
            .chain(
                fresh
                    .deployments
                    .iter()
                    .filter(is_stopped)
                    .map(|deployment| &deployment.key),
            )
            .map(|key| self.close(key))
            .filter(|sockets| !sockets.is_empty())
            .collect();
        for deployment in &fresh.deployments {
            let state = self.state.deployment(&deployment.key);
            if !is_stopped(&deployment) {
                state.reopen();
            }
            deployment.runtime.fill(state);
        }
        for upstream in &fresh.upstreams {
            self.state.pair(upstream);
        }
        for policy in &fresh.policies {
            self.state.pair_rules(policy, &self.egress);
        }
        let served = self.live.load();
        let defaults = snapshot.default_certificates.clone();
        *self.figures.default_certificates.lock() = defaults;
        if changed || served.is_none() {
            let version = served.map_or(0, |live| live.version) + 1;
            let hash = snapshot.hash();
            // The retired one is dropped here, on the control runtime.
            drop(self.live.publish(Arc::new(Live { snapshot, version })));
            self.figures.version.store(version, Relaxed);
            self.figures.hash.store(hash, Relaxed);
            debug!(version, hash = format!("{hash:016x}"), took = ?started.elapsed(), "snapshot published");
        }
        // Each in its own time: the clients of one app do not wait for those of another.
        for sockets in ending {
            tokio::spawn(end_spread(sockets, END_WINDOW));
        }
        for problem in default_problems.iter().flatten() {
            warn!(problem, "a default certificate has a problem");
        }
        self.count(store, &reports);
        self.report(store, &changes, &previous, &reports);
        previous
    }

    /// The sockets that are to end with their Deployment.
    fn close(&self, key: &ObjectKey) -> Vec<Arc<Socket>> {
        let sockets = self
            .state
            .existing(key)
            .map(|deployment| deployment.close())
            .unwrap_or_default();
        if !sockets.is_empty() {
            info!(deployment = %key, sockets = sockets.len(), window = ?END_WINDOW, "ending sockets");
        }
        sockets
    }

    fn report(&self, store: &Store, changes: &Changes, previous: &Previous, reports: &[(ObjectId, Option<Subject>)]) {
        let Some(leader) = &self.leader else { return };
        let wanted = reports.iter();
        leader
            .acme
            .post(wanted.map(|(id, report)| (id.clone(), acme::wanted(report.as_ref()))));
        let read = |kind: Kind| changes.of(kind).iter().map(move |key| ObjectId::new(kind, key.clone()));
        let touched: BTreeSet<ObjectId> = reports
            .iter()
            .map(|(id, _)| id.clone())
            .chain(read(Kind::Deployment))
            .chain(read(Kind::SentinelPolicy))
            .chain(changes.observed.iter().cloned())
            .collect();
        leader.status.post(touched.into_iter().map(|id| {
            let update = update(store, previous, &id);
            (id, update)
        }));
    }

    fn count(&self, store: &Store, reports: &[(ObjectId, Option<Subject>)]) {
        let figures = &self.figures;
        for (figure, kind) in [
            (&figures.config_maps, Kind::ConfigMap),
            (&figures.secrets, Kind::Secret),
            (&figures.services, Kind::Service),
            (&figures.slices, Kind::EndpointSlice),
        ] {
            figure.store(store.count(kind) as u64, Relaxed);
        }
        let mut deployments = self.figures.deployments.lock();
        let mut policies = self.figures.policies.lock();
        for (id, report) in reports {
            let key = id.key.clone();
            match report {
                Some(Subject::Deployment(report)) => {
                    deployments.insert(key, (is_accepted(report), report.clone()));
                }
                Some(Subject::SentinelPolicy(report)) => {
                    policies.insert(key, report.state());
                }
                None if id.kind == Kind::SentinelPolicy => {
                    policies.remove(&key);
                }
                None => {
                    deployments.remove(&key);
                }
            }
        }
    }
}

/// What the status of an object should say, and what it says.
fn update(store: &Store, previous: &Previous, id: &ObjectId) -> Update {
    let observed = match id.kind {
        Kind::SentinelPolicy => {
            let status = store.policy(&id.key).and_then(|policy| policy.status.clone());
            status.map(Status::SentinelPolicy)
        }
        _ => {
            let deployment = store.deployment(&id.key);
            let status = deployment.and_then(|deployment| deployment.status.clone());
            status.map(Status::Deployment)
        }
    };
    Update {
        report: previous.report(id).filter(|report| report.is_ours()).cloned(),
        observed,
    }
}

fn is_stopped(deployment: &&Arc<Deployment>) -> bool {
    deployment.state == RunState::Stopped
}

fn is_accepted(report: &Report) -> bool {
    report
        .conditions
        .iter()
        .any(|finding| finding.r#type == ConditionType::Accepted && finding.status)
}

fn apply(store: &mut Store, batch: Batch, seen: &mut Vec<Instant>) {
    seen.push(batch.seen);
    store.apply(batch);
}
