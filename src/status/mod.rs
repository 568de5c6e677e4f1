//! Reports become conditions on the objects (server-side apply, only on change, by the leader alone) and Events.

pub mod conditions;
mod events;
mod failures;
pub mod lease;
mod writer;

pub use failures::Failures;
pub use writer::Counters;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::api::deployment::DeploymentStatus;
use crate::api::policy::SentinelPolicyStatus;
use crate::compile::subject::Subject;
use crate::config::Settings;
use crate::object::ObjectId;

/// Writes what the mailbox receives while we lead, until nobody can tell any more whether we do. `instance` names this
/// process in Events.
pub async fn run(
    client: Client,
    instance: String,
    mailbox: Arc<Mailbox<ObjectId, Update>>,
    failures: Arc<Failures>,
    leadership: watch::Receiver<bool>,
    settings: watch::Receiver<Arc<Settings>>,
    counters: Counters,
) {
    let (notices, received) = events::Notices::new();
    let publish = events::publish(client.clone(), instance, received);
    tokio::join!(
        writer::run(client, mailbox, failures, leadership, settings, notices, counters),
        publish
    );
}

/// What is known of one object: what its status should say and what it says.
#[derive(Clone, Debug)]
pub struct Update {
    /// None: the object is gone, or not ours to tell of.
    pub report: Option<Subject>,
    pub observed: Option<Status>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Status {
    Deployment(Arc<DeploymentStatus>),
    SentinelPolicy(Arc<SentinelPolicyStatus>),
}

impl Status {
    fn conditions(&self) -> &[Condition] {
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
