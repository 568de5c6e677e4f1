//! Broken edits of policies: the last good version stays in force; where there is none, nobody passes, and nobody else is
//! touched.

use std::sync::Arc;
use std::time::Instant;

use postern::compile::report::Report;
use postern::compile::{Compiled, Input, Previous, compile};
use postern::config::{EndpointRules, Routing};
use postern::object::{ObjectId, ObjectKey};
use postern::policy::RuleKind as Rule;
use postern::snapshot::{Action, Route, Snapshot};
use postern::store::{Batch, Event, Kind, Store};
use postern::watch::files;
use serde_json::{Value, json};

/// Deployments acme/one and acme/two on one.test and two.test, and the policy acme/guard.
struct World {
    store: Store,
    previous: Previous,
    snapshot: Snapshot,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            store: Store::default(),
            previous: Previous::default(),
            snapshot: Snapshot::default(),
        };
        world.apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "acme"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }));
        for name in ["one", "two"] {
            world.apply(json!({
                "apiVersion": "postern.dev/v1alpha1", "kind": "Deployment",
                "metadata": {"name": name, "namespace": "acme"},
                "spec": {"hostnames": [format!("{name}.test")], "service": {"name": "web", "port": 80}},
            }));
        }
        world
    }

    fn guard(&mut self, spec: Value) {
        self.guard_with("u1", spec);
    }

    fn guard_with(&mut self, uid: &str, spec: Value) {
        self.apply(json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "SentinelPolicy",
            "metadata": {"name": "guard", "namespace": "acme", "uid": uid}, "spec": spec,
        }));
    }

    fn apply(&mut self, manifest: Value) {
        let objects = files::parse(&manifest.to_string()).into_iter();
        self.take(objects.map(|object| Event::Apply(object.unwrap())).collect());
    }

    fn delete(&mut self, kind: Kind, name: &str) {
        self.take(vec![Event::Delete(ObjectId::new(kind, ObjectKey::new("acme", name)))]);
    }

    fn take(&mut self, events: Vec<Event>) {
        let seen = Instant::now();
        self.store.apply(Batch { events, seen });
        let previous = std::mem::take(&mut self.previous);
        self.compile(previous);
    }

    /// As a replica that starts now, and has seen nothing before.
    fn restart(&mut self) {
        self.compile(Previous::default());
    }

    fn compile(&mut self, previous: Previous) {
        let changes = self.store.take_changes();
        let routing = Routing {
            class: "postern".into(),
            apex_domain: None,
            hostname_grants: None,
            default_tls_secrets: Box::default(),
            require_policy: false,
            selectorless_services: true,
            shared_store: false,
            endpoints: EndpointRules::default(),
        };
        let input = Input {
            store: &self.store,
            changes: &changes,
            listener: &Arc::default(),
        };
        let Compiled { snapshot, previous, .. } = compile(&input, &routing, previous);
        (self.snapshot, self.previous) = (snapshot, previous);
    }

    fn route(&self, host: &str) -> &Route {
        &self.snapshot.hosts.find(host).unwrap().routes[0]
    }

    /// What stands before each of the two: "closed", or the names of the rules.
    fn stands(&self) -> [String; 2] {
        ["one.test", "two.test"].map(|host| {
            let route = self.route(host);
            if let Action::Refuse(reason) = &route.action
                && reason.code() == "config:policy_invalid"
            {
                return "closed".to_owned();
            }
            let policies = route.policies.iter().flat_map(|policies| policies.iter());
            let rules = policies.flat_map(|policy| &policy.rules).map(|rule| &*rule.name);
            rules.collect::<Vec<_>>().join(" ")
        })
    }

    fn report(&self) -> &Report {
        let guard = ObjectId::new(Kind::SentinelPolicy, ObjectKey::new("acme", "guard"));
        self.previous.report(&guard).unwrap()
    }

    fn told(&self) -> Vec<String> {
        let conditions = self.report().findings().iter();
        conditions
            .map(|found| format!("{} {}", found.status, found.reason))
            .collect()
    }
}

fn deny(name: &str) -> Value {
    json!({"name": name, "firewall": {"action": "Deny"}})
}

fn broken(name: &str) -> Value {
    json!({"name": name, "match": [{"path": {"regex": "("}}], "firewall": {"action": "Deny"}})
}

fn spec(rules: Value) -> Value {
    json!({"targetRefs": [{"name": "one"}], "rules": rules})
}

