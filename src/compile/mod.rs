//! `compile`: what the sources say, turned into what the data plane routes by, and a report on what could not be.
//! Pure: no clock, no I/O, no await. The same objects give the same snapshot, whatever the order of events.
//!
//! The passes, each over what a change has reached so far:
//!
//! ```text
//! deployment  one object, parsed                 ─► the names it claims, the Services it uses
//! backend     a Service's port                   ─► an upstream with its endpoints
//! route       a Deployment's paths and upstreams ─► routes
//! tls         Secrets and ConfigMaps it names    ─► certificates and authorities
//! policy      a SentinelPolicy object            ─► rules, and the Deployments that they stand before
//! host        a name's claims                    ─► its owner, and the owner's routes and certificates merged
//! report      what was found on the way
//! ```

pub mod acme;
mod backend;
mod endpoint;
mod host;
pub mod policy;
mod previous;
pub mod problem;
mod references;
pub mod report;
mod route;
pub mod source;
pub mod subject;
pub mod syntax;
pub mod tls;
pub mod wanted;

pub use previous::Previous;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Routing;
use crate::hostname::HostName;
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::policy::Policy;
use crate::snapshot::{Deployment, Host, HostTls, Listener, Route, Snapshot};
use crate::store::{self, Changes, Store};
use crate::tls::Certificate;
use crate::upstream::Upstream;
use host::{Claim, Offer};
use previous::Known;
use references::User;
use report::{Report, Sources};
use source::deployment;
use subject::Subject;
use wanted::{Reference, Wanted};

/// What one compile works from.
pub struct Input<'a> {
    pub store: &'a Store,
    /// What changed since the compile that left `previous`. Not looked at when `previous` is empty or other settings made it.
    pub changes: &'a Changes,
    /// Passed on as it is.
    pub listener: &'a Arc<Listener>,
}

pub struct Compiled {
    pub snapshot: Snapshot,
    /// To be handed to the next compile.
    pub previous: Previous,
    /// Whether the snapshot differs from the one before: if not, there is nothing to swap.
    pub changed: bool,
    /// Parts of the snapshot that are new in it and have no runtime state yet.
    pub fresh: Fresh,
    /// Deployments of our class that are gone: their sockets end. Those that are now Stopped are found in `fresh`.
    /// One that was replaced by another object of the same name is in both, and the sockets of the old one end.
    pub removed: Vec<ObjectKey>,
    /// The reports that differ from the ones before; None: the object is gone.
    pub reports: Vec<(ObjectId, Option<Subject>)>,
    /// What is wrong with the installation's default certificates, where that is something else than before.
    pub default_problems: Option<Vec<String>>,
}

