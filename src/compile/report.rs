//! What compile found out about one Deployment: the only output besides the snapshot. It becomes status and Events
//! in a cluster, and lines on the terminal in `postern check`.

use std::sync::Arc;

use crate::api::condition::{ConditionReason, ConditionType};
use crate::store::ObjectKey;

#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    /// The generation that was compiled: every condition's observedGeneration.
    pub generation: i64,
    /// Accepted, PartiallyInvalid (only when True) and ResolvedRefs, in this order. Programmed is the writer's: it knows what is served.
    pub conditions: Vec<Finding>,
    /// Over all its backends, each endpoint once. `total` counts every endpoint of the slices, ready or not.
    pub endpoints: Counts,
    /// The names that are served, sorted.
    pub hostnames: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub r#type: ConditionType,
    pub status: bool,
    pub reason: ConditionReason,
    /// For a person: which field or name, what is wrong, whose it is.
    pub message: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ready: u32,
    pub total: u32,
}
