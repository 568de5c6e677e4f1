//! Runtime state by stable key: what counts, pools and registers. It outlives every snapshot that refers to it, and goes
//! when no snapshot, request or socket does.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};

use http::Uri;
use parking_lot::Mutex;

use crate::egress::Egress;
use crate::object::{ObjectId, UpstreamKey};
use crate::policy::jwt::Keys;
use crate::policy::jwt::fetched::Jwks;
use crate::policy::rule_state::{RuleKey, RuleState};
use crate::policy::{Jwt, Policy, RuleKind};
use crate::runtime::descriptors::Division;
use crate::runtime::shares::Shares;
use crate::runtime::{Table, Traffic, handshakes};
use crate::telemetry::traces;
use crate::upstream::Upstream;
use crate::upstream::endpoint::EndpointState;
use crate::websocket::deployment_state::DeploymentState;

/// Finds the state of what a snapshot names. The table holds nothing alive: the snapshot, requests and sockets do.
#[derive(Debug, Default)]
pub struct State {
    deployments: Mutex<Table<ObjectId, DeploymentState>>,
    endpoints: Mutex<Table<(UpstreamKey, SocketAddr), EndpointState>>,
    rules: Mutex<Table<RuleKey, RuleState>>,
    /// By namespace and URL: rules that go by the same keys share them, and wait for no other namespace's turn.
    jwks: Mutex<Table<(Arc<str>, Uri), Jwks>>,
    /// Places for client connections, by network.
    pub client_connections: Shares<IpAddr>,
    /// Client connections for which there was no place.
    pub refused: AtomicU64,
    /// Client connections that were closed to make room.
    pub displaced: AtomicU64,
    /// Descriptors for connections to apps, by namespace.
    pub app_connections: Shares<Arc<str>>,
    /// Handshakes in flight beside those that their Deployments have in line, by namespace.
    pub handshakes: Shares<Arc<str>>,
    /// Bytes of bodies that rules have read, by namespace.
    pub bodies: Shares<Arc<str>>,
    /// Whether memory is so short that no new request is taken.
    pub is_overloaded: AtomicBool,
    /// What is answered before a Deployment is found.
    pub unrouted: Traffic,
    pub tls: handshakes::Handshakes,
    /// Calls to the store that replicas share which nothing came of.
    pub store_errors: Arc<AtomicU64>,
    /// Lines of the access log that nobody took in time.
    pub access_log_dropped: Arc<AtomicU64>,
    pub spans: Arc<traces::Counts>,
}

/// How many times what is free one holder of connections may hold: a lone one has eight ninths of all.
const CONNECTIONS_RATIO: usize = 8;

/// Bytes that rules have read of bodies and that apps have not taken yet, in the whole process.
const BODIES: usize = 128 * 1024 * 1024;
/// A lone namespace has half of them: a body is large beside a connection, and others are to have room for some.
const BODIES_RATIO: usize = 1;
/// Some 30 KiB each.
const HANDSHAKES: usize = 2048;

impl State {
    /// With so many connections and no more.
    pub fn new(division: Division) -> Self {
        Self {
            client_connections: Shares::new(division.clients, CONNECTIONS_RATIO),
            app_connections: Shares::new(division.apps, CONNECTIONS_RATIO),
            handshakes: Shares::new(HANDSHAKES, CONNECTIONS_RATIO),
            bodies: Shares::new(BODIES, BODIES_RATIO),
            ..Self::default()
        }
    }

    /// Of the local ports toward the endpoint that has the fewest left, how much is free: 1 is all.
    pub fn free_ports(&self) -> f64 {
        let table = self.endpoints.lock();
        let alive = table.entries.values().filter_map(Weak::upgrade);
        alive.map(|endpoint| endpoint.ports.free()).fold(1.0, f64::min)
    }

    /// The state that the object already had, else a new one.
    pub fn deployment(&self, id: &ObjectId) -> Arc<DeploymentState> {
        let mut table = self.deployments.lock();
        table.get_or_insert(id)
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

    /// Every DeploymentState that is configured or still has requests or sockets.
    pub fn deployments(&self) -> Vec<(ObjectId, Arc<DeploymentState>)> {
        let table = self.deployments.lock();
        let alive = table
            .entries
            .iter()
            .filter_map(|(id, state)| Some((id.clone(), state.upgrade()?)));
        alive.collect()
    }

    /// Gives each rule of a new policy the state that its name already had, if any.
    /// Keys at a URL are fetched from now on, on the runtime that this is called on.
    pub fn pair_rules(&self, policy: &Policy, egress: &Arc<Egress>) {
        self.pair_rules_with(policy, |url| self.jwks(&policy.key.namespace, url, egress));
    }

    /// The same for a program that serves nobody: keys at a URL are not fetched.
    pub fn pair_rules_offline(&self, policy: &Policy) {
        self.pair_rules_with(policy, |_| Arc::default());
    }

    fn pair_rules_with(&self, policy: &Policy, keys_at: impl Fn(&Uri) -> Arc<Jwks>) {
        let mut table = self.rules.lock();
        for rule in policy.rules.iter().filter(|rule| !rule.runtime.is_filled()) {
            rule.runtime.fill(table.get_or_insert(&RuleKey {
                policy: policy.key.clone(),
                name: rule.name.clone(),
            }));
            if let RuleKind::Jwt(Jwt {
                keys: Keys::Url { url, fetched },
                ..
            }) = &rule.kind
            {
                fetched.fill(keys_at(url));
            }
        }
    }

    /// Keys that are fetched from now on, if they are not already.
    pub fn jwks(&self, namespace: &Arc<str>, url: &Uri, egress: &Arc<Egress>) -> Arc<Jwks> {
        let mut table = self.jwks.lock();
        let keys = table.get_or_insert(&(namespace.clone(), url.clone()));
        keys.start(namespace, url, egress);
        keys
    }

    /// Every rule that is configured or still has sockets.
    pub fn rules(&self) -> Vec<(RuleKey, Arc<RuleState>)> {
        let table = self.rules.lock();
        let alive = table
            .entries
            .iter()
            .filter_map(|(key, state)| Some((key.clone(), state.upgrade()?)));
        alive.collect()
    }

    /// None: neither a snapshot, a request nor a socket has it.
    pub fn existing(&self, id: &ObjectId) -> Option<Arc<DeploymentState>> {
        let table = self.deployments.lock();
        table.entries.get(id)?.upgrade()
    }
}
