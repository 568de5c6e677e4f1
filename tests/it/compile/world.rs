//! Random histories in a small world, where everything meets everything. Whatever happened before, compile with memory gives
//! what compile without memory gives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use postern::api::deployment::{
    Acme, BackendRef, Balancing, CaRef, ClientTls, ClientTlsMode, DeploymentSpec, HolderKind, PathRule, PathType,
    SecretRef, ServiceRef, State, Strategy as Strategies, Tls, UpstreamTls as UpstreamTlsSpec,
};
use postern::compile::report::Report;
use postern::compile::{Compiled, Fresh, Input, Previous, compile};
use postern::config::{EndpointRules, Routing};
use postern::object::{Data, ObjectId, ObjectKey};
use postern::publish::restore;
use postern::saved_state::SavedState;
use postern::snapshot::{Action, Snapshot};
use postern::store::{
    Batch, Changes, ConfigMap, Deployment, EndpointSlice, Event, Kind, Object, Secret, Service, ServicePort,
    SliceEndpoint, SlicePort, Store, Undecoded,
};
use postern::upstream::Upstream;
use postern::upstream::tls::UpstreamTls;
use postern::watch::files;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use strum::VariantArray;

use crate::support::certs::{Authority, Leaf};

#[derive(Clone, Debug)]
enum Step {
    Event(Event),
    Configure(Routing),
    Compile,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compile_with_memory_equals_compile_from_scratch(start in routing(), history in vec(step(), 1..60)) {
        let mut observer = Observer::new(start);
        for step in history {
            observer.take(step);
        }
        observer.take(Step::Compile);
    }

    #[test]
    fn the_order_of_events_does_not_matter(
        routing in routing(),
        (objects, shuffled) in vec(object(), 1..25).prop_map(one_of_each).prop_flat_map(|objects| {
            (Just(objects.clone()), Just(objects).prop_shuffle())
        }),
    ) {
        let (one, other) = (from_scratch(&store(objects), &routing), from_scratch(&store(shuffled), &routing));
        prop_assert_eq!(serde_json::to_string(&one.snapshot).unwrap(), serde_json::to_string(&other.snapshot).unwrap());
        prop_assert_eq!(one.snapshot.hash(), other.snapshot.hash());
        prop_assert_eq!(reports(&one.previous), reports(&other.previous));
    }
}

/// Compiles as publish does, and checks each result.
struct Observer {
    store: Store,
    routing: Routing,
    previous: Previous,
    serving: Snapshot,
    reports: BTreeMap<ObjectId, Arc<Report>>,
    /// The uid of every Deployment that was ever served and is not gone.
    alive: BTreeMap<ObjectId, Arc<str>>,
    default_problems: Vec<String>,
}

impl Observer {
    fn new(routing: Routing) -> Self {
        Self {
            store: Store::default(),
            routing,
            previous: Previous::default(),
            serving: Snapshot::default(),
            reports: BTreeMap::new(),
            alive: BTreeMap::new(),
            default_problems: Vec::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Event(event) => self.store.apply(batch(event)),
            Step::Configure(routing) => self.routing = routing,
            Step::Compile => self.compile(),
        }
    }

    fn compile(&mut self) {
        let changes = self.store.take_changes();
        let input = Input {
            store: &self.store,
            changes: &changes,
            listener: &Arc::default(),
        };
        let last_good = self.previous.last_good();
        let compiled = compile(&input, &self.routing, std::mem::take(&mut self.previous));
        let wanted = from(last_good, &self.store, &self.routing);

        assert_eq!(compiled.snapshot, wanted.snapshot);
        assert_eq!(compiled.snapshot.hash(), wanted.snapshot.hash());
        assert_eq!(reports(&compiled.previous), reports(&wanted.previous));
        if let Some(problems) = &compiled.default_problems {
            assert_ne!(*problems, self.default_problems, "only what differs is told");
            self.default_problems.clone_from(problems);
        }
        assert_eq!(self.default_problems, wanted.default_problems.unwrap_or_default());
        assert_no_new_connections(&self.serving, &compiled.snapshot);
        assert_eq!(
            compiled.changed,
            compiled.snapshot != self.serving,
            "`changed` says whether to swap"
        );
        for (id, report) in &compiled.reports {
            assert_eq!(compiled.previous.report(id), report.as_ref());
            let before = match report {
                Some(report) => self.reports.insert(id.clone(), report.clone()),
                None => self.reports.remove(id),
            };
            assert_ne!(&before, report, "only reports that differ are told");
        }
        assert_eq!(
            self.reports.values().collect::<Vec<_>>(),
            compiled.previous.reports().collect::<Vec<_>>()
        );
        self.check_life(&compiled);
        assert_restored(&self.store, &self.routing, &compiled);
        publish(&compiled.fresh);
        assert_all_published(&compiled.snapshot);
        self.serving = compiled.snapshot;
        self.previous = compiled.previous;
    }

