//! The one thread that owns the store: wait, compile, pair, swap, report. Everything that changes what is served passes
//! here, one change after the other.

mod gathering;
pub mod restore;
mod turns;

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::acme;
use crate::admin::Readiness;
use crate::compile::policy::prepare::{Prepared, Slow};
use crate::compile::policy::report::State as PolicyState;
use crate::compile::report::{Details, Report};
use crate::compile::source::SOURCES;
use crate::compile::{Compiled, Fresh, Input, Previous, compile};
use crate::config::{Routing, Settings};
use crate::egress::Egress;
use crate::live::state::State;
use crate::live::{Live, LiveCell, Retired};
use crate::metrics::Published;
use crate::object::{Kind, ObjectId};
use crate::runtime::work;
use crate::saved_state::{SavedState, Saver};
use crate::snapshot::{Deployment, Listener, RunState, Snapshot};
use crate::status::{Mailbox, Status, Update};
use crate::store::{Batch, Changes, Object, Store};
use crate::websocket::deployment_state::end_spread;
use crate::websocket::socket::Socket;
use gathering::Gathering;
use restore::free;
use turns::Turns;

/// Objects that are prepared and not compiled yet; those that prepare others wait.
const PREPARED: usize = 16;
/// Over how long the sockets of a Deployment that is deleted or Stopped are ended.
const END_WINDOW: Duration = Duration::from_secs(30);
/// How soon a retired snapshot is dropped that a request still looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// What publishing needs of the rest of the process.
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
    /// What is served until the sources have said everything.
    pub saved: Option<SavedState<Object>>,
    /// None: no state is saved.
    pub saver: Option<Saver>,
}

/// What the leader does with what compile found out: statuses are written, certificates are ordered.
pub struct Leader {
    pub status: Arc<Mailbox<ObjectId, Update>>,
    pub acme: Arc<acme::Mailbox>,
}

/// What one publish leaves to the next.
#[derive(Default)]
struct Work {
    store: Store,
    previous: Previous,
    retired: Retired,
    turns: Turns,
    /// What has arrived since the start, while a saved state is served. None: what the sources say is served.
    gathering: Option<Gathering>,
    /// Something is served that was not saved yet.
    unsaved: bool,
    /// It was told that no names are granted. Told again when grants come and go.
    told_of_grants: bool,
}

impl Publisher {
    /// Runs on a thread of its own, so that no probe, scrape or watch waits for a big compile. Tasks that it spawns run where
    /// this is called. The answer comes when it has ended.
    pub fn start(
        self,
        batches: mpsc::Receiver<Batch>,
        settings: watch::Receiver<Arc<Settings>>,
        readiness: Arc<Readiness>,
    ) -> io::Result<oneshot::Receiver<()>> {
        let runtime = Handle::current();
        let (ended, end) = oneshot::channel();
        thread::Builder::new().name("publisher".to_owned()).spawn(move || {
            runtime.block_on(self.run(batches, settings, readiness));
            // Nobody may be there any more to hear it.
            let _ = ended.send(());
        })?;
        Ok(end)
    }

