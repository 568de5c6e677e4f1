//! The passes of one compile, in their order: each takes up what those before it have reached.

mod defaults;
mod read;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::host::HostOffer;
use super::references::User;
use super::report::Report;
use super::source::{Asked, SOURCES, Source};
use super::{Compiled, Fresh, Input, Previous, route, route_report, tls};
use crate::config::Routing;
use crate::hostname::HostName;
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::snapshot::{Host, HostTls, Listener, Route};
use crate::store::{Changes, Store};

/// One compile under way: what the changes have reached, and what came of it.
struct Compilation<'a> {
    store: &'a Store,
    routing: &'a Routing,
    memory: Previous,
    reached: Reached,
    changed: bool,
    /// Whether a name has another owner now.
    owners_changed: bool,
    fresh: Fresh,
    removed: Vec<ObjectId>,
}

/// Sorted, so that everything is done and told in the same order everywhere.
#[derive(Default)]
struct Reached {
    services: BTreeSet<ObjectKey>,
    /// Objects whose routes may be other ones now.
    routes: BTreeSet<ObjectId>,
    names: BTreeSet<HostName>,
    policies: BTreeSet<ObjectKey>,
    reports: BTreeSet<ObjectId>,
}

/// How often policies are judged again because others take more or less of what there is. The second round decides; more are
/// there for last good versions that come in.
const MAX_ROUNDS: usize = 8;

/// Takes the changes in. Without a `previous` that was made with the same settings, everything is a change.
pub fn compile(input: &Input<'_>, routing: &Routing, mut previous: Previous) -> Compiled {
    let everything;
    let partial = previous.routing.as_ref() == Some(routing);
    let changes = if partial {
        input.changes
    } else {
        everything = previous.everything(input.store);
        &everything
    };
    previous.routing = Some(routing.clone());
    let mut compilation = Compilation {
        store: input.store,
        routing,
        memory: previous,
        reached: Reached::default(),
        changed: false,
        owners_changed: false,
        fresh: Fresh::default(),
        removed: Vec::new(),
    };
    compilation.listen(input.listener);
    for source in &SOURCES {
        for id in changes.ids([source.kind]) {
            compilation.read(source, &id);
        }
    }
    for key in changes.of(Kind::SentinelPolicy) {
        compilation.read_policy(key);
    }
    let refer_to_other_defaults = compilation.refer_to_defaults();
    let affected = compilation.resolve(changes);
    if !partial {
        compilation.memory.materials.sweep();
        compilation.memory.policies.sweep();
    }
    let mut default_problems = None;
    if refer_to_other_defaults || affected.contains(&User::Installation) {
        default_problems = compilation.keep_defaults();
    }
    compilation.judge();
    compilation.route();
    compilation.settle();
    compilation.challenges(changes.of(Kind::Secret));
    let reports = compilation.report();
    Compiled {
        snapshot: compilation.memory.snapshot.clone(),
        previous: compilation.memory,
        changed: compilation.changed,
        fresh: compilation.fresh,
        removed: compilation.removed,
        reports,
        default_problems,
    }
}

impl Reached {
    /// Something else stands before these objects, or will.
    fn guards(&mut self, objects: BTreeSet<ObjectId>) {
        self.routes.extend(objects.iter().cloned());
        self.reports.extend(objects);
    }

    /// What somebody refers to is something else now.
    fn affect(&mut self, user: &User) {
        match user {
            User::Object(id) => {
                self.routes.insert(id.clone());
                self.reports.insert(id.clone());
            }
            User::Policy(key) => {
                self.policies.insert(key.clone());
            }
            User::Installation => {}
        }
    }
}