    /// A Deployment is told as removed when its object is gone, and not while it merely cannot be decoded.
    fn check_life(&mut self, compiled: &Compiled) {
        let gone = |id: &ObjectId, uid: &Arc<str>| {
            self.store.deployment(&id.key).is_none_or(|object| {
                object.uid != *uid
                    || object
                        .spec
                        .as_ref()
                        .is_ok_and(|spec| *spec.class_name != *self.routing.class)
            })
        };
        let removed: Vec<_> = self
            .alive
            .iter()
            .filter(|(key, uid)| gone(key, uid))
            .map(|(key, _)| key.clone())
            .collect();
        assert_eq!(compiled.removed, removed);
        self.alive.retain(|key, _| !removed.contains(key));
        self.alive.extend(
            compiled
                .snapshot
                .deployments
                .iter()
                .map(|(key, part)| (key.clone(), part.uid.clone())),
        );
    }
}

/// What is saved is enough to serve the same after a restart, last good versions included.
fn assert_restored(store: &Store, routing: &Routing, compiled: &Compiled) {
    let state = restore::state(store, &compiled.previous, Timestamp::UNIX_EPOCH);
    let text = serde_json::to_string(&state).unwrap();
    let SavedState { objects, stand_ins, .. } = serde_json::from_str::<SavedState<Object>>(&text).unwrap();
    for object in &objects {
        assert!(store.keys(object.id().kind).contains(&object.id().key), "{text}");
    }
    let ids: BTreeSet<_> = stand_ins.iter().map(Object::id).collect();
    if ids.len() < stand_ins.len() {
        // One version stands in for a certificate, another for the authorities of the same Secret: one of them is lost.
        return;
    }
    let (store, previous) = restore::restored(objects, stand_ins, routing, &Arc::default());
    let restored = from(previous, &store, routing);
    // Reports are not told before the apiserver was listed: they may miss a Secret that cannot be used anyway.
    assert_eq!(restored.snapshot, compiled.snapshot);
    assert_eq!(restored.snapshot.hash(), compiled.snapshot.hash());
}

fn publish(fresh: &Fresh) {
    for deployment in &fresh.deployments {
        assert!(!deployment.runtime.is_filled(), "a fresh part has no state yet");
        deployment.runtime.fill(Arc::default());
    }
    for policy in &fresh.policies {
        for rule in &policy.rules {
            assert!(!rule.runtime.is_filled(), "a fresh part has no state yet");
            rule.runtime.fill(Arc::default());
        }
    }
    for upstream in &fresh.upstreams {
        for endpoint in &upstream.endpoints {
            assert!(!endpoint.runtime.is_filled(), "a fresh part has no state yet");
            endpoint.runtime.fill(Arc::default());
        }
    }
}

/// What apps are met by stays the same part while it says the same: connections to apps go by it.
fn assert_no_new_connections(before: &Snapshot, after: &Snapshot) {
    let by_deployment = |snapshot: &Snapshot| -> BTreeMap<ObjectId, Arc<UpstreamTls>> {
        let hosts = snapshot.hosts.exact.iter().chain(snapshot.hosts.one_label.iter());
        let routes = hosts.flat_map(|(_, host)| host.routes.to_vec());
        routes
            .map(|route| (route.deployment.id.clone(), route.upstream_tls))
            .collect()
    };
    let before = by_deployment(before);
    for (key, new) in by_deployment(after) {
        if let Some(old) = before.get(&key).filter(|old| **old == new) {
            assert!(Arc::ptr_eq(old, &new), "{key}: equal, and not the same");
        }
    }
}

