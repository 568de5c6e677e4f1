//! Certificates from an ACME server (RFC 8555) for `tls[].acme`: the leader orders and renews them, and keeps them in
//! Secrets. Every replica reads those by the watch, as it reads any other; the answers to challenges reach the proxy in the
//! same way, through the snapshot.

mod account;
mod failure;
mod leaf;
pub mod mailbox;
mod manager;
mod order;
mod schedule;
mod secrets;

pub use mailbox::Mailbox;
pub use order::Orders;

use std::sync::Arc;

use tokio::sync::watch;

use crate::compile::report::Report;
use crate::hostname::HostName;
use crate::status::Failures;
use manager::Surroundings;
use order::now;
use schedule::{Validity, Wanted};

/// The certificates that an object wants, by its report. None: it is gone.
pub fn wanted(report: Option<&Report>) -> Vec<Wanted> {
    let details = report.and_then(Report::routes);
    let orders = details.map_or(&[][..], |details| &details.orders);
    let wanted = orders.iter().filter_map(|order| {
        let HostName::Exact(hostname) = &order.hostname else {
            return None;
        };
        Some(Wanted {
            hostname: hostname.clone(),
            secret: order.secret.clone(),
            validity: order.current.as_ref().map(|current| Validity {
                not_before: current.not_before,
                not_after: current.not_after,
            }),
        })
    });
    wanted.collect()
}

/// Orders while we lead, until nobody can tell any more whether we do.
pub async fn run(clerk: Orders, mailbox: Arc<Mailbox>, leadership: watch::Receiver<bool>, failures: Arc<Failures>) {
    let clerk = Arc::new(clerk);
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
