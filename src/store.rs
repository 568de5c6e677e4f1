//! What the watches have delivered: trimmed objects by key, and which keys changed since the last compile.
//! One task owns the store; nothing here blocks or looks at a clock. Full Kubernetes objects never get this far.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use strum::VariantArray;

use crate::api::deployment::{DeploymentSpec, DeploymentStatus};
use crate::api::policy::{Mode, SentinelPolicySpec, SentinelPolicyStatus};
pub use crate::object::Kind;
use crate::object::{Data, ObjectId, ObjectKey};

/// A Postern Deployment as far as compile and status need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    pub generation: i64,
    /// creationTimestamp in Unix seconds: the apiserver knows no finer one.
    pub created: i64,
    pub labels: Labels,
    /// What the object asks for, or why it could not be decoded: a broken object costs only itself.
    pub spec: Result<Arc<DeploymentSpec>, Arc<str>>,
    /// The status as last seen at the source, so that equal statuses are not written again. Compile never reads it.
    pub status: Option<Arc<DeploymentStatus>>,
}

/// A SentinelPolicy as far as compile and status need it. It is decoded in two steps, so that one whose rules are not
/// understood still says whom it concerns.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    pub generation: i64,
    /// creationTimestamp in Unix seconds.
    pub created: i64,
    /// The Deployments that it stands before, or why that is not understood.
    pub targets: Result<Arc<Targets>, Arc<str>>,
    /// None: not understood.
    pub mode: Option<Mode>,
    /// A rule says for itself that it is enforced, whatever the policy's mode.
    pub has_enforced_rule: bool,
    pub priority: i32,
    /// All of it, or why it could not be decoded.
    pub spec: Result<Arc<SentinelPolicySpec>, Arc<str>>,
    /// As last seen at the source. Compile never reads it.
    pub status: Option<Arc<SentinelPolicyStatus>>,
}

/// The Deployments of a policy's namespace that it stands before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    Named(BTreeSet<Box<str>>),
    /// By labels, which all have to be there.
    Selected(BTreeMap<String, String>),
}

/// metadata.labels.
pub type Labels = Arc<BTreeMap<String, String>>;

/// A core/v1 Service, trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub key: ObjectKey,
    pub external_name: bool,
    pub selectorless: bool,
    pub ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub name: Option<Arc<str>>,
    pub port: u16,
    /// "TCP", "UDP" or "SCTP".
    pub protocol: Arc<str>,
    pub app_protocol: Option<Arc<str>>,
}

/// A discovery.k8s.io/v1 EndpointSlice, trimmed. FQDN slices never get here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    pub key: ObjectKey,
    /// The label kubernetes.io/service-name.
    pub service: Arc<str>,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<SliceEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    pub name: Option<Arc<str>>,
    pub port: u16,
    pub protocol: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    pub addresses: Vec<IpAddr>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

/// A core/v1 Secret, trimmed: one of type kubernetes.io/tls, or one that carries the label postern.dev/use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    /// Of an API key: for selectors.
    pub labels: Labels,
    pub tls: bool,
    /// The label postern.dev/use.
    pub purpose: Option<Arc<str>>,
    pub data: Data,
}

/// A core/v1 ConfigMap that carries the label postern.dev/use, trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    pub purpose: Arc<str>,
    pub data: Data,
}

/// One watched object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    ConfigMap(ConfigMap),
    Deployment(Deployment),
    EndpointSlice(EndpointSlice),
    Secret(Secret),
    SentinelPolicy(Policy),
    Service(Service),
}

/// What a source (apiserver or folder) tells the store.
#[derive(Clone, Debug)]
pub enum Event {
    Apply(Object),
    Delete(Kind, ObjectKey),
    /// A list of this kind is complete: what it does not hold has vanished, however many deletions were missed.
    Listed(Kind, BTreeSet<ObjectKey>),
}

/// Keys that changed since the changes were last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Deployments that are new, gone, or differ in more than their status.
    pub deployments: BTreeSet<ObjectKey>,
    /// The same of SentinelPolicies.
    pub policies: BTreeSet<ObjectKey>,
    /// Services whose own object or whose slices changed.
    pub services: BTreeSet<ObjectKey>,
    pub secrets: BTreeSet<ObjectKey>,
    pub config_maps: BTreeSet<ObjectKey>,
    /// Objects whose status at the source is another one now: compile does not care, the status writer does.
    pub observed: BTreeSet<ObjectId>,
}

/// What a source saw at one moment; applied as one.
#[derive(Clone, Debug)]
pub struct Batch {
    pub events: Vec<Event>,
    /// When the source saw it: the start of postern_propagation_seconds.
    pub seen: Instant,
}

