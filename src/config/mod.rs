//! Flags and the settings file (raw) become `Settings` (typed). Every default stands here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::snapshot::HostName;

/// What a running Postern is set to. Keys are hot (swapped with the next snapshot) or need a restart; see `flags`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub listen: Listen,
    pub source: Source,
    pub workers: NonZeroUsize,
    pub log: String,
    pub log_format: LogFormat,
    pub shutdown_delay: Duration,
    pub drain_deadline: Duration,
    pub publish_addresses: Vec<String>,
    pub lease_namespace: Option<String>,
    pub watch_namespaces: Vec<String>,
    pub routing: Routing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Cluster { kubeconfig: Option<PathBuf> },
    Manifests(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

/// The part of the settings that compile reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    pub class: Arc<str>,
    /// A plain name, no wildcard.
    pub apex_domain: Option<HostName>,
    /// By namespace. None: names are not granted, the oldest claim wins.
    pub hostname_grants: Option<BTreeMap<Arc<str>, Vec<HostName>>>,
    pub selectorless_services: bool,
    pub endpoints: EndpointRules,
}

/// Which addresses an endpoint may not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointRules {
    /// In a cluster loopback, link-local and unspecified addresses are refused; in a folder of manifests, the operator's
    /// own, they may be named.
    pub refuse_local: bool,
    /// Our own listeners on each of our interfaces: an endpoint there would be a loop.
    pub own: BTreeSet<SocketAddr>,
}
