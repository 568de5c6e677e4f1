//! What stays served while its object is broken, and what does not; and that no key is ever shown.

use std::sync::Arc;
use std::time::Instant;

use postern::compile::{Compiled, Input, Previous, compile};
use postern::config::{EndpointRules, Routing};
use postern::object::{ObjectId, ObjectKey};
use postern::snapshot::{Action, ListenerKey, Snapshot};
use postern::store::{Batch, Event, Kind, Store};
use postern::watch::files;
use serde_json::{Value, json};

use crate::support::certs::{self, Authority};

/// Deployment acme/app on a.example.com with Secret acme/one and ConfigMap acme/ca.
struct World {
    store: Store,
    previous: Previous,
    snapshot: Snapshot,
    routing: Routing,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            store: Store::default(),
            previous: Previous::default(),
            snapshot: Snapshot::default(),
            routing: Routing {
                class: "postern".into(),
                apex_domain: None,
                hostname_grants: None,
                default_tls_secrets: Box::default(),
                require_policy: false,
                selectorless_services: true,
                shared_store: false,
                endpoints: EndpointRules::default(),
            },
        };
        world.apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "acme"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }));
        world
    }

    fn deployment(&mut self, tls: Value) {
        let mut spec = json!({"hostnames": ["a.example.com"], "service": {"name": "web", "port": 80}});
        spec.as_object_mut().unwrap().extend(tls.as_object().unwrap().clone());
        self.apply(json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Deployment",
            "metadata": {"name": "app", "namespace": "acme"}, "spec": spec,
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
        let changes = self.store.take_changes();
        let input = Input {
            store: &self.store,
            changes: &changes,
            listener: &Arc::default(),
        };
        let compiled = compile(&input, &self.routing, std::mem::take(&mut self.previous));
        let Compiled { snapshot, previous, .. } = compiled;
        (self.snapshot, self.previous) = (snapshot, previous);
    }

    /// How many certificates a.example.com has, and what is said of it.
    fn served(&self) -> (usize, String) {
        let report = self.previous.reports().next().unwrap();
        let resolved = report.findings().last().unwrap();
        (
            self.snapshot.certificates(ListenerKey::Https, "a.example.com").count(),
            format!("{} {}", resolved.status, resolved.reason),
        )
    }

    fn refuses(&self) -> Option<String> {
        let host = self.snapshot.hosts.find("a.example.com").unwrap();
        match &host.routes[0].action {
            Action::Refuse(reason) => Some(reason.code().to_owned()),
            Action::Forward(_) => None,
        }
    }
}

fn said(certificates: usize, text: &str) -> (usize, String) {
    (certificates, text.to_owned())
}

#[test]
fn a_broken_edit_keeps_the_last_good_certificate_and_its_repair_ends_that() {
    let authority = Authority::new("test");
    let mut world = World::new();
    world.deployment(json!({"tls": [{"secretName": "one"}]}));
    world.apply(authority.server(&["a.example.com"]).secret("acme", "one"));
    assert_eq!(world.served(), said(1, "true ResolvedRefs"));
    let before = world.snapshot.clone();

    world.apply(certs::secret("acme", "one", "half a certifi", "hush"));
    assert_eq!(world.served(), said(1, "false ServingLastGood"));
    assert_eq!(world.snapshot, before, "nothing is swapped");
    // Whatever else changes meanwhile.
    world.deployment(json!({"tls": [{"secretName": "one"}], "deploymentId": "other"}));
    assert_eq!(world.served(), said(1, "false ServingLastGood"));

    world.apply(authority.server(&["a.example.com"]).secret("acme", "one"));
    assert_eq!(world.served(), said(1, "true ResolvedRefs"));
    assert_ne!(world.snapshot, before);
}

#[test]
fn what_is_deleted_or_made_anew_has_no_last_good_version() {
    let authority = Authority::new("test");
    let mut world = World::new();
    world.deployment(json!({"tls": [{"secretName": "one"}]}));
    let good = authority.server(&["a.example.com"]).secret("acme", "one");
    let broken = certs::secret("acme", "one", "half a certifi", "hush");
    world.apply(good.clone());
    world.delete(Kind::Secret, "one");
    assert_eq!(world.served(), said(0, "false SecretNotFound"));
    world.apply(broken.clone());
    assert_eq!(world.served(), said(0, "false InvalidCertificate"));

    world.apply(good);
    let mut another = broken;
    another["metadata"]["uid"] = "another".into();
    world.apply(another);
    assert_eq!(world.served(), said(0, "false InvalidCertificate"));
}