/// Nothing gets into a snapshot without having been told as fresh, and one upstream stands there as one part.
fn assert_all_published(snapshot: &Snapshot) {
    let mut upstreams: Vec<&Arc<Upstream>> = Vec::new();
    for (key, deployment) in snapshot.deployments.iter() {
        assert!(deployment.runtime.is_filled(), "{key} was never told as fresh");
    }
    for (key, policy) in snapshot.policies.iter() {
        let filled = policy.rules.iter().all(|rule| rule.runtime.is_filled());
        assert!(filled, "policy {key} was never told as fresh");
    }
    for (_, host) in snapshot.hosts.exact.iter().chain(snapshot.hosts.one_label.iter()) {
        for route in &host.routes {
            for policy in route.policies.iter().flat_map(|policies| policies.iter()) {
                let part = snapshot.policies.get(&policy.key).unwrap();
                assert!(Arc::ptr_eq(part, policy), "a route has a policy of its own");
            }
            let part = snapshot.deployments.get(&route.deployment.id).unwrap();
            assert!(
                Arc::ptr_eq(part, &route.deployment),
                "a route has a Deployment of its own"
            );
            let Action::Forward(backends) = &route.action else {
                continue;
            };
            for upstream in backends.iter().filter_map(|backend| backend.upstream.as_ref()) {
                assert!(upstream.endpoints.iter().all(|endpoint| endpoint.runtime.is_filled()));
                // A file may list one number twice, under names of its own and with other protocols: these differ.
                let same = upstreams.iter().find(|known| **known == upstream);
                assert!(
                    same.is_none_or(|known| Arc::ptr_eq(known, upstream)),
                    "{:?} stands there twice",
                    upstream.key
                );
                upstreams.push(upstream);
            }
        }
    }
}

pub fn from_scratch(store: &Store, routing: &Routing) -> Compiled {
    from(Previous::default(), store, routing)
}

fn from(previous: Previous, store: &Store, routing: &Routing) -> Compiled {
    compile(
        &Input {
            store,
            changes: &Changes::default(),
            listener: &Arc::default(),
        },
        routing,
        previous,
    )
}

pub fn store(objects: Vec<Object>) -> Store {
    let mut store = Store::default();
    objects
        .into_iter()
        .map(Event::Apply)
        .for_each(|event| store.apply(batch(event)));
    store
}

/// The last of each key: of what is told twice, the order does matter.
pub fn one_of_each(objects: Vec<Object>) -> Vec<Object> {
    let keyed = objects.into_iter().map(|object| (object.id(), object));
    keyed.collect::<BTreeMap<_, _>>().into_values().collect()
}

fn reports(previous: &Previous) -> Vec<Report> {
    previous.reports().map(|report| Report::clone(report)).collect()
}

fn batch(event: Event) -> Batch {
    Batch {
        events: vec![event],
        seen: Instant::now(),
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => object().prop_map(Event::Apply).prop_map(Step::Event),
        3 => (select(Kind::VARIANTS.to_vec()), any_key()).prop_map(|(kind, key)| Step::Event(Event::Delete(ObjectId::new(kind, key)))),
        1 => (select(Kind::VARIANTS.to_vec()), subsequence(all_keys(), 0..=all_keys().len())).prop_map(|(kind, keys)| {
            Step::Event(Event::Listed(kind, BTreeSet::from_iter(keys)))
        }),
        1 => routing().prop_map(Step::Configure),
        6 => Just(Step::Compile),
    ]
}

const NAMESPACES: [&str; 2] = ["a", "b"];
const NAMES: [&str; 3] = ["one", "two", "th.ree"];

fn all_keys() -> Vec<ObjectKey> {
    NAMESPACES
        .iter()
        .flat_map(|namespace| NAMES.iter().map(|name| ObjectKey::new(namespace, name)))
        .collect()
}

fn any_key() -> impl Strategy<Value = ObjectKey> {
    select(all_keys())
}