#[test]
fn a_broken_edit_keeps_the_last_good_rules_and_its_repair_ends_that() {
    let mut world = World::new();
    world.guard(spec(json!([deny("a")])));
    assert_eq!(world.stands(), ["a", ""]);
    assert_eq!(world.told(), ["true Accepted", "true ResolvedRefs"]);
    let before = world.snapshot.clone();

    for edit in [
        json!([deny("a"), broken("b")]),
        json!([deny("a"), {"name": "b", "teleport": {}}]),
        json!([]),
    ] {
        world.guard(spec(edit));
        assert_eq!(world.stands(), ["a", ""]);
        assert_eq!(world.told()[0], "false ServingLastGood");
        assert_eq!(world.snapshot, before, "nothing is swapped");
    }
    world.guard(spec(json!([deny("a"), deny("b")])));
    assert_eq!(world.stands(), ["a b", ""]);
    assert_eq!(world.told(), ["true Accepted", "true ResolvedRefs"]);
}

#[test]
fn without_a_last_good_version_its_targets_alone_are_closed() {
    let mut world = World::new();
    world.guard(spec(json!([deny("a")])));
    world.guard(spec(json!([deny("a"), broken("b")])));
    world.restart();
    assert_eq!(world.stands(), ["closed", ""]);
    assert_eq!(world.told()[0], "false Invalid");
    // Nor is another object's version served in its place.
    let mut world = World::new();
    world.guard(spec(json!([deny("a")])));
    world.guard_with("u2", spec(json!([broken("b")])));
    assert_eq!(world.stands(), ["closed", ""]);
    world.delete(Kind::SentinelPolicy, "guard");
    assert_eq!(world.stands(), ["", ""]);
    world.guard_with("u2", spec(json!([broken("b")])));
    assert_eq!(world.stands(), ["closed", ""]);
}

#[test]
fn targets_are_understood_though_rules_are_not_and_the_other_way_round() {
    let mut world = World::new();
    world.guard(spec(json!([deny("a")])));
    world.guard(json!({"targetRefs": [{"name": "two"}], "rules": [broken("b")]}));
    assert_eq!(world.stands(), ["", "a"]);
    world.guard(json!({"targetRefs": [{"name": "two", "section": "x"}], "rules": [deny("b")]}));
    assert_eq!(world.stands(), ["a", ""]);
    world.restart();
    assert_eq!(world.stands(), ["closed", "closed"]);
    assert!(
        world.report().findings()[0]
            .message
            .contains("every Deployment in its namespace")
    );
}

#[test]
fn the_shadow_stays_the_shadow_while_an_edit_of_the_mode_is_not_understood() {
    let mut world = World::new();
    let with_mode = |mode: &str| json!({"targetRefs": [{"name": "one"}], "mode": mode, "rules": [deny("a")]});
    world.guard(with_mode("Shadow"));
    world.guard(with_mode("Observe"));
    let policies = world.route("one.test").policies.clone().unwrap();
    assert_eq!(policies[0].mode, postern::policy::mode::Mode::Shadow);
    assert_eq!(world.told()[0], "false ServingLastGood");
    world.restart();
    assert_eq!(world.stands(), ["closed", ""]);
}

#[test]
fn a_malformed_reference_is_stood_in_for_and_a_deleted_one_closes() {
    let users = |text: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "users", "namespace": "acme", "labels": {"postern.dev/use": "htpasswd"}},
            "stringData": {"auth": text},
        })
    };
    const LINE: &str = "ann:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
    let mut world = World::new();
    world.guard(spec(
        json!([{"name": "users", "basicAuth": {"secretRef": {"name": "users"}}}]),
    ));
    assert_eq!(world.stands(), ["closed", ""]);
    assert_eq!(world.told(), ["false Invalid", "false SecretNotFound"]);
    world.apply(users(LINE));
    assert_eq!(
        (world.stands(), world.told()[1].as_str()),
        (["users".into(), String::new()], "true ResolvedRefs")
    );
    let before = world.snapshot.clone();
    let mut nameless = users(LINE);
    nameless["stringData"] = json!({"passwords": LINE});
    world.apply(nameless);
    assert_eq!(world.snapshot, before);
    assert_eq!(world.told(), ["true Accepted", "false ServingLastGood"]);
    // Whoever takes the last user away, or locks him, is not to be stood in for.
    let held = |world: &World| {
        let policies = world.route("one.test").policies.clone().unwrap();
        let Rule::BasicAuth(rule) = &policies[0].rules[0].kind else {
            panic!("it is a rule on users");
        };
        serde_json::to_value(rule).unwrap()["users"]["count"].clone()
    };
    assert_eq!(held(&world), 1);
    for nobody in ["", "# ann is away", &format!("ann:!{LINE}"), "ann:plain"] {
        world.apply(users(nobody));
        assert_eq!(held(&world), 0, "{nobody:?}");
        assert_eq!(world.told(), ["true Accepted", "false InvalidReference"]);
    }
    world.apply(users(LINE));
    assert_eq!(held(&world), 1);
    // The last good version of the rules refers to what is there.
    world.guard(spec(
        json!([{"name": "other", "basicAuth": {"secretRef": {"name": "nowhere"}}}]),
    ));
    assert_eq!(world.stands(), ["users", ""]);
    assert_eq!(world.told()[0], "false ServingLastGood");
    // What is gone is gone, for the last good version as well.
    world.delete(Kind::Secret, "users");
    assert_eq!(world.stands(), ["closed", ""]);
    assert_eq!(world.told()[0], "false Invalid");
}