#[test]
fn who_refers_to_what_is_broken_already_gets_nothing() {
    let authority = Authority::new("test");
    let mut world = World::new();
    world.apply(authority.server(&["a.example.com"]).secret("acme", "one"));
    world.apply(certs::secret("acme", "one", "half a certifi", "hush"));
    world.deployment(json!({"tls": [{"secretName": "one"}]}));
    assert_eq!(world.served(), said(0, "false InvalidCertificate"));
}

#[test]
fn a_broken_authority_keeps_the_last_good_rule_and_a_deleted_one_lets_nobody_through() {
    let mut world = World::new();
    world.deployment(json!({"clientTls": {"caRef": {"kind": "ConfigMap", "name": "ca"}}}));
    assert_eq!(world.refuses().as_deref(), Some("config:policy_invalid"));
    let good = Authority::new("test").config_map("acme", "ca");
    world.apply(good.clone());
    let rule = world.snapshot.hosts.find("a.example.com").unwrap().tls.client.clone();
    assert!(rule.is_some() && world.refuses().is_none());

    let mut broken = good.clone();
    broken["data"]["ca.crt"] = "half an authori".into();
    world.apply(broken);
    let host = world.snapshot.hosts.find("a.example.com").unwrap();
    assert_eq!((&host.tls.client, &host.routes[0].client_tls), (&rule, &rule));
    assert_eq!(world.served().1, "false ServingLastGood");

    let mut unlabelled = good;
    unlabelled["metadata"]["labels"]["postern.dev/use"] = "openapi".into();
    world.apply(unlabelled);
    assert_eq!(world.refuses().as_deref(), Some("config:policy_invalid"));
    assert_eq!(world.served().1, "false ConfigMapNotLabelled");
    world.delete(Kind::ConfigMap, "ca");
    assert_eq!(world.refuses().as_deref(), Some("config:policy_invalid"));
    assert_eq!(world.served().1, "false ConfigMapNotFound");
}

#[test]
fn a_broken_default_certificate_keeps_its_last_good_version_too() {
    let authority = Authority::new("test");
    let mut world = World::new();
    world.deployment(json!({}));
    assert_eq!(world.served(), said(0, "true NoCertificate"));
    world.routing.default_tls_secrets = [ObjectKey::new("infra", "wild")].into();
    world.apply(authority.server(&["*.example.com"]).secret("infra", "wild"));
    assert_eq!(world.served(), said(1, "true ResolvedRefs"));
    world.apply(certs::secret("infra", "wild", "half a certifi", "hush"));
    assert_eq!(world.served(), said(1, "true ResolvedRefs"));
    world.apply(authority.server(&["*.elsewhere.test"]).secret("infra", "wild"));
    assert_eq!(world.served(), said(0, "true NoCertificate"));
}

#[test]
fn keys_are_never_shown() {
    let authority = Authority::new("test");
    let mut world = World::new();
    let leaf = authority.server(&["a.example.com"]);
    world.deployment(json!({
        "tls": [{"secretName": "one"}, {"secretName": "mixed"}],
        "upstreamTls": {"clientCertificateRef": {"name": "one"}},
    }));
    world.apply(leaf.secret("acme", "one"));
    world.apply(certs::secret("acme", "mixed", &leaf.key, &leaf.key));
    let reports: Vec<_> = world.previous.reports().collect();
    let shown = [
        format!("{:?}", world.store),
        format!("{:#?}", world.snapshot),
        serde_json::to_string(&world.snapshot).unwrap(),
        format!("{reports:?}"),
    ];
    let secret: Vec<&str> = leaf.key.lines().filter(|line| !line.starts_with("---")).collect();
    let (_, key) = leaf.der();
    let bytes = format!("{:?}", key.secret_der());
    for text in shown {
        assert!(text.contains("acme"), "it shows something: {text}");
        for line in &secret {
            assert!(!text.contains(line), "{text}");
        }
        assert!(!text.contains(bytes.trim_matches(['[', ']'])), "{text}");
    }
}