pub fn routing() -> impl Strategy<Value = Routing> {
    let grants = select(vec![
        vec![("a", "*.example.com"), ("b", "x.example.com")],
        vec![("a", "x.example.com"), ("b", "*.example.com"), ("b", "example.com")],
        vec![("b", "one-a.example.com"), ("b", "x.example.com")],
        vec![],
    ]);
    (
        any::<bool>(),
        option::weighted(0.3, grants),
        any::<bool>(),
        any::<bool>(),
        vec(any_key(), 0..2),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(apex, grants, selectorless_services, refuse_local, defaults, require_policy)| Routing {
                class: "postern".into(),
                apex_domain: apex.then(|| "example.com".parse().unwrap()),
                hostname_grants: grants.map(|grants| {
                    let mut all = BTreeMap::<Arc<str>, Vec<_>>::new();
                    for (namespace, pattern) in grants {
                        all.entry(namespace.into()).or_default().push(pattern.parse().unwrap());
                    }
                    all
                }),
                selectorless_services,
                shared_store: false,
                require_policy,
                default_tls_secrets: defaults.into(),
                endpoints: EndpointRules {
                    refuse_local,
                    own: BTreeSet::from(["10.0.0.1:81".parse().unwrap()]),
                },
            },
        )
}

pub fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        3 => deployment().prop_map(Object::Deployment),
        1 => service().prop_map(Object::Service),
        2 => slice().prop_map(Object::EndpointSlice),
        2 => secret().prop_map(Object::Secret),
        1 => config_map().prop_map(Object::ConfigMap),
        3 => policy(),
        2 => policy_data(),
    ]
}

pub fn deployment() -> impl Strategy<Value = Deployment> {
    let spec = prop_oneof![9 => spec().prop_map(|spec| Ok(Arc::new(spec))), 1 => Just(Err(undecoded()))];
    let identity = (any_key(), select(vec!["u1", "u2"]), 1..3i64, 1..4i64);
    (identity, labels(), spec).prop_map(|((key, uid, generation, created), labels, spec)| Deployment {
        key,
        uid: uid.into(),
        generation,
        created,
        labels: Arc::new(labels),
        spec,
        unknown: Box::default(),
        status: None,
    })
}

fn undecoded() -> Undecoded<DeploymentSpec> {
    Undecoded {
        error: "spec.x: no".into(),
        claims: None,
    }
}

fn spec() -> impl Strategy<Value = DeploymentSpec> {
    let hostnames = [
        "example.com",
        "x.example.com",
        "y.example.com",
        "*.example.com",
        "x.y.example.com",
        "*.y.example.com",
        "one-a.example.com",
        "X.EXAMPLE.COM.",
        "not_a_name",
    ];
    (
        prop_oneof![9 => Just("postern"), 1 => Just("other")],
        vec(select(hostnames.to_vec()), 0..4),
        backends(),
        vec(path_rule(), 0..4),
        option::weighted(0.2, select(vec!["id", "", "ü"])),
        prop_oneof![4 => Just(State::Running), 1 => Just(State::Stopped)],
        select(vec![Strategies::LeastConnections, Strategies::Random]),
        (
            vec(tls(), 0..3),
            option::weighted(0.3, client_tls()),
            option::weighted(0.3, upstream_tls()),
            subsequence(vec!["one", "two", "four"], 0..2),
        ),
    )
        .prop_map(
            |(class, hostnames, (service, backends), paths, id, state, strategy, tls)| DeploymentSpec {
                class_name: class.to_owned(),
                hostnames: hostnames.into_iter().map(str::to_owned).collect(),
                service,
                backends,
                paths,
                policies: tls.3.into_iter().map(str::to_owned).collect(),
                ambiguous_paths: Default::default(),
                deployment_id: id.map(str::to_owned),
                tls: tls.0,
                client_tls: tls.1,
                upstream_tls: tls.2,
                state,
                timeouts: Default::default(),
                balancing: Balancing { strategy },
                web_socket: Default::default(),
            },
        )
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let label = (select(vec!["app", "team"]), select(vec!["x", "y"]));
    vec(label, 0..3).prop_map(|labels| {
        let labels = labels.into_iter();
        labels
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .collect()
    })
}

