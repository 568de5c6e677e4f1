//! The routing snapshot: immutable, complete, comparable and printable. The data plane sees nothing else of the
//! configuration. Built by `compile`, paired with runtime state by `live`.

pub mod certificate;
pub mod content;
pub mod host;
pub mod listener;
pub mod route;
pub mod sharded;

pub use crate::matching::PathMatch;
pub use certificate::{ClientTls, ClientTlsMode, HostTls};
pub use host::{Host, HostTable};
pub use listener::{Listener, ListenerKey, TlsVersion};
pub use route::{Action, Backend, Deployment, Route, RunState, Timeouts};
pub use sharded::Sharded;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::object::{ObjectId, ObjectKey};
use crate::policy::Policy;
use crate::tls::Certificate;

/// Key authorizations by hostname and token.
pub type Challenges = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<str>>>;

/// Everything that the data plane routes by. Clones share all parts; a change replaces the parts that it touches.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    pub hosts: HostTable,
    /// What the routes of each object share.
    pub deployments: Sharded<ObjectId, Arc<Deployment>>,
    /// All SentinelPolicies that are in force.
    pub policies: Sharded<ObjectKey, Arc<Policy>>,
    /// For hostnames without certificates of their own, the first that covers one.
    pub default_certificates: Arc<[Arc<Certificate>]>,
    /// What ACME servers are answered with (RFC 8555 section 8.3), by hostname and token.
    pub challenges: Arc<Challenges>,
    pub listener: Arc<Listener>,
}

impl Snapshot {
    /// A hash over the content, equal on all replicas that serve the same routes, whatever the order of events.
    /// It costs one addition per shard: each entry's share is summed as the tables change.
    pub fn hash(&self) -> u64 {
        let hosts = [self.hosts.exact.hash(), self.hosts.one_label.hash()];
        let general = (self.hosts.suffix.as_ref().map(Sharded::hash), &self.hosts.any);
        let parts = [self.deployments.hash(), self.policies.hash()];
        content::hash(&(
            hosts,
            general,
            parts,
            &self.listener,
            &self.default_certificates,
            &self.challenges,
        ))
    }

    /// The hosts that a listener serves. The installation's two ports serve the same.
    pub fn hosts(&self, listener: ListenerKey) -> &HostTable {
        match listener {
            ListenerKey::Http | ListenerKey::Https => &self.hosts,
        }
    }

    /// The answer to an ACME server that looks for this token.
    pub fn challenge(&self, host: &str, token: &str) -> Option<&Arc<str>> {
        self.challenges.get(host)?.get(token)
    }

    /// The certificates for a hostname of a listener, the preferred first: its own, else the defaults that cover it. None:
    /// only the self-signed one is left.
    pub fn certificates(&self, listener: ListenerKey, host: &str) -> impl Iterator<Item = &Arc<Certificate>> {
        let own = self
            .hosts(listener)
            .find(host)
            .map_or(&[][..], |host| &host.tls.certificates);
        let defaults = if own.is_empty() {
            &*self.default_certificates
        } else {
            &[]
        };
        let covering = |certificate: &&Arc<Certificate>| certificate.names.iter().any(|name| name.covers(host));
        own.iter().chain(defaults.iter().filter(covering))
    }
}
