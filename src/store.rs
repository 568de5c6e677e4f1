//! What the watches have delivered: trimmed objects by key, and which keys changed since the last compile.
//! One task owns the store; nothing here blocks or looks at a clock. Full Kubernetes objects never get this far.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::{Serialize, Serializer};

use crate::api::deployment::{DeploymentSpec, DeploymentStatus};

/// Namespace and name of an object, cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// A Postern Deployment as far as compile and status need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    pub generation: i64,
    /// creationTimestamp in Unix seconds: the apiserver knows no finer one.
    pub created: i64,
    /// What the object asks for, or why it could not be decoded: a broken object costs only itself.
    pub spec: Result<Arc<DeploymentSpec>, Arc<str>>,
    /// The status as last seen at the source, so that equal statuses are not written again. Compile never reads it.
    pub status: Option<Arc<DeploymentStatus>>,
}

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

/// One watched kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Deployment,
    EndpointSlice,
    Service,
}

/// One watched object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Deployment(Deployment),
    EndpointSlice(EndpointSlice),
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

/// Keys that changed since the last compile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub deployments: BTreeSet<ObjectKey>,
    /// Services whose own object or whose slices changed.
    pub services: BTreeSet<ObjectKey>,
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
    services: BTreeMap<ObjectKey, Arc<Service>>,
    /// By Service, then by slice name.
    slices: BTreeMap<ObjectKey, BTreeMap<Arc<str>, Arc<EndpointSlice>>>,
    /// Which Service a slice belongs to: its label can change, and a deletion does not carry it.
    slice_owner: BTreeMap<ObjectKey, ObjectKey>,
    listed: BTreeSet<Kind>,
    changes: Changes,
}

impl ObjectKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
