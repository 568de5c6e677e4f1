//! What a full compile and a single change cost, at 10,000 Deployments and at 100,000. Prints figures; asserts nothing.
//! `cargo bench --bench compile`

#![allow(
    clippy::disallowed_methods,
    clippy::exit,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, waits, and ends when something is wrong"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use postern::api::deployment::{DeploymentSpec, ServiceRef};
use postern::compile::{Compiled, Input, Previous, compile};
use postern::config::{EndpointRules, Routing};
use postern::object::ObjectKey;
use postern::store;
use postern::store::{Batch, Event, Object, Store};
use postern::watch::trim;
use serde_json::json;

const NAMESPACES: usize = 100;
const ENDPOINTS: u8 = 5;
const ROUNDS: usize = 200;

fn main() {
    for count in [10_000, 100_000] {
        let mut world = World::new(count);
        println!("{count} Deployments, {} endpoints", count * usize::from(ENDPOINTS));
        println!("  full compile                 {:>10.1?}", world.full);
        let flap = world.rounds(|world, round| {
            let (at, ready) = (world.pick(round), round % 2 == 1);
            Object::EndpointSlice(slice(at, ready))
        });
        println!("  an endpoint flaps            {flap:>10.1?} (median of {ROUNDS})");
        let edit = world.rounds(|world, round| {
            let at = world.pick(round);
            Object::Deployment(deployment(at, &format!("edited-{round}.example.com")))
        });
        println!("  a hostname is edited         {edit:>10.1?} (median of {ROUNDS})");
        // One before each Deployment, and one before all of a namespace.
        for at in 0..count {
            world.apply(Object::SentinelPolicy(policy(at, Some(at), 1)));
        }
        let all = world.compile();
        println!("  with a policy before each    {all:>10.1?}");
        let narrow = world.rounds(|world, round| {
            let at = world.pick(round);
            Object::SentinelPolicy(policy(at, Some(at), 2 + round))
        });
        println!("  the policy of one is edited  {narrow:>10.1?} (median of {ROUNDS})");
        let broad = world.rounds(|_, round| Object::SentinelPolicy(policy(count, None, round)));
        println!(
            "  that of {:>4} is edited      {broad:>10.1?} (median of {ROUNDS})",
            count / NAMESPACES
        );
    }
}

/// A store, and what the last compile left.
struct World {
    store: Store,
    previous: Previous,
    routing: Routing,
    /// The snapshot before, held as the data plane would: a change has to copy what it touches.
    serving: Option<postern::snapshot::Snapshot>,
    count: usize,
    full: Duration,
}

impl World {
    fn new(count: usize) -> Self {
        let mut world = Self {
            store: Store::default(),
            previous: Previous::default(),
            routing: routing(),
            serving: None,
            count,
            full: Duration::ZERO,
        };
        for at in 0..count {
            world.apply(Object::Deployment(deployment(at, &format!("app-{at}.example.com"))));
            world.apply(Object::Service(service(at)));
            world.apply(Object::EndpointSlice(slice(at, true)));
        }
        world.full = world.compile();
        world
    }

    fn apply(&mut self, object: Object) {
        self.store.apply(Batch {
            events: vec![Event::Apply(object)],
            seen: Instant::now(),
        });
    }

    fn compile(&mut self) -> Duration {
        let changes = self.store.take_changes();
        let start = Instant::now();
        let input = Input {
            store: &self.store,
            changes: &changes,
            listener: &Arc::default(),
        };
        let Compiled {
            snapshot,
            previous,
            changed,
            ..
        } = compile(&input, &self.routing, std::mem::take(&mut self.previous));
        let took = start.elapsed();
        assert!(changed, "every round of this bench changes something");
        std::hint::black_box(snapshot.hash());
        self.previous = previous;
        self.serving = Some(snapshot);
        took
    }

    fn rounds(&mut self, change: impl Fn(&Self, usize) -> Object) -> Duration {
        let mut times: Vec<_> = (0..ROUNDS)
            .map(|round| {
                let object = change(self, round);
                self.apply(object);
                self.compile()
            })
            .collect();
        times.sort();
        times[ROUNDS / 2]
    }