impl Compilation<'_> {
    fn listen(&mut self, listener: &Arc<Listener>) {
        if self.memory.snapshot.listener != *listener {
            self.memory.snapshot.listener = listener.clone();
            self.changed = true;
        }
    }

    /// What comes of the policies reached goes into the snapshot.
    fn judge(&mut self) {
        let mut next: Vec<_> = std::mem::take(&mut self.reached.policies).into_iter().collect();
        for _ in 0..MAX_ROUNDS {
            if next.is_empty() {
                return;
            }
            self.judge_each(next);
            next = self.memory.policies.settle();
        }
    }

    fn judge_each(&mut self, keys: Vec<ObjectKey>) {
        for key in keys {
            let services = &mut self.memory.services;
            let fresh = &mut self.fresh.policies;
            let objects = self
                .memory
                .policies
                .judge(&key, self.store, self.routing, services, fresh);
            self.reached.guards(objects);
            let table = &mut self.memory.snapshot.policies;
            match (self.memory.policies.part(&key), table.get(&key)) {
                (Some(new), Some(old)) if Arc::ptr_eq(old, new) => {}
                (Some(new), _) => {
                    table.insert(key.clone(), new.clone());
                    self.changed = true;
                }
                (None, Some(_)) => {
                    table.remove(&key);
                    self.changed = true;
                }
                (None, None) => {}
            }
            self.reached.reports.insert(ObjectId::new(Kind::SentinelPolicy, key));
        }
    }

    /// Looks up what changed or is newly used.
    fn resolve(&mut self, changes: &Changes) -> BTreeSet<User> {
        let affected = self.memory.materials.resolve(changes, self.store);
        affected.iter().for_each(|user| self.reached.affect(user));
        let policies = self.memory.policies.resolve(changes, self.store);
        policies.iter().for_each(|user| self.reached.affect(user));
        self.reached.services.extend(changes.of(Kind::Service).iter().cloned());
        for service in std::mem::take(&mut self.reached.services) {
            let users = self
                .memory
                .services
                .resolve(&service, self.store, self.routing, &mut self.fresh.upstreams);
            users.iter().for_each(|user| self.reached.affect(user));
        }
        affected
    }

    /// Builds the routes of the objects reached, with their TLS and what stands before them. If they differ, all names that
    /// they claim are looked at again.
    fn route(&mut self) {
        for id in &self.reached.routes {
            let Some(object) = self.memory.objects.get_mut(id) else {
                continue;
            };
            let intent = &object.intent;
            let tls = tls::resolved(intent, &self.memory.materials, &object.tls);
            let require_policy = self.routing.require_policy;
            let guard = self.memory.policies.guard(intent, require_policy, &object.guard);
            let routes = route::routes(intent, &self.memory.services, &tls, &guard);
            object.guard = guard;
            if tls != object.tls || routes != object.routes {
                object.tls = tls;
                object.routes = routes;
                let names = intent.hostnames.iter().map(|hostname| hostname.name.clone());
                self.reached.names.extend(names);
            }
        }
    }

    /// Decides who owns each name reached, wildcards first: who owns one decides who may have the names below it.
    fn settle(&mut self) {
        let (mut exact, wildcards) = std::mem::take(&mut self.reached.names)
            .into_iter()
            .partition::<BTreeSet<_>, _>(|name| matches!(name, HostName::Exact(_)));
        for name in wildcards {
            if self.settle_name(&name) {
                exact.extend(self.memory.names.below(&name));
            }
        }
        for name in exact {
            self.settle_name(&name);
        }
    }

    /// Returns whether the name has another owner now.
    fn settle_name(&mut self, name: &HostName) -> bool {
        let objects = &self.memory.objects;
        let offer = |id: &ObjectId| {
            objects
                .get(id)
                .map_or(HostOffer::default(), |object| object.offer(name))
        };
        let settled = self.memory.names.settle(name, offer);
        self.reached.reports.extend(settled.affected);
        self.keep_host(name, settled.host);
        self.owners_changed |= settled.owner_changed;
        settled.owner_changed
    }

    fn keep_host(&mut self, name: &HostName, host: Option<(Box<[Route]>, HostTls)>) {
        let hosts = &mut self.memory.snapshot.hosts;
        let (table, key) = match name {
            HostName::Exact(name) => (&mut hosts.exact, name),
            HostName::Wildcard(parent) => (&mut hosts.one_label, parent),
        };
        let old = table.get(&**key).map(|old| (&old.routes, &old.tls));
        if old == host.as_ref().map(|(routes, tls)| (routes, tls)) {
            return;
        }
        self.changed = true;
        match host {
            Some((routes, tls)) => {
                let name = name.clone();
                table.insert(key.clone(), Arc::new(Host::new(name, routes, tls)));
            }
            None => table.remove(&**key),
        }
    }

    /// The answers to ACME's challenges: they change with their Secrets and with the names' owners.
    fn challenges(&mut self, changed: &BTreeSet<ObjectKey>) {
        let differ = self.memory.answers.read(changed, self.store);
        if !differ && (!self.owners_changed || self.memory.answers.is_empty()) {
            return;
        }
        let challenges = self.memory.answers.challenges(&self.memory.names);
        if *self.memory.snapshot.challenges != challenges {
            self.memory.snapshot.challenges = Arc::new(challenges);
            self.changed = true;
        }
    }

    fn report(&mut self) -> Vec<(ObjectId, Option<Arc<Report>>)> {
        let mut changed = Vec::new();
        for id in std::mem::take(&mut self.reached.reports) {
            let new = match id.kind {
                Kind::SentinelPolicy => self.memory.policies.report(&id.key, &self.routing.class),
                _ => self.object_report(&id),
            };
            if self.memory.reports.get(&id).map(Arc::as_ref) == new.as_ref() {
                continue;
            }
            let new = new.map(Arc::new);
            match &new {
                Some(report) => self.memory.reports.insert(id.clone(), report.clone()),
                None => self.memory.reports.remove(&id),
            };
            changed.push((id, new));
        }
        changed
    }

    fn object_report(&self, id: &ObjectId) -> Option<Report> {
        if let Some(object) = self.memory.objects.get(id) {
            let sources = route_report::Sources {
                names: &self.memory.names,
                services: &self.memory.services,
                materials: &self.memory.materials,
                policies: &self.memory.policies,
                require_policy: self.routing.require_policy,
                default_certificates: &self.memory.snapshot.default_certificates,
            };
            return Some(route_report::report(&object.intent, &object.tls, &sources));
        }
        let reading = (Source::of(id.kind)?.read)(self.store, &id.key, self.routing)?;
        match reading.asked {
            Asked::Undecodable(object) => Some(route_report::undecodable(id, &object, "nothing of it is served")),
            Asked::Nothing | Asked::Intent(_) => None,
        }
    }
}
