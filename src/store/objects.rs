//! What is kept of the objects of each kind: full Kubernetes objects never get this far. All of it can be saved and read
//! again, keys and passwords included: only a file that nobody else may read is the place for that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bytes;
use super::table::Stored;
use crate::api::deployment::{DeploymentSpec, DeploymentStatus};
use crate::api::policy::{Mode, SentinelPolicySpec, SentinelPolicyStatus};
use crate::object::{Data, ObjectKey};

/// An object of a kind that routes come from, as far as compile and status need it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Resource<Spec, Status> {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    pub generation: i64,
    /// creationTimestamp in Unix seconds: the apiserver knows no finer one.
    pub created: i64,
    pub labels: Labels,
    /// What the object asks for. A broken object costs only itself.
    pub spec: Result<Arc<Spec>, Undecoded<Spec>>,
    /// The paths of fields that are not known, and so have no effect.
    pub unknown: Box<[Box<str>]>,
    /// The status as last seen at the source, so that equal statuses are not written again. Compile never reads it, and it
    /// is not saved.
    #[serde(skip)]
    pub status: Option<Arc<Status>>,
}

/// A spec that could not be decoded.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Undecoded<Spec> {
    /// Why not, with the field.
    pub error: Arc<str>,
    /// Which requests it is about, and nothing else of it. None: not even that is understood.
    pub claims: Option<Arc<Spec>>,
}

/// A Deployment of postern.dev.
pub type Deployment = Resource<DeploymentSpec, DeploymentStatus>;

/// A SentinelPolicy as far as compile and status need it. It is decoded in two steps, so that one whose rules are not
/// understood still says whom it concerns.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
    /// As last seen at the source. Compile never reads it, and it is not saved.
    #[serde(skip)]
    pub status: Option<Arc<SentinelPolicyStatus>>,
}

/// The Deployments of a policy's namespace that it stands before.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Targets {
    Named(BTreeSet<Box<str>>),
    /// By labels, which all have to be there.
    Selected(BTreeMap<String, String>),
}

/// metadata.labels.
pub type Labels = Arc<BTreeMap<String, String>>;

/// A core/v1 Service, trimmed.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Service {
    pub key: ObjectKey,
    pub external_name: bool,
    pub selectorless: bool,
    pub ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    pub name: Option<Arc<str>>,
    pub port: u16,
    /// "TCP", "UDP" or "SCTP".
    pub protocol: Arc<str>,
    pub app_protocol: Option<Arc<str>>,
}

/// A discovery.k8s.io/v1 EndpointSlice, trimmed. FQDN slices never get here.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct EndpointSlice {
    pub key: ObjectKey,
    /// The label kubernetes.io/service-name.
    pub service: Arc<str>,
    /// It says of itself that the endpointslice controller keeps it, which makes it of the Service's selector.
    pub by_controller: bool,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<SliceEndpoint>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct SlicePort {
    pub name: Option<Arc<str>>,
    pub port: u16,
    pub protocol: Arc<str>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct SliceEndpoint {
    pub addresses: Vec<IpAddr>,
    /// It says of itself that it is a pod of the slice's namespace.
    pub is_pod: bool,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

/// A core/v1 Secret, trimmed: one of type kubernetes.io/tls, or one that carries the label postern.dev/use.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Secret {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    /// The labels of an API key's Secret, for selectors.
    pub labels: Labels,
    pub tls: bool,
    /// The label postern.dev/use.
    pub purpose: Option<Arc<str>>,
    #[serde(with = "bytes")]
    pub data: Data,
}

/// A core/v1 ConfigMap that carries the label postern.dev/use, trimmed.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ConfigMap {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    pub purpose: Arc<str>,
    #[serde(with = "bytes")]
    pub data: Data,
}

/// A Secret or a ConfigMap, where either may hold what is wanted.
#[derive(Clone, Debug)]
pub enum Holder {
    Secret(Arc<Secret>),
    ConfigMap(Arc<ConfigMap>),
}

impl Holder {
    /// The object's identity through its versions.
    pub fn uid(&self) -> &Arc<str> {
        match self {
            Self::Secret(secret) => &secret.uid,
            Self::ConfigMap(map) => &map.uid,
        }
    }

    /// The label postern.dev/use.
    pub fn purpose(&self) -> Option<&str> {
        match self {
            Self::Secret(secret) => secret.purpose.as_deref(),
            Self::ConfigMap(map) => Some(&map.purpose),
        }
    }

    /// What it holds, by key.
    pub fn data(&self) -> &Data {
        match self {
            Self::Secret(secret) => &secret.data,
            Self::ConfigMap(map) => &map.data,
        }
    }
}

impl<Spec: PartialEq, Status: PartialEq> Stored for Resource<Spec, Status> {
    fn key(&self) -> &ObjectKey {
        &self.key
    }

    fn asks_the_same(&self, other: &Self) -> bool {
        // Taken apart, so that a new field cannot be forgotten here.
        let Self {
            key,
            uid,
            generation,
            created,
            labels,
            spec,
            unknown,
            status: _,
        } = self;
        *key == other.key
            && *uid == other.uid
            && *generation == other.generation
            && *created == other.created
            && *labels == other.labels
            && *spec == other.spec
            && *unknown == other.unknown
    }

    fn undecodable(&self) -> Option<Arc<str>> {
        match &self.spec {
            Err(undecoded) => Some(undecoded.error.clone()),
            Ok(_) if self.unknown.is_empty() => None,
            Ok(_) => Some(format!("unknown fields: {}", self.unknown.join(", ")).into()),
        }
    }

    fn has_same_status(&self, before: Option<&Self>) -> bool {
        before.and_then(|before| before.status.as_ref()) == self.status.as_ref()
    }
}

impl Stored for Policy {
    fn key(&self) -> &ObjectKey {
        &self.key
    }

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

    fn undecodable(&self) -> Option<Arc<str>> {
        self.targets.as_ref().err().or(self.spec.as_ref().err()).cloned()
    }

    fn has_same_status(&self, before: Option<&Self>) -> bool {
        before.and_then(|before| before.status.as_ref()) == self.status.as_ref()
    }
}

impl Stored for ConfigMap {
    fn key(&self) -> &ObjectKey {
        &self.key
    }
}

impl Stored for EndpointSlice {
    fn key(&self) -> &ObjectKey {
        &self.key
    }
}

impl Stored for Secret {
    fn key(&self) -> &ObjectKey {
        &self.key
    }
}

impl Stored for Service {
    fn key(&self) -> &ObjectKey {
        &self.key
    }
}

impl Targets {
    /// Whether a Deployment of this name and these labels, in the policy's namespace, is one of them.
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
