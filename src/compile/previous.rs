//! What one compile leaves to the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::acme::Answers;
use super::backend::Services;
use super::host::{HostOffer, Names};
use super::intent::Intent;
use super::policy::{Guard, Policies};
use super::report::Report;
use super::source::SOURCES;
use super::tls::{Client, Materials, ResolvedTls};
use crate::config::Routing;
use crate::hostname::HostName;
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::snapshot::{Route, Snapshot};
use crate::store::{self, Changes, Shared, Store};

/// Memory for unchanged parts. With and without it the result is equal; with it the cost of a change grows with the change.
/// And the last good versions of what is broken at present, which no object tells any more.
#[derive(Default)]
pub struct Previous {
    /// What the memory was made with. None: there is none yet.
    pub(super) routing: Option<Routing>,
    /// Those of our class that can be decoded.
    pub(super) objects: HashMap<ObjectId, CompiledObject>,
    pub(super) services: Services,
    pub(super) materials: Materials,
    pub(super) policies: Policies,
    /// As they were looked up last.
    pub(super) default_secrets: Box<[ObjectKey]>,
    pub(super) default_problems: Vec<String>,
    pub(super) answers: Answers,
    pub(super) names: Names,
    pub(super) reports: BTreeMap<ObjectId, Arc<Report>>,
    /// Objects to which sockets may belong, with the uid: also those that cannot be decoded at present.
    pub(super) alive: HashMap<ObjectId, Arc<str>>,
    pub(super) snapshot: Snapshot,
}

/// An object that asks for routes, and those that it would have where nobody is in its way.
pub(super) struct CompiledObject {
    pub(super) intent: Intent,
    pub(super) tls: ResolvedTls,
    pub(super) guard: Guard,
    pub(super) routes: Box<[Route]>,
}

impl Previous {
    /// Whether it was made with these settings: if not, everything is compiled.
    pub fn is_for(&self, routing: &Routing) -> bool {
        self.routing.as_ref() == Some(routing)
    }

    /// None: there is no such object, or it is not ours to tell of.
    pub fn report(&self, id: &ObjectId) -> Option<&Arc<Report>> {
        self.reports.get(id)
    }

    /// The reports on all objects of our class and on all policies, sorted by namespace and name.
    pub fn reports(&self) -> impl Iterator<Item = &Arc<Report>> {
        self.reports.values()
    }

    /// The objects that claim a hostname by which this host would be found, in no order.
    pub fn claimants(&self, host: &str) -> impl Iterator<Item = &ObjectId> {
        let claims = |intent: &Intent| intent.hostnames.iter().any(|hostname| hostname.name.covers(host));
        let objects = self.objects.iter().filter(move |(_, object)| claims(&object.intent));
        objects.map(|(id, _)| id)
    }

    /// Bytes that the policies of each namespace take.
    pub fn policy_memory(&self) -> &BTreeMap<Arc<str>, usize> {
        self.policies.memory()
    }

    /// Nothing but what the objects do not tell any more: the last good versions of what is broken.
    pub fn last_good(&self) -> Self {
        Self {
            policies: self.policies.last_good(),
            materials: self.materials.last_good(),
            ..Self::default()
        }
    }

    /// Takes a policy for the last good version of its object.
    pub fn remember(&mut self, policy: Arc<store::Policy>) {
        self.policies.remember(policy);
    }

    /// The objects, in their last good versions, that stand in for what is broken at present.
    pub fn stand_ins(&self) -> impl Iterator<Item = Shared> {
        let materials = self.materials.stand_ins().cloned();
        self.policies.stand_ins().chain(materials.map(Shared::from))
    }

    /// Whether anything that is served would be lost without this object. Certificates, Services and slices that nobody
    /// refers to are of no use.
    pub fn uses(&self, object: &Shared) -> bool {
        match object {
            Shared::Service(service) => self.services.has_users(&service.key),
            Shared::EndpointSlice(slice) => {
                let namespace = slice.key.namespace.clone();
                let name = slice.service.clone();
                self.services.has_users(&ObjectKey { namespace, name })
            }
            Shared::Secret(secret) if secret.purpose.is_none() => {
                let id = ObjectId::new(Kind::Secret, secret.key.clone());
                self.materials.certificate(&id).is_some()
            }
            Shared::Secret(_) | Shared::ConfigMap(_) | Shared::Deployment(_) | Shared::SentinelPolicy(_) => true,
        }
    }

    /// Every object there is and every object there was.
    pub(super) fn everything(&self, store: &Store) -> Changes {
        let mut changes = Changes::default();
        let kinds = SOURCES.iter().map(|source| source.kind);
        for kind in kinds.chain([Kind::SentinelPolicy, Kind::Secret]) {
            changes.add(kind, store.keys(kind));
        }
        let known = self
            .reports
            .keys()
            .chain(self.alive.keys())
            .chain(self.policies.objects());
        changes.extend(known.chain(self.materials.ids()).cloned());
        changes.extend(self.policies.references());
        let of = |kind| move |key: &ObjectKey| ObjectId::new(kind, key.clone());
        changes.extend(self.policies.keys().map(of(Kind::SentinelPolicy)));
        changes.extend(self.services.keys().map(of(Kind::Service)));
        changes.extend(self.answers.keys().map(of(Kind::Secret)));
        changes
    }
}

impl CompiledObject {
    pub(super) fn offer(&self, name: &HostName) -> HostOffer<'_> {
        let mut hostnames = self.intent.hostnames.iter();
        let place = hostnames.position(|hostname| hostname.name == *name);
        let certificates = place.and_then(|place| self.tls.certificates.get(place));
        HostOffer {
            routes: &self.routes,
            certificates: certificates.map_or(&[][..], |certificates| certificates),
            client: match &self.tls.client {
                Client::Rule(rule) => Some(rule),
                Client::Anyone | Client::Unresolved => None,
            },
        }
    }
}