    /// Spread over all; the same object twice in a row, so that every second round undoes the one before.
    fn pick(&self, round: usize) -> usize {
        (round / 2 * 7919) % self.count
    }
}

fn routing() -> Routing {
    Routing {
        class: "postern".into(),
        apex_domain: Some("apps.example.net".parse().unwrap()),
        hostname_grants: None,
        default_tls_secrets: Box::default(),
        require_policy: false,
        selectorless_services: true,
        shared_store: false,
        endpoints: EndpointRules {
            refuse_local: true,
            ..EndpointRules::default()
        },
    }
}

fn key(kind: &str, at: usize) -> ObjectKey {
    ObjectKey::new(&format!("team-{}", at % NAMESPACES), &format!("{kind}-{at}"))
}

fn deployment(at: usize, hostname: &str) -> store::Deployment {
    let spec = DeploymentSpec {
        class_name: "postern".to_owned(),
        hostnames: vec![hostname.to_owned()],
        service: Some(ServiceRef {
            name: format!("app-{at}"),
            port: IntOrString::String("http".to_owned()),
        }),
        backends: Vec::new(),
        paths: Vec::new(),
        policies: Vec::new(),
        ambiguous_paths: Default::default(),
        deployment_id: None,
        tls: Vec::new(),
        client_tls: None,
        upstream_tls: None,
        state: Default::default(),
        timeouts: Default::default(),
        balancing: Default::default(),
        web_socket: Default::default(),
    };
    store::Deployment {
        key: key("app", at),
        uid: format!("uid-{at}").into(),
        generation: 1,
        created: 1_700_000_000 + i64::try_from(at).unwrap(),
        labels: Arc::default(),
        spec: Ok(Arc::new(spec)),
        unknown: Box::default(),
        status: None,
    }
}

/// Before one Deployment, or before all of its namespace.
fn policy(at: usize, before: Option<usize>, round: usize) -> store::Policy {
    let rules = json!([
        {"name": "keys", "apiKey": {"secretSelector": {"matchLabels": {"app": "app"}}}},
        {"name": "limit", "rateLimit": {"limit": round + 1, "window": "1m"}},
    ]);
    let spec = match before {
        Some(before) => json!({"targetRefs": [{"name": format!("app-{before}")}], "rules": rules}),
        None => json!({"targetSelector": {}, "rules": rules}),
    };
    let object = json!({
        "apiVersion": "postern.dev/v1alpha1",
        "kind": "SentinelPolicy",
        "metadata": {"name": format!("policy-{at}"), "namespace": format!("team-{}", at % NAMESPACES), "uid": format!("policy-{at}")},
        "spec": spec,
    });
    trim::policy(serde_json::from_value(object).unwrap()).unwrap()
}

fn service(at: usize) -> store::Service {
    store::Service {
        key: key("app", at),
        external_name: false,
        selectorless: false,
        ports: vec![store::ServicePort {
            name: Some("http".into()),
            port: 80,
            protocol: "TCP".into(),
            app_protocol: None,
        }],
    }
}

fn slice(at: usize, first_is_ready: bool) -> store::EndpointSlice {
    let pod = u32::try_from(at).unwrap() * u32::from(ENDPOINTS);
    let endpoints = (0..u32::from(ENDPOINTS)).map(|n| {
        let ready = n > 0 || first_is_ready;
        store::SliceEndpoint {
            is_pod: true,
            addresses: vec![IpAddr::V4(Ipv4Addr::from(0x0a00_0100 + pod + n))],
            ready,
            serving: ready,
            terminating: false,
        }
    });
    store::EndpointSlice {
        key: key("app-slice", at),
        service: format!("app-{at}").into(),
        by_controller: true,
        ports: vec![store::SlicePort {
            name: Some("http".into()),
            port: 8080,
            protocol: "TCP".into(),
        }],
        endpoints: endpoints.collect(),
    }
}
