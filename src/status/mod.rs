//! Reports become conditions on the objects (server-side apply, only on change, by the leader alone) and Events.

pub mod conditions;
mod events;
mod failures;
pub mod lease;
mod tracked;
mod update;
mod writer;

pub use failures::Failures;
pub use update::{Mailbox, Status, Update};
pub use writer::Counters;

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

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