/// As it is decoded, be it understood or not.
fn policy() -> impl Strategy<Value = Object> {
    let targets = select(vec![
        json!({"targetRefs": [{"name": "one"}]}),
        json!({"targetRefs": [{"name": "two"}, {"name": "th.ree"}]}),
        json!({"targetSelector": {"matchLabels": {"app": "x"}}}),
        json!({"targetSelector": {}}),
        json!({"targetRefs": [{"kind": "Gateway", "name": "one"}]}),
        json!({}),
    ]);
    let mode = prop_oneof![
        6 => Just(json!("Enforce")),
        3 => Just(json!("Shadow")),
        1 => Just(json!("Observe")),
    ];
    let spec = (targets, mode, -1..2i32, vec(rule(), 1..4)).prop_map(|(mut spec, mode, priority, mut rules)| {
        for (at, rule) in rules.iter_mut().enumerate() {
            rule["name"] = format!("r{at}").into();
        }
        spec["mode"] = mode;
        spec["priority"] = priority.into();
        spec["rules"] = rules.into();
        spec
    });
    let identity = (any_key(), select(vec!["p1", "p2"]), 1..3i64, 1..4i64);
    (identity, spec).prop_map(|((key, uid, generation, created), spec)| {
        decoded(json!({
            "apiVersion": "postern.dev/v1alpha1",
            "kind": "SentinelPolicy",
            "metadata": {
                "name": &*key.name, "namespace": &*key.namespace, "uid": uid, "generation": generation,
                "creationTimestamp": format!("1970-01-01T00:00:0{created}Z"),
            },
            "spec": spec,
        }))
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let from_issuer =
        |jwks: Value| json!({"jwt": {"issuer": "i", "audiences": ["a"], "jwks": jwks, "algorithms": ["ES256"]}});
    let kinds = [
        json!({"firewall": {"action": "Deny"}}),
        json!({"match": [{"path": {"regex": "/a.*"}}], "firewall": {"action": "Allow"}}),
        json!({"match": [{"path": {"regex": "("}}], "firewall": {"action": "Deny"}}),
        json!({"apiKey": {"secretSelector": {"matchLabels": {"team": "x"}}}}),
        json!({"apiKey": {"secretRefs": [{"name": "one"}, {"name": "two"}]}}),
        json!({"basicAuth": {"secretRef": {"name": "one"}}}),
        from_issuer(json!({"secretRef": {"name": "two"}})),
        from_issuer(json!({"configMapRef": {"name": "one"}})),
        json!({"openapi": {"documentRef": {"name": "two"}}}),
        json!({"forwardAuth": {"service": {"name": "one", "port": 80}}}),
        json!({"forwardAuth": {"service": {"name": "two", "port": "http"}, "failOpen": true}}),
        json!({"rateLimit": {"limit": 1, "window": "1m", "by": [{"host": {}}]}}),
        json!({"teleport": {}}),
    ];
    let mode = prop_oneof![4 => Just(None), 1 => Just(Some("Shadow")), 1 => Just(Some("Enforce"))];
    (select(kinds.to_vec()), mode, prop::bool::weighted(0.9)).prop_map(|(mut rule, mode, enabled)| {
        rule["enabled"] = enabled.into();
        if let Some(mode) = mode {
            rule["mode"] = mode.into();
        }
        rule
    })
}

/// What rules refer to, be it understood or not.
fn policy_data() -> impl Strategy<Value = Object> {
    const USERS: &str = "a:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
    let set = |use_: &str| {
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": use_,
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        }]})
    };
    let document = |title: &str| json!({"openapi": "3.1.0", "info": {"title": title, "version": "1"}, "paths": {}});
    let data = [
        ("Secret", "api-key", json!({"key": "hush-one"})),
        ("Secret", "api-key", json!({"key": "hush-two", "meta": "{}"})),
        ("Secret", "api-key", json!({"key": "hush-two", "enabled": "perhaps"})),
        ("Secret", "htpasswd", json!({"auth": USERS})),
        ("Secret", "htpasswd", json!({"auth": format!("{USERS}\nb:hush")})),
        ("Secret", "htpasswd", json!({"auth": "b:hush"})),
        ("Secret", "jwks", json!({"jwks.json": set("sig").to_string()})),
        ("ConfigMap", "jwks", json!({"jwks.json": set("sig").to_string()})),
        ("ConfigMap", "jwks", json!({"jwks.json": set("enc").to_string()})),
        (
            "ConfigMap",
            "openapi",
            json!({"openapi.json": document("one").to_string()}),
        ),
        (
            "ConfigMap",
            "openapi",
            json!({"openapi.json": document("two").to_string()}),
        ),
        ("ConfigMap", "openapi", json!({"openapi.yaml": "openapi: 2"})),
    ];
    let identity = (any_key(), select(vec!["d1", "d2"]), labels());
    (identity, select(data.to_vec())).prop_map(|((key, uid, mut labels), (kind, purpose, data))| {
        labels.insert("postern.dev/use".to_owned(), purpose.to_owned());
        let field = if kind == "Secret" { "stringData" } else { "data" };
        decoded(json!({
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": &*key.name, "namespace": &*key.namespace, "uid": uid, "labels": labels},
            field: data,
        }))
    })
}

