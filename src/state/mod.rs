//! Runtime state by stable key: what counts, pools and registers. It outlives every snapshot that refers to it, and goes
//! when no snapshot, request or socket does.

pub mod deployment;
pub mod endpoint;
pub mod jwks;
pub mod passwords;
pub mod rule;
pub mod shrink;
pub mod sockets;
pub mod tls;
pub mod traffic;
pub mod windows;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use http::Uri;
use parking_lot::Mutex;

pub use deployment::Deployment;
pub use endpoint::Endpoint;
pub use jwks::Jwks;
pub use passwords::Passwords;
pub use rule::{Rule, RuleKey};
pub use traffic::Traffic;

use crate::egress::Egress;
use crate::policy::jwt::{Jwt, Keys};
use crate::policy::{Kind, Policy};
use crate::snapshot::{Upstream, UpstreamKey};
use crate::store::ObjectKey;
use crate::telemetry::traces;

/// Finds the state of what a snapshot names. The table holds nothing alive: the snapshot, requests and sockets do.
#[derive(Debug, Default)]
pub struct State {
    deployments: Mutex<Table<ObjectKey, Deployment>>,
    endpoints: Mutex<Table<(UpstreamKey, SocketAddr), Endpoint>>,
    rules: Mutex<Table<RuleKey, Rule>>,
    /// By URL: rules that go by the same keys share them.
    jwks: Mutex<Table<Uri, Jwks>>,
    /// What is answered before a Deployment is found.
    pub unrouted: Traffic,
    pub tls: tls::Handshakes,
    /// Calls to the store that replicas share which nothing came of.
    pub store_errors: Arc<AtomicU64>,
    /// Lines of the access log that nobody took in time.
    pub access_log_dropped: Arc<AtomicU64>,
    pub spans: Arc<traces::Counts>,
}

#[derive(Debug)]
struct Table<K, V> {
    entries: HashMap<K, Weak<V>>,
    /// Dead entries are swept when the table has grown past this.
    sweep_at: usize,
}

impl State {
    pub fn deployment(&self, key: &ObjectKey) -> Arc<Deployment> {
        let mut table = self.deployments.lock();
        table.get_or_insert(key)
    }

    /// Gives each endpoint of a new upstream the state that its address already had, if any.
    pub fn pair(&self, upstream: &Upstream) {
        let mut table = self.endpoints.lock();
        for endpoint in &upstream.endpoints {
            if !endpoint.runtime.is_filled() {
                endpoint
                    .runtime
                    .fill(table.get_or_insert(&(upstream.key.clone(), endpoint.address)));
            }
        }
    }

    /// Every Deployment that is configured or still has requests or sockets.
    pub fn deployments(&self) -> Vec<(ObjectKey, Arc<Deployment>)> {
        let table = self.deployments.lock();
        let alive = table
            .entries
            .iter()
            .filter_map(|(key, state)| Some((key.clone(), state.upgrade()?)));
        alive.collect()
    }

    /// Gives each rule of a new policy the state that its name already had, if any.
    /// Keys at a URL are fetched from now on, on the runtime that this is called on.
    pub fn pair_rules(&self, policy: &Policy, egress: &Arc<Egress>) {
        let mut table = self.rules.lock();
        for rule in policy.rules.iter().filter(|rule| !rule.runtime.is_filled()) {
            rule.runtime.fill(table.get_or_insert(&RuleKey {
                policy: policy.key.clone(),
                name: rule.name.clone(),
            }));
            if let Kind::Jwt(Jwt {
                keys: Keys::Url { url, fetched },
                ..
            }) = &rule.kind
            {
                fetched.fill(self.jwks(url, egress));
            }
        }
    }

    fn jwks(&self, url: &Uri, egress: &Arc<Egress>) -> Arc<Jwks> {
        let mut table = self.jwks.lock();
        let keys = table.get_or_insert(url);
        keys.start(url, egress);
        keys
    }

    /// Every rule that is configured or still has sockets.
    pub fn rules(&self) -> Vec<(RuleKey, Arc<Rule>)> {
        let table = self.rules.lock();
        let alive = table
            .entries
            .iter()
            .filter_map(|(key, state)| Some((key.clone(), state.upgrade()?)));
        alive.collect()
    }

    pub fn existing(&self, key: &ObjectKey) -> Option<Arc<Deployment>> {
        let table = self.deployments.lock();
        table.entries.get(key)?.upgrade()
    }
}

impl<K: Clone + Eq + Hash, V: Default> Table<K, V> {
    fn get_or_insert(&mut self, key: &K) -> Arc<V> {
        if let Some(state) = self.entries.get(key).and_then(Weak::upgrade) {
            return state;
        }
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, state| state.strong_count() > 0);
            self.sweep_at = 64 + self.entries.len() * 2;
        }
        let state = Arc::new(V::default());
        self.entries.insert(key.clone(), Arc::downgrade(&state));
        state
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            sweep_at: 64,
        }
    }
}