#[test]
fn a_key_that_is_revoked_broken_or_moved_costs_itself_alone() {
    let key = |name: &str, team: &str, field: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": "acme", "labels": {"postern.dev/use": "api-key", "team": team}},
            "stringData": {field: format!("hush-{name}")},
        })
    };
    let mut world = World::new();
    let selector = json!({"matchLabels": {"team": "x"}});
    world.guard(spec(json!([{"name": "keys", "apiKey": {"secretSelector": selector}}])));
    assert_eq!(world.told(), ["true Accepted", "false SecretNotFound"]);
    let keys = |world: &World| {
        let policies = world.route("one.test").policies.clone().unwrap();
        let Rule::ApiKey(rule) = &policies[0].rules[0].kind else {
            panic!("it is a rule on keys");
        };
        serde_json::to_value(&rule.keys).unwrap()
    };
    world.apply(key("a", "x", "key"));
    let one = keys(&world);
    world.apply(key("b", "x", "key"));
    let two = keys(&world);
    assert_ne!(one, two);
    assert_eq!(world.told(), ["true Accepted", "true ResolvedRefs"]);
    // Malformed.
    world.apply(key("b", "x", "nothing"));
    assert_eq!(keys(&world), one);
    assert_eq!(world.told(), ["true Accepted", "false InvalidReference"]);
    world.apply(key("b", "x", "key"));
    assert_eq!(keys(&world), two);
    // Selected no more.
    world.apply(key("b", "y", "key"));
    assert_eq!(keys(&world), one);
    world.apply(key("b", "x", "key"));
    world.delete(Kind::Secret, "b");
    assert_eq!(keys(&world), one);
    assert_eq!(world.told(), ["true Accepted", "true ResolvedRefs"]);
}

#[test]
fn a_change_of_one_policy_leaves_all_other_parts_as_they_are() {
    let mut world = World::new();
    world.guard(spec(json!([deny("a")])));
    let other = json!({
        "apiVersion": "postern.dev/v1alpha1", "kind": "SentinelPolicy",
        "metadata": {"name": "other", "namespace": "acme"},
        "spec": {"targetRefs": [{"name": "two"}], "rules": [deny("o")]},
    });
    world.apply(other.clone());
    let host = |world: &World| world.snapshot.hosts.find("two.test").unwrap().clone();
    let before = host(&world);
    world.guard(spec(json!([deny("b")])));
    world.apply(other);
    assert!(Arc::ptr_eq(&before, &host(&world)));
    assert_eq!(world.stands(), ["b", "o"]);
}

#[test]
fn secrets_of_policies_are_never_shown() {
    let mut world = World::new();
    let secret = |name: &str, purpose: &str, data: Value| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": "acme", "labels": {"postern.dev/use": purpose}},
            "stringData": data,
        })
    };
    const HASH: &str = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
    world.apply(secret("key", "api-key", json!({"key": "hush-key"})));
    world.apply(secret(
        "bad",
        "api-key",
        json!({"key": "hush-bad", "expiresAt": "hush-time"}),
    ));
    world.apply(secret(
        "users",
        "htpasswd",
        json!({"auth": format!("ann:{HASH}\nbob:hush-plain")}),
    ));
    world.guard(spec(json!([
        {"name": "keys", "apiKey": {"secretSelector": {}}},
        {"name": "users", "basicAuth": {"secretRef": {"name": "users"}}},
        {"name": "edits", "requestHeaders": {"set": [{"name": "X-Token", "value": "hush-value"}]}},
    ])));
    assert_eq!(world.stands()[0], "keys users edits");
    assert_eq!(world.store.count(Kind::Secret), 3);
    let keys = world.store.keys(Kind::Secret);
    let secrets = keys.iter().map(|key| world.store.secret(key));
    let shown = [
        format!("{:#?}", world.snapshot.policies),
        serde_json::to_string(&world.snapshot).unwrap(),
        format!("{:?}", world.report()),
        format!("{:?}", secrets.collect::<Vec<_>>()),
    ];
    for text in shown {
        assert!(
            text.contains("acme") || text.contains("users"),
            "it shows something: {text}"
        );
        for hidden in ["hush", HASH] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}