fn decoded(manifest: Value) -> Object {
    let mut objects = files::parse(&manifest.to_string());
    objects.remove(0).unwrap()
}

fn tls() -> impl Strategy<Value = Tls> {
    let hostnames = ["x.example.com", "*.example.com", "example.com", "one-a.example.com"];
    let source = prop_oneof![
        3 => select(NAMES.to_vec()).prop_map(|name| (Some(name.to_owned()), None)),
        1 => Just((None, Some(Acme {}))),
    ];
    (vec(select(hostnames.to_vec()), 0..2), source).prop_map(|(hostnames, (secret_name, acme))| Tls {
        hostnames: hostnames.into_iter().map(str::to_owned).collect(),
        secret_name,
        acme,
    })
}

fn ca_ref() -> impl Strategy<Value = CaRef> {
    (
        select(vec![HolderKind::ConfigMap, HolderKind::Secret]),
        select(NAMES.to_vec()),
    )
        .prop_map(|(kind, name)| CaRef {
            kind,
            name: name.to_owned(),
        })
}

fn client_tls() -> impl Strategy<Value = ClientTls> {
    let mode = select(vec![ClientTlsMode::Required, ClientTlsMode::Optional]);
    (ca_ref(), mode).prop_map(|(ca_ref, mode)| ClientTls { ca_ref, mode })
}

fn upstream_tls() -> impl Strategy<Value = UpstreamTlsSpec> {
    let server_name = option::of(select(vec!["app.internal", "not a name"]));
    let certificate = option::of(select(NAMES.to_vec()));
    (option::of(ca_ref()), server_name, certificate).prop_map(|(ca_ref, server_name, certificate)| UpstreamTlsSpec {
        ca_ref,
        server_name: server_name.map(str::to_owned),
        client_certificate_ref: certificate.map(|name| SecretRef { name: name.to_owned() }),
    })
}

/// What Secrets hold: made once, since keys are dear.
static CERTIFICATES: LazyLock<[Leaf; 3]> = LazyLock::new(|| {
    let authority = Authority::new("world");
    let names = [
        &["x.example.com"][..],
        &["*.example.com", "example.com"],
        &["elsewhere.test"],
    ];
    names.map(|names| authority.server(names))
});
static AUTHORITIES: LazyLock<[String; 2]> = LazyLock::new(|| ["one", "two"].map(|name| Authority::new(name).pem()));

fn secret() -> impl Strategy<Value = Secret> {
    let certificates = (0..3usize, 0..6usize).prop_map(|(certificate, key)| {
        // Now and then the key is another's.
        let key = if key < 3 { key } else { certificate };
        let certificate = CERTIFICATES[certificate].certificate.as_bytes();
        Data::from_iter([("tls.crt", certificate), ("tls.key", CERTIFICATES[key].key.as_bytes())])
    });
    let broken = Just(Data::from_iter([("tls.crt", &b"hush"[..])]));
    let tls = prop_oneof![4 => certificates, 1 => broken].prop_map(|data| (true, None, data));
    let authorities = (any::<bool>(), option::weighted(0.9, Just("ca")), authorities())
        .prop_map(|(tls, purpose, data)| (tls, purpose, data));
    let challenge =
        (select(vec!["x.example.com", "example.com"]), select(vec!["t1", "t2"])).prop_map(|(host, token)| {
            let entries = [("hostname", host), ("token", token), ("keyAuthorization", "a.b")];
            let data = Data::from_iter(entries.map(|(key, text)| (key, text.as_bytes())));
            (false, Some("acme"), data)
        });
    let content = prop_oneof![4 => tls, 1 => authorities, 1 => challenge];
    (any_key(), select(vec!["s1", "s2"]), content).prop_map(|(key, uid, (tls, purpose, data))| Secret {
        key,
        uid: uid.into(),
        labels: Arc::default(),
        tls,
        purpose: purpose.map(Into::into),
        data,
    })
}

