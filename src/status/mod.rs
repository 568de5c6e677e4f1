//! Reports become conditions on the objects (server-side apply, only on change, by the leader alone) and Events.

pub mod conditions;
mod events;
mod failures;
pub mod lease;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kube::Client;
use tokio::sync::{Notify, watch};

use crate::api::deployment::DeploymentStatus;
use crate::compile::report::Report;
use crate::config::Settings;
use crate::store::ObjectKey;

pub use failures::Failures;
pub use writer::Counters;

/// Writes what the mailbox receives while we lead, until nobody can tell any more whether we do. `instance` names this
/// process in Events.
pub async fn run(
    client: Client,
    instance: String,
    mailbox: Arc<Mailbox>,
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
    /// None: the object is gone.
    pub report: Option<Arc<Report>>,
    pub observed: Option<Arc<DeploymentStatus>>,
}

/// Where publish leaves what is for the leader, such as updates for the writer. Later ones replace earlier ones, so that it is bounded by the number of
/// objects and publish never waits for the apiserver.
#[derive(Debug)]
pub struct Mailbox<T = Update> {
    updates: Mutex<BTreeMap<ObjectKey, T>>,
    arrived: Notify,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self {
            updates: Mutex::default(),
            arrived: Notify::new(),
        }
    }
}

impl<T> Mailbox<T> {
    pub fn post(&self, updates: impl IntoIterator<Item = (ObjectKey, T)>) {
        self.updates.lock().unwrap_or_else(|e| e.into_inner()).extend(updates);
        self.arrived.notify_one();
    }

    /// All that has arrived since the last call; waits for something.
    pub async fn take(&self) -> BTreeMap<ObjectKey, T> {
        loop {
            let updates = std::mem::take(&mut *self.updates.lock().unwrap_or_else(|e| e.into_inner()));
            if !updates.is_empty() {
                return updates;
            }
            self.arrived.notified().await;
        }
    }
}
