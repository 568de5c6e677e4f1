//! The routing snapshot: immutable, complete, comparable and printable. The data plane sees nothing else of the
//! configuration. Built by `compile`, paired with runtime state by `live`.

pub mod host;
pub mod name;
pub mod route;
pub mod sharded;
pub mod slot;
pub mod upstream;

use std::sync::Arc;

use serde::Serialize;

pub use host::{Host, HostTable};
pub use name::HostName;
pub use route::{Action, Backend, Deployment, PathMatch, Route, RunState, Strategy, Timeouts};
pub use sharded::Sharded;
pub use slot::Slot;
pub use upstream::{Endpoint, Protocol, Upstream, UpstreamKey};

use crate::store::ObjectKey;

/// Everything that the data plane routes by. Clones share all parts; a change replaces the parts that it touches.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    pub hosts: HostTable,
    /// All Deployments that own at least one route or socket, by key.
    pub deployments: Sharded<ObjectKey, Arc<Deployment>>,
}

impl Snapshot {
    /// A hash over the content, equal on all replicas that serve the same routes, whatever the order of events.
    /// It costs one addition per shard: each entry's share is summed as the tables change.
    pub fn hash(&self) -> u64 {
        self.hosts.hash().wrapping_add(self.deployments.hash())
    }
}
