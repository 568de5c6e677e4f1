//! `compile`: what the sources say, turned into what the data plane routes by, and a report on what could not be.
//! Pure: no clock, no I/O, no await. The same objects give the same snapshot, whatever the order of events.
//!
//! The passes (`passes.rs`), each over what a change has reached so far:
//!
//! ```text
//! source      one object, read                ─► its Intent: hostnames, rules, backends, TLS, policies
//! backend     a Service's port                ─► an upstream with its endpoints
//! tls         Secrets and ConfigMaps it names ─► certificates and authorities
//! policy      a SentinelPolicy object         ─► rules, and the objects that they stand before
//! route       an Intent's rules and upstreams ─► routes
//! host        a hostname's claims             ─► its owner, and the owner's routes and certificates merged
//! report      what was found on the way
//! ```

pub mod acme;
mod backend;
mod endpoint;
mod host;
pub mod intent;
mod passes;
pub mod policy;
mod previous;
pub mod problem;
mod references;
pub mod report;
mod route;
mod route_report;
pub mod source;
pub mod syntax;
pub mod tls;

pub use passes::compile;
pub use previous::Previous;

use std::sync::Arc;

use crate::object::ObjectId;
use crate::policy::Policy;
use crate::snapshot::{Deployment, Listener, Snapshot};
use crate::store::{Changes, Store};
use crate::upstream::Upstream;
use report::Report;

/// What one compile works from.
pub struct Input<'a> {
    pub store: &'a Store,
    /// What changed since the compile that left `previous`. Not looked at when `previous` is empty or other settings made it.
    pub changes: &'a Changes,
    /// Passed on as it is.
    pub listener: &'a Arc<Listener>,
}

/// What one compile has found out.
pub struct Compiled {
    pub snapshot: Snapshot,
    /// To be handed to the next compile.
    pub previous: Previous,
    /// Whether the snapshot differs from the one before: if not, there is nothing to swap.
    pub changed: bool,
    /// Parts of the snapshot that are new in it and have no runtime state yet.
    pub fresh: Fresh,
    /// Objects of our class that are gone: their sockets end. Those that are now Stopped are found in `fresh`.
    /// One that was replaced by another object of the same name is in both, and the sockets of the old one end.
    pub removed: Vec<ObjectId>,
    /// The reports that differ from the ones before; None: the object is gone.
    pub reports: Vec<(ObjectId, Option<Arc<Report>>)>,
    /// What is wrong with the installation's default certificates, where that is something else than before.
    pub default_problems: Option<Vec<String>>,
}

#[derive(Default)]
pub struct Fresh {
    pub deployments: Vec<Arc<Deployment>>,
    pub policies: Vec<Arc<Policy>>,
    pub upstreams: Vec<Arc<Upstream>>,
}

#[cfg(test)]
mod tests;