#[derive(Default)]
pub struct Fresh {
    pub deployments: Vec<Arc<Deployment>>,
    pub policies: Vec<Arc<Policy>>,
    pub upstreams: Vec<Arc<Upstream>>,
}

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
    removed: Vec<ObjectKey>,
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
    for key in changes.of(Kind::Deployment) {
        compilation.read(&ObjectId::new(Kind::Deployment, key.clone()));
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
    compilation.answer(changes.of(Kind::Secret));
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

    /// Takes one changed Deployment in: its own part of the snapshot, what it uses and which names it claims.
    fn read(&mut self, id: &ObjectId) {
        let object = self.store.deployment(&id.key);
        let policies = self.memory.policies.read_deployment(id, object.map(Arc::as_ref));
        let policies = policies.into_iter().map(|key| ObjectId::new(Kind::SentinelPolicy, key));
        self.reached.reports.extend(policies);
        let ours = object.filter(|object| match &object.spec {
            Ok(spec) => *spec.class_name == *self.routing.class,
            // The class is not known: it may be ours, and saying nothing about a broken object helps nobody.
            Err(_) => true,
        });
        let wanted = ours.and_then(|object| Some((object, object.spec.as_ref().ok()?)));
        let wanted = wanted.map(|(object, spec)| deployment::parse(object, spec, self.routing));

        self.track_life(id, ours.map(Arc::as_ref));
        let wanted = wanted.map(|wanted| self.keep_part(wanted));
        if wanted.is_none() && self.memory.snapshot.deployments.get(&id.key).is_some() {
            self.memory.snapshot.deployments.remove(&id.key);
            self.changed = true;
        }

        // The new uses and claims come before the old ones go, so that what both name is kept as it is.
        let old = self.memory.deployments.remove(id);
        let user = User::Object(id.clone());
        if let Some(wanted) = &wanted {
            for (service, port) in wanted.uses() {
                self.memory.services.add_user(service, port, &user);
                self.reached.services.insert(service.clone());
            }
            for reference in wanted.tls.references() {
                self.memory.materials.add_user(&reference, user.clone());
            }
        }
        if let Some(Known { wanted: old, .. }) = &old {
            let still: BTreeSet<_> = wanted.iter().flat_map(Wanted::uses).collect();
            for (service, port) in old.uses().filter(|used| !still.contains(used)) {
                self.memory.services.remove_user(service, port, &user);
            }
            let still: BTreeSet<Reference> = wanted.iter().flat_map(|wanted| wanted.tls.references()).collect();
            for reference in old.tls.references().filter(|used| !still.contains(used)) {
                self.memory.materials.remove_user(&reference, &user);
            }
            for claimed in &old.names {
                self.memory.names.withdraw(&claimed.name, &old.age());
                self.reached.names.insert(claimed.name.clone());
            }
        }
        if let Some(wanted) = wanted {
            for claimed in &wanted.names {
                let claim = Claim::new(wanted.age(), claimed.right);
                self.memory.names.claim(&claimed.name, claim);
                self.reached.names.insert(claimed.name.clone());
            }
            let (terms, guard, routes) = old.map(|old| (old.terms, old.guard, old.routes)).unwrap_or_default();
            let known = Known {
                wanted,
                terms,
                guard,
                routes,
            };
            self.memory.deployments.insert(id.clone(), known);
            self.reached.routes.insert(id.clone());
        }
        self.reached.reports.insert(id.clone());
    }

    /// Sockets belong to an object, by its uid, as long as it exists and is of our class; whether it can be decoded at
    /// present is no matter.
    fn track_life(&mut self, id: &ObjectId, ours: Option<&store::Deployment>) {
        let alive = &mut self.memory.alive;
        if alive
            .get(id)
            .is_some_and(|uid| ours.is_none_or(|ours| ours.uid != *uid))
        {
            alive.remove(id);
            self.removed.push(id.key.clone());
        }
        if let Some(object) = ours.filter(|object| object.spec.is_ok()) {
            alive.insert(id.clone(), object.uid.clone());
        }
    }

    /// The Deployment's own part goes into the snapshot, unless an equal one is there: then that one stays.
    fn keep_part(&mut self, mut wanted: Wanted) -> Wanted {
        let table = &mut self.memory.snapshot.deployments;
        match table.get(&wanted.part.key) {
            Some(old) if *old == wanted.part => wanted.part = old.clone(),
            _ => {
                table.insert(wanted.part.key.clone(), wanted.part.clone());
                self.fresh.deployments.push(wanted.part.clone());
                self.changed = true;
            }
        }
        wanted
    }

    /// Takes one changed policy in: whom it concerns.
    fn read_policy(&mut self, key: &ObjectKey) {
        let services = &mut self.memory.services;
        let deployments = self.memory.policies.read(key, self.store, services);
        let referred = self.memory.policies.services(key).cloned();
        self.reached.services.extend(referred);
        self.reached.guards(deployments);
        self.reached.policies.insert(key.clone());
    }

    /// What comes of the policies reached goes into the snapshot.
    fn judge(&mut self) {
        for key in std::mem::take(&mut self.reached.policies) {
            let services = &mut self.memory.services;
            let fresh = &mut self.fresh.policies;
            let deployments = self
                .memory
                .policies
                .judge(&key, self.store, self.routing, services, fresh);
            self.reached.guards(deployments);
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

    /// The installation's settings name Secrets too. Returns whether they name others than before.
    fn refer_to_defaults(&mut self) -> bool {
        let Previous {
            materials,
            default_secrets,
            ..
        } = &mut self.memory;
        if *default_secrets == self.routing.default_tls_secrets {
            return false;
        }
        for key in &self.routing.default_tls_secrets {
            materials.add_user(&Reference::Certificate(key.clone()), User::Installation);
        }
        for key in default_secrets
            .iter()
            .filter(|key| !self.routing.default_tls_secrets.contains(key))
        {
            materials.remove_user(&Reference::Certificate(key.clone()), &User::Installation);
        }
        *default_secrets = self.routing.default_tls_secrets.clone();
        true
    }

    /// The default certificates go into the snapshot. They are nobody's in particular, so what is wrong with them is told
    /// to the operator, if it is something else than before.
    fn keep_defaults(&mut self) -> Option<Vec<String>> {
        let mut certificates: Vec<Arc<Certificate>> = Vec::new();
        let mut problems = Vec::new();
        for key in &self.memory.default_secrets {
            let Some(found) = self.memory.materials.certificate(key) else {
                continue;
            };
            let leaf = found.part.as_ref();
            if let Some(problem) = &found.problem {
                let instead = leaf.map_or("", |_| "; its last good version is used");
                problems.push(format!("default certificate: Secret {key} {problem}{instead}"));
            }
            certificates.extend(leaf.map(|leaf| leaf.certificate.clone()));
        }
        let snapshot = &mut self.memory.snapshot;
        if *snapshot.default_certificates != *certificates {
            let names = |list: &[Arc<Certificate>]| -> BTreeSet<HostName> {
                list.iter()
                    .flat_map(|certificate| certificate.names.iter().cloned())
                    .collect()
            };
            // Who has none of its own is told whether a default one covers it.
            if names(&certificates) != names(&snapshot.default_certificates) {
                self.reached.reports.extend(self.memory.deployments.keys().cloned());
            }
            snapshot.default_certificates = certificates.into();
            self.changed = true;
        }
        if problems == self.memory.default_problems {
            return None;
        }
        self.memory.default_problems.clone_from(&problems);
        Some(problems)
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

    /// Builds the routes of the Deployments reached, with their terms of TLS and what stands before them. If they differ, all names that they list are
    /// looked at again.
    fn route(&mut self) {
        for id in &self.reached.routes {
            let Some(known) = self.memory.deployments.get_mut(id) else {
                continue;
            };
            let terms = tls::terms(&known.wanted, &self.memory.materials, &known.terms);
            let require_policy = self.routing.require_policy;
            let guard = self.memory.policies.guard(&known.wanted, require_policy, &known.guard);
            let routes = route::routes(&known.wanted, &self.memory.services, &terms, &guard);
            known.guard = guard;
            if terms != known.terms || routes != known.routes {
                known.terms = terms;
                known.routes = routes;
                let names = known.wanted.names.iter().map(|claimed| claimed.name.clone());
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
        let deployments = &self.memory.deployments;
        let offer = |id: &ObjectId| deployments.get(id).map_or(Offer::default(), |known| known.offer(name));
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
    fn answer(&mut self, changed: &BTreeSet<ObjectKey>) {
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

    fn report(&mut self) -> Vec<(ObjectId, Option<Subject>)> {
        let mut changed = Vec::new();
        for id in std::mem::take(&mut self.reached.reports) {
            let new = match id.kind {
                Kind::SentinelPolicy => {
                    let report = self.memory.policies.report(&id.key, &self.routing.class);
                    report.map(|report| Subject::SentinelPolicy(Arc::new(report)))
                }
                _ => {
                    let report = self.object_report(&id);
                    report.map(|report| Subject::Deployment(Arc::new(report)))
                }
            };
            if self.memory.reports.get(&id) == new.as_ref() {
                continue;
            }
            match &new {
                Some(report) => self.memory.reports.insert(id.clone(), report.clone()),
                None => self.memory.reports.remove(&id),
            };
            changed.push((id, new));
        }
        changed
    }

    fn object_report(&self, id: &ObjectId) -> Option<Report> {
        let sources = Sources {
            names: &self.memory.names,
            services: &self.memory.services,
            materials: &self.memory.materials,
            policies: &self.memory.policies,
            require_policy: self.routing.require_policy,
            default_certificates: &self.memory.snapshot.default_certificates,
        };
        match self.memory.deployments.get(id) {
            Some(known) => Some(report::report(&known.wanted, &known.terms, &sources)),
            None => report::undecodable(self.store.deployment(&id.key)?),
        }
    }
}

#[cfg(test)]
mod tests;