/// All objects, sorted by key.
#[derive(Debug, Default)]
pub struct Store {
    deployments: BTreeMap<ObjectKey, Arc<Deployment>>,
    policies: BTreeMap<ObjectKey, Arc<Policy>>,
    services: BTreeMap<ObjectKey, Arc<Service>>,
    secrets: BTreeMap<ObjectKey, Arc<Secret>>,
    config_maps: BTreeMap<ObjectKey, Arc<ConfigMap>>,
    /// By Service, then by slice name.
    slices: BTreeMap<ObjectKey, BTreeMap<Arc<str>, Arc<EndpointSlice>>>,
    /// Which Service a slice belongs to: its label can change, and a deletion does not carry it.
    slice_owner: BTreeMap<ObjectKey, ObjectKey>,
    listed: BTreeSet<Kind>,
    changes: Changes,
}

impl Store {
    /// Equal objects are no change: sources may repeat themselves.
    pub fn apply(&mut self, batch: Batch) {
        for event in batch.events {
            match event {
                Event::Apply(Object::Deployment(deployment)) => self.put_deployment(deployment),
                Event::Apply(Object::SentinelPolicy(policy)) => self.put_policy(policy),
                Event::Apply(Object::Service(service)) => {
                    put(
                        &mut self.services,
                        &mut self.changes.services,
                        service.key.clone(),
                        service,
                    );
                }
                Event::Apply(Object::EndpointSlice(slice)) => self.put_slice(slice),
                Event::Apply(Object::Secret(secret)) => {
                    put(&mut self.secrets, &mut self.changes.secrets, secret.key.clone(), secret);
                }
                Event::Apply(Object::ConfigMap(map)) => {
                    put(
                        &mut self.config_maps,
                        &mut self.changes.config_maps,
                        map.key.clone(),
                        map,
                    );
                }
                Event::Delete(kind, key) => self.remove(kind, &key),
                Event::Listed(kind, keys) => self.listed(kind, &keys),
            }
        }
    }

    /// Every kind has been listed: what is here is the whole world, and may be compiled.
    pub fn is_complete(&self) -> bool {
        self.unlisted().next().is_none()
    }

    /// The kinds that have not been listed yet.
    pub fn unlisted(&self) -> impl Iterator<Item = Kind> {
        Kind::VARIANTS
            .iter()
            .copied()
            .filter(|kind| !self.listed.contains(kind))
    }

    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    pub fn deployments(&self) -> impl Iterator<Item = &Arc<Deployment>> {
        self.deployments.values()
    }

    pub fn deployment(&self, key: &ObjectKey) -> Option<&Arc<Deployment>> {
        self.deployments.get(key)
    }

    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    pub fn policy(&self, key: &ObjectKey) -> Option<&Arc<Policy>> {
        self.policies.get(key)
    }

    pub fn service(&self, key: &ObjectKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        self.secrets.values()
    }

    pub fn secret(&self, key: &ObjectKey) -> Option<&Arc<Secret>> {
        self.secrets.get(key)
    }

    pub fn config_map(&self, key: &ObjectKey) -> Option<&Arc<ConfigMap>> {
        self.config_maps.get(key)
    }

    /// In the order of the slices' names.
    pub fn slices(&self, service: &ObjectKey) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices.get(service).into_iter().flat_map(BTreeMap::values)
    }

    /// How many objects of this kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::ConfigMap => self.config_maps.len(),
            Kind::Deployment => self.deployments.len(),
            Kind::EndpointSlice => self.slice_owner.len(),
            Kind::Secret => self.secrets.len(),
            Kind::SentinelPolicy => self.policies.len(),
            Kind::Service => self.services.len(),
        }
    }

    fn put_deployment(&mut self, new: Deployment) {
        let key = new.key.clone();
        let old = self.deployments.get(&key);
        if old.is_none_or(|old| !old.asks_the_same(&new)) {
            self.changes.deployments.insert(key.clone());
        }
        if old.and_then(|old| old.status.as_ref()) != new.status.as_ref() {
            self.changes
                .observed
                .insert(ObjectId::new(Kind::Deployment, key.clone()));
        }
        if old.is_none_or(|old| **old != new) {
            self.deployments.insert(key, Arc::new(new));
        }
    }

    fn put_policy(&mut self, new: Policy) {
        let key = new.key.clone();
        let old = self.policies.get(&key);
        if old.is_none_or(|old| !old.asks_the_same(&new)) {
            self.changes.policies.insert(key.clone());
        }
        if old.and_then(|old| old.status.as_ref()) != new.status.as_ref() {
            self.changes
                .observed
                .insert(ObjectId::new(Kind::SentinelPolicy, key.clone()));
        }
        if old.is_none_or(|old| **old != new) {
            self.policies.insert(key, Arc::new(new));
        }
    }

    fn put_slice(&mut self, new: EndpointSlice) {
        let service = ObjectKey {
            namespace: new.key.namespace.clone(),
            name: new.service.clone(),
        };
        if self.slice_owner.get(&new.key).is_some_and(|owner| *owner != service) {
            self.remove_slice(&new.key);
        }
        let siblings = self.slices.entry(service.clone()).or_default();
        if siblings.get(&new.key.name).is_none_or(|old| **old != new) {
            self.slice_owner.insert(new.key.clone(), service.clone());
            siblings.insert(new.key.name.clone(), Arc::new(new));
            self.changes.services.insert(service);
        }
    }

    fn remove(&mut self, kind: Kind, key: &ObjectKey) {
        match kind {
            Kind::ConfigMap => take(&mut self.config_maps, &mut self.changes.config_maps, key),
            Kind::Deployment => take(&mut self.deployments, &mut self.changes.deployments, key),
            Kind::EndpointSlice => self.remove_slice(key),
            Kind::Secret => take(&mut self.secrets, &mut self.changes.secrets, key),
            Kind::SentinelPolicy => take(&mut self.policies, &mut self.changes.policies, key),
            Kind::Service => take(&mut self.services, &mut self.changes.services, key),
        }
    }

    fn remove_slice(&mut self, key: &ObjectKey) {
        let Some(service) = self.slice_owner.remove(key) else {
            return;
        };
        if let Some(siblings) = self.slices.get_mut(&service) {
            siblings.remove(&key.name);
            if siblings.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.changes.services.insert(service);
    }

    fn listed(&mut self, kind: Kind, keys: &BTreeSet<ObjectKey>) {
        for key in self.vanished(kind, keys) {
            self.remove(kind, &key);
        }
        self.listed.insert(kind);
    }

    fn vanished(&self, kind: Kind, keys: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
        fn missing<V>(have: &BTreeMap<ObjectKey, V>, keys: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
            have.keys().filter(|key| !keys.contains(key)).cloned().collect()
        }
        match kind {
            Kind::ConfigMap => missing(&self.config_maps, keys),
            Kind::Deployment => missing(&self.deployments, keys),
            Kind::EndpointSlice => missing(&self.slice_owner, keys),
            Kind::Secret => missing(&self.secrets, keys),
            Kind::SentinelPolicy => missing(&self.policies, keys),
            Kind::Service => missing(&self.services, keys),
        }
    }
}