    /// Until the sources are gone. `readiness` turns ready with the first full compile.
    async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut settings: watch::Receiver<Arc<Settings>>,
        readiness: Arc<Readiness>,
    ) {
        let mut work = Work::default();
        let (prepared, mut preparing) = mpsc::channel(PREPARED);
        if let Some(saved) = self.saved.take() {
            let (routing, listener) = self.adopt(&mut settings);
            self.restore(&mut work, saved, &routing, &listener);
            readiness.ready();
        }
        loop {
            let mut seen = Vec::new();
            tokio::select! {
                // The end of the sources before all that takes a timer: a runtime that shuts down has none.
                biased;
                () = free(self.saver.as_ref()), if work.unsaved => {
                    self.save(&mut work);
                    continue;
                }
                batch = batches.recv() => match batch {
                    Some(batch) => work.take(batch, &mut seen),
                    None => return self.save(&mut work),
                },
                Ok(()) = settings.changed() => {}
                Some((id, done)) = preparing.recv() => work.turns.done(&id, done),
                () = std::future::ready(()), if work.turns.has_next() => {}
                () = sleep(SWEEP), if !work.retired.is_empty() => {
                    work.retired.sweep();
                    continue;
                }
            }
            // What came while the last compile ran is compiled with this one.
            while let Ok(batch) = batches.try_recv() {
                work.take(batch, &mut seen);
            }
            let replaced = work.replace_saved();
            if !work.store.is_complete() && work.gathering.is_none() {
                let unlisted = work.store.unlisted();
                readiness.pending(unlisted.map(|kind| format!("the first list of {kind:?}s")).collect());
                continue;
            }
            let (routing, listener) = self.adopt(&mut settings);
            self.publish(&mut work, &routing, &listener);
            if replaced {
                self.forget_saved(&mut work);
            }
            for (id, slow) in work.turns.take_wanted() {
                tokio::spawn(prepare(id, slow, prepared.clone()));
            }
            readiness.ready();
            for seen in seen {
                self.figures.propagation.observe(seen.elapsed());
            }
        }
    }

    /// The settings as they are now.
    fn adopt(&self, settings: &mut watch::Receiver<Arc<Settings>>) -> (Routing, Arc<Listener>) {
        let settings = settings.borrow_and_update();
        self.egress.allow(&settings.allow_egress);
        let mut routing = settings.routing.clone();
        routing.endpoints.own = self.own.clone();
        (routing, settings.listener.clone())
    }

    /// One change, from the store to what is served.
    fn publish(&self, work: &mut Work, routing: &Routing, listener: &Arc<Listener>) {
        let started = Instant::now();
        let changes = work.store.take_changes();
        work.turns.add(changes, &work.store);
        let changes = match work.previous.is_for(routing) {
            true => work.turns.next().unwrap_or_default(),
            false => work.turns.all(),
        };
        let input = Input {
            store: &work.store,
            changes: &changes,
            listener,
        };
        let Compiled {
            snapshot,
            previous,
            changed,
            fresh,
            removed,
            reports,
            default_problems,
        } = compile(&input, routing, mem::take(&mut work.previous));
        let took = started.elapsed();
        self.figures.compile.observe(took);
        work.turns.took(took);
        // Before the swap: a handshake that the old snapshot lets through afterwards still meets the closed door.
        let ending = self.refuse_sockets_of_removed(&removed, &fresh);
        self.pair_fresh(&fresh);
        *self.figures.default_certificates.lock() = snapshot.default_certificates.clone();
        self.swap(snapshot, changed, started, &mut work.retired);
        // Each in its own time: the clients of one app do not wait for those of another.
        for sockets in ending {
            tokio::spawn(end_spread(sockets, END_WINDOW));
        }
        for problem in default_problems.iter().flatten() {
            warn!(problem, "a default certificate has a problem");
        }
        self.count(&work.store, &reports);
        if *self.figures.policy_memory.lock() != *previous.policy_memory() {
            *self.figures.policy_memory.lock() = previous.policy_memory().clone();
        }
        self.tell_of_grants(routing, &mut work.told_of_grants);
        work.previous = previous;
        // What was saved is no news: others write what is true by now.
        if work.gathering.is_none() {
            self.report(&work.store, &changes, &work.previous, &reports);
            work.unsaved |= changed;
        }
    }

    /// Closes the Deployments that are gone or Stopped, and returns the sockets of each that are to end.
    fn refuse_sockets_of_removed(&self, removed: &[ObjectId], fresh: &Fresh) -> Vec<Vec<Arc<Socket>>> {
        let stopped = fresh.deployments.iter().filter(is_stopped);
        removed
            .iter()
            .chain(stopped.map(|deployment| &deployment.id))
            .map(|id| self.refuse_sockets(id))
            .filter(|sockets| !sockets.is_empty())
            .collect()
    }

    /// Gives the parts that are new in a snapshot the runtime state that their keys already had, if any.
    fn pair_fresh(&self, fresh: &Fresh) {
        for deployment in &fresh.deployments {
            let state = self.state.deployment(&deployment.id);
            if !is_stopped(&deployment) {
                state.accept_new_sockets();
            }
            deployment.runtime.fill(state);
        }
        for upstream in &fresh.upstreams {
            self.state.pair(upstream);
        }
        for policy in &fresh.policies {
            self.state.pair_rules(policy, &self.egress);
        }
    }

    /// Serves the snapshot, if it says anything new.
    fn swap(&self, snapshot: Snapshot, changed: bool, started: Instant, retired: &mut Retired) {
        let served = self.live.look().as_ref().map(|live| live.version);
        if served.is_some() && !changed {
            return;
        }
        let version = served.unwrap_or_default() + 1;
        let hash = snapshot.hash();
        retired.keep(self.live.publish(Arc::new(Live { snapshot, version })));
        self.figures.version.store(version, Relaxed);
        self.figures.hash.store(hash, Relaxed);
        debug!(version, hash = format!("{hash:016x}"), took = ?started.elapsed(), "snapshot published");
    }

    /// The sockets that are to end with their Deployment.
    fn refuse_sockets(&self, id: &ObjectId) -> Vec<Arc<Socket>> {
        let sockets = self
            .state
            .existing(id)
            .map(|deployment| deployment.refuse_new_sockets())
            .unwrap_or_default();
        if !sockets.is_empty() {
            info!(deployment = %id.key, sockets = sockets.len(), window = ?END_WINDOW, "ending sockets");
        }
        sockets
    }

    fn report(
        &self,
        store: &Store,
        changes: &Changes,
        previous: &Previous,
        reports: &[(ObjectId, Option<Arc<Report>>)],
    ) {
        let Some(leader) = &self.leader else { return };
        let wanted = reports.iter();
        leader
            .acme
            .post(wanted.map(|(id, report)| (id.clone(), acme::wanted(report.as_deref()))));
        let sources = SOURCES.iter().flat_map(|source| changes.ids([source.kind]));
        let touched: BTreeSet<ObjectId> = reports
            .iter()
            .map(|(id, _)| id.clone())
            .chain(sources)
            .chain(changes.ids([Kind::SentinelPolicy]))
            .chain(changes.observed.iter().cloned())
            .collect();
        leader.status.post(touched.into_iter().filter_map(|id| {
            let update = update(store, previous, &id)?;
            Some((id, update))
        }));
    }

    /// Once. A folder is one operator's, whatever its namespaces.
    fn tell_of_grants(&self, routing: &Routing, told: &mut bool) {
        *told &= routing.hostname_grants.is_none();
        if *told || routing.hostname_grants.is_some() || self.leader.is_none() {
            return;
        }
        let deployments = self.figures.deployments.lock();
        let ends = (deployments.first_key_value(), deployments.last_key_value());
        if let (Some((first, _)), Some((last, _))) = ends
            && first.namespace() != last.namespace()
        {
            *told = true;
            warn!(
                namespaces = format!("{}, {}, ...", first.namespace(), last.namespace()),
                "hostnameGrants is not set, and Deployments are of several namespaces: the first to list a hostname has it"
            );
        }
    }

    fn count(&self, store: &Store, reports: &[(ObjectId, Option<Arc<Report>>)]) {
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
            let Some(report) = report else {
                deployments.remove(id);
                policies.remove(id);
                continue;
            };
            match &report.details {
                Details::Routes(_) => {
                    deployments.insert(id.clone(), report.clone());
                }
                Details::Policy(_) => {
                    policies.insert(id.clone(), PolicyState::of(report));
                }
            }
        }
    }
}

/// What the status of an object should say, and what it says. None: its kind has no status of ours.
fn update(store: &Store, previous: &Previous, id: &ObjectId) -> Option<Update> {
    let observed = match id.kind {
        Kind::SentinelPolicy => {
            let policy = store.policy(&id.key);
            policy.and_then(|policy| Some(Status::SentinelPolicy(policy.status.clone()?)))
        }
        Kind::Deployment => {
            let deployment = store.deployment(&id.key);
            deployment.and_then(|deployment| Some(Status::Deployment(deployment.status.clone()?)))
        }
        _ => return None,
    };
    Some(Update {
        report: previous.report(id).filter(|report| report.is_ours()).cloned(),
        observed,
    })
}

fn is_stopped(deployment: &&Arc<Deployment>) -> bool {
    deployment.state == RunState::Stopped
}

/// Aside, in the namespace's turn; whatever becomes of it, the compile does what is left.
async fn prepare(id: ObjectId, slow: Slow, to: mpsc::Sender<(ObjectId, Prepared)>) {
    let prepared = work::aside(id.namespace(), move || slow.prepare()).await;
    // Nobody is there any more at the end.
    let _ = to.send((id, prepared.unwrap_or_default())).await;
}
