//! A client for each namespace that has lately used one: no namespace's connections and names are another's, so that none
//! meets what another has done to them, or waits for them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::address::Rules;
use super::connector::{Connector, Shared};
use super::{Client, client};
use crate::runtime::shares::Shares;
use crate::runtime::shrink::shrink;

/// The clients, by namespace.
pub struct Tenants {
    rules: Arc<ArcSwap<Rules>>,
    shared: Shared,
    clients: Mutex<HashMap<Arc<str>, Used>>,
}

struct Used {
    client: Client,
    last: Instant,
}

/// Longer than a connection is kept for the next request, and than the answer about a name is: a client that goes takes nothing
/// along.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

impl Tenants {
    /// None has a client yet.
    pub fn new(rules: Arc<ArcSwap<Rules>>, descriptors: Shares<Arc<str>>) -> Self {
        Self {
            rules,
            shared: Shared::new(descriptors),
            clients: Mutex::default(),
        }
    }

    /// The namespace's own. Those that have been idle for long go whenever one comes.
    pub fn client(&self, namespace: &Arc<str>) -> Client {
        let now = Instant::now();
        let mut clients = self.clients.lock();
        if let Some(used) = clients.get_mut(namespace) {
            used.last = now;
            return used.client.clone();
        }
        clients.retain(|_, used| now < used.last + IDLE_LIMIT);
        shrink(&mut clients);
        let connector = Connector::new(Some(self.rules.clone()), namespace.clone(), self.shared.clone());
        let client = client(connector);
        let used = Used {
            client: client.clone(),
            last: now,
        };
        clients.insert(namespace.clone(), used);
        client
    }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.clients.lock().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clients_that_are_idle_are_forgotten_when_another_comes() {
        let rules = Rules {
            own: BTreeSet::new(),
            allowed: Box::default(),
        };
        let tenants = Tenants::new(Arc::new(ArcSwap::from_pointee(rules)), Shares::default());
        let known = || tenants.clients.lock().len();
        for number in 0..100 {
            tenants.client(&format!("n{number}").into());
        }
        assert_eq!(known(), 100);
        advance(IDLE_LIMIT - Duration::from_millis(1)).await;
        tenants.client(&"n0".into());
        advance(Duration::from_millis(1)).await;
        tenants.client(&"new".into());
        assert_eq!(known(), 2);
    }
}
