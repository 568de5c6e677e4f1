//! What is to be written to one object, and the mailbox by which the writer hears of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use crate::api::deployment::DeploymentStatus;
use crate::api::policy::SentinelPolicyStatus;
use crate::compile::report::Report;

/// What is known of one object: what its status should say and what it says.
#[derive(Clone, Debug)]
pub struct Update {
    /// None: the object is gone, or not ours to tell of.
    pub report: Option<Arc<Report>>,
    pub observed: Option<Status>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Status {
    Deployment(Arc<DeploymentStatus>),
    SentinelPolicy(Arc<SentinelPolicyStatus>),
}

impl Status {
    pub(super) fn conditions(&self) -> &[Condition] {
        match self {
            Self::Deployment(status) => &status.conditions,
            Self::SentinelPolicy(status) => &status.conditions,
        }
    }
}

/// Where publish leaves what is for the leader, such as updates for the writer. Later ones replace earlier ones, so that it is bounded by the number of
/// objects and publish never waits for the apiserver.
#[derive(Debug)]
pub struct Mailbox<K, T> {
    updates: Mutex<BTreeMap<K, T>>,
    arrived: Notify,
}

impl<K, T> Default for Mailbox<K, T> {
    fn default() -> Self {
        Self {
            updates: Mutex::default(),
            arrived: Notify::new(),
        }
    }
}

impl<K: Ord, T> Mailbox<K, T> {
    /// Never waits.
    pub fn post(&self, updates: impl IntoIterator<Item = (K, T)>) {
        self.updates.lock().extend(updates);
        self.arrived.notify_one();
    }

    /// All that has arrived since the last call; waits for something.
    pub async fn take(&self) -> BTreeMap<K, T> {
        loop {
            let updates = std::mem::take(&mut *self.updates.lock());
            if !updates.is_empty() {
                return updates;
            }
            self.arrived.notified().await;
        }
    }
}
