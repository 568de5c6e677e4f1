//! `compile`: what the sources say, turned into what the data plane routes by, and a report on what could not be.
//! Pure: no clock, no I/O, no await. The same objects give the same snapshot, whatever the order of events.

pub mod report;

use std::sync::Arc;

use crate::config::Routing;
use crate::snapshot::{Deployment, Snapshot, Upstream};
use crate::store::{Changes, ObjectKey, Store};

use report::Report;

/// What one compile works from.
pub struct Input<'a> {
    pub store: &'a Store,
    /// What changed since the compile that left `previous`. Not looked at when `previous` is empty or other settings made it.
    pub changes: &'a Changes,
}

/// Memory for unchanged parts. With and without it the result is equal; with it the cost of a change grows with the change.
#[derive(Default)]
pub struct Previous {}

pub struct Compiled {
    pub snapshot: Snapshot,
    /// To be handed to the next compile.
    pub previous: Previous,
    /// Parts of the snapshot that are new in it and have no runtime state yet.
    pub fresh: Fresh,
    /// Deployments of our class that are gone: their sockets end. Those that are now Stopped are found in `fresh`.
    pub removed: Vec<ObjectKey>,
    /// The reports that differ from the ones before; None: the object is gone.
    pub reports: Vec<(ObjectKey, Option<Arc<Report>>)>,
}

#[derive(Default)]
pub struct Fresh {
    pub deployments: Vec<Arc<Deployment>>,
    pub upstreams: Vec<Arc<Upstream>>,
}

pub fn compile(_input: &Input<'_>, _routing: &Routing, _previous: Previous) -> Compiled {
    todo!()
}