fn put<T: PartialEq>(
    objects: &mut BTreeMap<ObjectKey, Arc<T>>,
    changed: &mut BTreeSet<ObjectKey>,
    key: ObjectKey,
    new: T,
) {
    if objects.get(&key).is_none_or(|old| **old != new) {
        changed.insert(key.clone());
        objects.insert(key, Arc::new(new));
    }
}

fn take<T>(objects: &mut BTreeMap<ObjectKey, Arc<T>>, changed: &mut BTreeSet<ObjectKey>, key: &ObjectKey) {
    if objects.remove(key).is_some() {
        changed.insert(key.clone());
    }
}

impl Deployment {
    /// Equal in all that compile reads.
    fn asks_the_same(&self, other: &Self) -> bool {
        // Taken apart, so that a new field cannot be forgotten here.
        let Self {
            key,
            uid,
            generation,
            created,
            labels,
            spec,
            status: _,
        } = self;
        *key == other.key
            && *uid == other.uid
            && *generation == other.generation
            && *created == other.created
            && *labels == other.labels
            && *spec == other.spec
    }
}

impl Policy {
    /// Equal in all that compile reads.
    fn asks_the_same(&self, other: &Self) -> bool {
        let Self {
            key,
            uid,
            generation,
            created,
            targets,
            mode,
            has_enforced_rule,
            priority,
            spec,
            status: _,
        } = self;
        *key == other.key
            && *uid == other.uid
            && *generation == other.generation
            && *created == other.created
            && *targets == other.targets
            && *mode == other.mode
            && *has_enforced_rule == other.has_enforced_rule
            && *priority == other.priority
            && *spec == other.spec
    }
}

impl Targets {
    pub fn hold(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Named(names) => names.contains(name),
            Self::Selected(wanted) => selects(wanted, labels),
        }
    }
}

/// Whether all wanted labels are there.
pub fn selects(wanted: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(label, value)| labels.get(label) == Some(value))
}

impl Changes {
    /// Nothing that compile reads has changed.
    pub fn is_empty(&self) -> bool {
        let Self {
            deployments,
            policies,
            services,
            secrets,
            config_maps,
            observed: _,
        } = self;
        deployments.is_empty()
            && policies.is_empty()
            && services.is_empty()
            && secrets.is_empty()
            && config_maps.is_empty()
    }
}

impl Object {
    pub fn id(&self) -> ObjectId {
        let (kind, key) = match self {
            Self::ConfigMap(object) => (Kind::ConfigMap, &object.key),
            Self::Deployment(object) => (Kind::Deployment, &object.key),
            Self::EndpointSlice(object) => (Kind::EndpointSlice, &object.key),
            Self::Secret(object) => (Kind::Secret, &object.key),
            Self::SentinelPolicy(object) => (Kind::SentinelPolicy, &object.key),
            Self::Service(object) => (Kind::Service, &object.key),
        };
        ObjectId::new(kind, key.clone())
    }
}

#[cfg(test)]
mod tests;
