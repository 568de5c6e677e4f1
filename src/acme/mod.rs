//! Certificates from an ACME server (RFC 8555) for `tls[].acme`: the leader orders and renews them, and keeps them in
//! Secrets. Every replica reads those by the watch, as it reads any other; the answers to challenges reach the proxy in the
//! same way, through the snapshot.

mod account;
mod failure;
mod leaf;
mod manager;
mod order;
mod schedule;
mod secrets;

use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;

use crate::config::Settings;
use crate::live::LiveCell;
use crate::status;
use crate::status::failures::Failures;
use manager::Surroundings;
use order::Clerk;

pub use schedule::{Validity, Wanted};

/// Where publish leaves what each Deployment wants.
pub type Mailbox = status::Mailbox<Vec<Wanted>>;

/// Orders while we lead, until nobody can tell any more whether we do. `namespace` is where the account is kept.
pub async fn run(
    client: Client,
    live: Arc<LiveCell>,
    settings: &Settings,
    namespace: &str,
    mailbox: Arc<Mailbox>,
    leadership: watch::Receiver<bool>,
    failures: Failures,
) {
    let now = || Timestamp::now().as_second();
    let clerk = Arc::new(Clerk::new(client, live, settings, namespace, now));
    let surroundings = Surroundings {
        mailbox,
        leadership,
        now,
        failures,
    };
    let clear = {
        let clerk = clerk.clone();
        move || {
            let clerk = clerk.clone();
            async move { clerk.clear().await }
        }
    };
    let order = move |job| {
        let clerk = clerk.clone();
        async move { clerk.make(&job).await }
    };
    manager::run(surroundings, clear, order).await;
}