fn config_map() -> impl Strategy<Value = ConfigMap> {
    let purpose = prop_oneof![5 => Just("ca"), 1 => Just("openapi")];
    (any_key(), select(vec!["c1", "c2"]), purpose, authorities()).prop_map(|(key, uid, purpose, data)| ConfigMap {
        key,
        uid: uid.into(),
        purpose: purpose.into(),
        data,
    })
}

fn authorities() -> impl Strategy<Value = Data> {
    let text = prop_oneof![
        4 => (0..2usize).prop_map(|at| AUTHORITIES[at].as_str()),
        1 => Just("hush"),
    ];
    text.prop_map(|text| Data::from_iter([("ca.crt", text.as_bytes())]))
}

fn path_rule() -> impl Strategy<Value = PathRule> {
    let paths = ["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "a", "/b"];
    (
        select(paths.to_vec()),
        select(vec![PathType::Prefix, PathType::Exact]),
        backends(),
    )
        .prop_map(|(path, r#type, (service, backends))| PathRule {
            path: path.to_owned(),
            r#type,
            service,
            backends,
        })
}

fn backends() -> impl Strategy<Value = (Option<ServiceRef>, Vec<BackendRef>)> {
    let backend =
        (service_ref(), select(vec![0, 1, 5, 2000])).prop_map(|(service, weight)| BackendRef { service, weight });
    prop_oneof![
        4 => service_ref().prop_map(|service| (Some(service), Vec::new())),
        2 => vec(backend.clone(), 0..3).prop_map(|backends| (None, backends)),
        1 => (service_ref(), backend).prop_map(|(service, backend)| (Some(service), vec![backend])),
    ]
}

fn service_ref() -> impl Strategy<Value = ServiceRef> + Clone {
    let port = prop_oneof![
        select(vec![80, 81, 0]).prop_map(IntOrString::Int),
        select(vec!["http", "alt", "80"]).prop_map(|name| IntOrString::String(name.to_owned())),
    ];
    (select(vec!["one", "two"]), port).prop_map(|(name, port)| ServiceRef {
        name: name.to_owned(),
        port,
    })
}

fn service() -> impl Strategy<Value = Service> {
    let protocol = prop_oneof![5 => Just("TCP"), 1 => Just("UDP")];
    let app_protocol = option::weighted(0.3, select(vec!["http", "kubernetes.io/h2c", "https", "grpc"]));
    let port = (
        option::of(select(vec!["http", "alt"])),
        select(vec![80, 81]),
        protocol,
        app_protocol,
    );
    let ports = vec(port, 0..3).prop_map(|ports| {
        let ports = ports
            .into_iter()
            .map(|(name, port, protocol, app_protocol)| ServicePort {
                name: name.map(Into::into),
                port,
                protocol: protocol.into(),
                app_protocol: app_protocol.map(Into::into),
            });
        ports.collect()
    });
    (any_key(), prop::bool::weighted(0.1), prop::bool::weighted(0.2), ports).prop_map(
        |(key, external_name, selectorless, ports)| Service {
            key,
            external_name,
            selectorless,
            ports,
        },
    )
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let addresses = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1", "2001:db8::1", "127.0.0.1"];
    let address = select(addresses.to_vec()).prop_map(|address| address.parse::<IpAddr>().unwrap());
    let conditions = (any::<bool>(), any::<bool>(), any::<bool>());
    let endpoint = (vec(address, 1..3), prop::bool::weighted(0.8), conditions).prop_map(
        |(addresses, is_pod, (ready, serving, terminating))| SliceEndpoint {
            addresses,
            is_pod,
            ready,
            serving,
            terminating,
        },
    );
    let port = (option::of(select(vec!["http", "alt"])), select(vec![81, 8080])).prop_map(|(name, port)| SlicePort {
        name: name.map(Into::into),
        port,
        protocol: "TCP".into(),
    });
    (
        any_key(),
        select(vec!["one", "two"]),
        prop::bool::weighted(0.8),
        vec(port, 0..3),
        vec(endpoint, 0..3),
    )
        .prop_map(|(key, service, by_controller, ports, endpoints)| EndpointSlice {
            key,
            service: service.into(),
            by_controller,
            ports,
            endpoints,
        })
}
