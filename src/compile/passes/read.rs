//! The first pass: changed objects are read, and what they refer to and claim is noted.

use std::collections::BTreeSet;

use super::Compilation;
use crate::compile::host::Claim;
use crate::compile::intent::{HostnameIntent, Intent, Reference};
use crate::compile::previous::CompiledObject;
use crate::compile::references::User;
use crate::compile::source::{Asked, Reading, Source};
use crate::compile::syntax::PortRef;
use crate::object::{Kind, ObjectId, ObjectKey};

impl Compilation<'_> {
    /// Takes one changed object in: what the routes share of it, what it refers to and which names it claims.
    pub(super) fn read(&mut self, source: &Source, id: &ObjectId) {
        let (candidate, asked) = match (source.read)(self.store, &id.key, self.routing) {
            Some(Reading { candidate, asked }) => (Some(candidate), asked),
            None => (None, Asked::Nothing),
        };
        let policies = self.memory.policies.read_object(id, candidate).into_iter();
        let policies = policies.map(|key| ObjectId::new(Kind::SentinelPolicy, key));
        self.reached.reports.extend(policies);
        self.track_life(id, &asked);
        let intent = match asked {
            Asked::Intent(intent) => Some(self.keep_deployment(*intent)),
            Asked::Nothing | Asked::Undecodable(_) => None,
        };
        if intent.is_none() && self.memory.snapshot.deployments.get(id).is_some() {
            self.memory.snapshot.deployments.remove(id);
            self.changed = true;
        }
        let old = self.memory.objects.remove(id);
        self.refer(id, intent.as_ref(), old.as_ref().map(|old| &old.intent));
        self.claim(intent.as_ref(), old.as_ref().map(|old| &old.intent));
        if let Some(intent) = intent {
            let (tls, guard, routes) = old.map(|old| (old.tls, old.guard, old.routes)).unwrap_or_default();
            let object = CompiledObject {
                intent,
                tls,
                guard,
                routes,
            };
            self.memory.objects.insert(id.clone(), object);
            self.reached.routes.insert(id.clone());
        }
        self.reached.reports.insert(id.clone());
    }

    /// Sockets belong to an object, by its uid, as long as it exists and is of our class; whether it can be decoded at
    /// present is no matter.
    fn track_life(&mut self, id: &ObjectId, asked: &Asked) {
        let uid = match asked {
            Asked::Nothing => None,
            Asked::Intent(intent) => Some(&intent.deployment.uid),
            Asked::Undecodable(object) => Some(&object.uid),
        };
        let alive = &mut self.memory.alive;
        if alive.get(id).is_some_and(|known| Some(known) != uid) {
            alive.remove(id);
            self.removed.push(id.clone());
        }
        if let Asked::Intent(intent) = asked {
            alive.insert(id.clone(), intent.deployment.uid.clone());
        }
    }

    /// What the routes share of the object goes into the snapshot, unless an equal one is there: then that one stays.
    fn keep_deployment(&mut self, mut intent: Intent) -> Intent {
        let table = &mut self.memory.snapshot.deployments;
        let new = &intent.deployment;
        match table.get(&new.id) {
            Some(old) if old == new => intent.deployment = old.clone(),
            _ => {
                table.insert(new.id.clone(), new.clone());
                self.fresh.deployments.push(new.clone());
                self.changed = true;
            }
        }
        intent
    }

    /// Notes what the object refers to. New references come before the old ones go, so that what both name is kept as it is.
    fn refer(&mut self, id: &ObjectId, new: Option<&Intent>, old: Option<&Intent>) {
        let user = User::Object(id.clone());
        let ports = |intent: Option<&Intent>| -> BTreeSet<(ObjectKey, PortRef)> {
            let backends = intent.into_iter().flat_map(Intent::backends);
            backends
                .map(|backend| (backend.service.clone(), backend.port.clone()))
                .collect()
        };
        let (new_ports, old_ports) = (ports(new), ports(old));
        for (service, port) in &new_ports {
            self.memory.services.add_user(service, port, &user);
            self.reached.services.insert(service.clone());
        }
        for (service, port) in old_ports.difference(&new_ports) {
            self.memory.services.remove_user(service, port, &user);
        }
        let materials = |intent: Option<&Intent>| -> BTreeSet<Reference> {
            intent.into_iter().flat_map(|intent| intent.tls.references()).collect()
        };
        let (new_materials, old_materials) = (materials(new), materials(old));
        for reference in &new_materials {
            self.memory.materials.add_user(reference, user.clone());
        }
        for reference in old_materials.difference(&new_materials) {
            self.memory.materials.remove_user(reference, &user);
        }
    }

    /// Takes the old claims to hostnames back and makes the new ones.
    fn claim(&mut self, new: Option<&Intent>, old: Option<&Intent>) {
        if let Some(old) = old {
            for HostnameIntent { name, .. } in &old.hostnames {
                self.memory.names.withdraw(name, &old.age());
                self.reached.names.insert(name.clone());
            }
        }
        if let Some(new) = new {
            for HostnameIntent { name, right, .. } in &new.hostnames {
                self.memory.names.claim(name, Claim::new(new.age(), *right));
                self.reached.names.insert(name.clone());
            }
        }
    }

    /// Takes one changed policy in: whom it concerns.
    pub(super) fn read_policy(&mut self, key: &ObjectKey) {
        let services = &mut self.memory.services;
        let objects = self.memory.policies.read(key, self.store, services);
        let referred = self.memory.policies.services(key).cloned();
        self.reached.services.extend(referred);
        self.reached.guards(objects);
        self.reached.policies.insert(key.clone());
    }
}
