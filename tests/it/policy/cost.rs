//! What tenants and clients may make Postern work, and that nobody else waits for it.

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, policy, policy_with};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::ask;

over_each! {
    a_text_too_long_for_a_regex_is_refused,
}

fn denied(matches: Value) -> Value {
    json!([{"name": "no", "match": [matches], "firewall": {"action": "Deny"}}])
}

async fn a_text_too_long_for_a_regex_is_refused(over: Transport) {
    let regex = json!({"regex": "/?x+"});
    let long = "x".repeat(4 * 1024 + 1);
    for (on, target, more, status, code) in [
        (
            json!({"path": regex}),
            format!("/{long}"),
            String::new(),
            414,
            "client:uri_too_long",
        ),
        (
            json!({"query": {"name": "q", "value": regex}}),
            format!("/?q={long}"),
            String::new(),
            414,
            "client:uri_too_long",
        ),
        (
            json!({"header": {"name": "X-Long", "value": regex}}),
            "/".to_owned(),
            format!("X-Long: {long}\r\n"),
            431,
            "client:headers_too_large",
        ),
        (
            json!({"cookie": {"name": "c", "value": regex}}),
            "/".to_owned(),
            format!("Cookie: c={long}\r\n"),
            431,
            "client:headers_too_large",
        ),
    ] {
        let guarded = Guarded::start(over, denied(on)).await;
        guarded.refuses(&target, &more, status, code).await;
        guarded.passes("/other", "").await;
    }
}

#[tokio::test]
async fn what_cannot_be_bounded_is_not_accepted_and_costs_others_nothing() {
    let backend = Backend::saying("ok").await;
    let explosive = json!({"path": {"regex": "/[01]*1[01]{1500}x0"}, "not": true});
    let rules: Vec<Value> = (0..64)
        .map(|nth| json!({"name": format!("r{nth}"), "match": vec![explosive.clone(); 16], "firewall": {"action": "Deny"}}))
        .collect();
    let hostile = Site::new("app", HOST)
        .to(backend.address)
        .with(policy("guard", rules.into()));
    let quiet = Site::new("quiet", "quiet.example.test").to(backend.address);
    let postern = Postern::start(&[hostile, quiet]).await;
    let path = "01".repeat(15_000);
    let refused = ask(postern.http, format!("GET /{path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(
        refused.head.get("x-postern-error"),
        Some("config:policy_invalid"),
        "{refused:?}"
    );
    let served = ask(postern.http, "GET / HTTP/1.1\r\nHost: quiet.example.test\r\n\r\n").await;
    assert_eq!(served.status(), 200);
}

/// Rules that hold so many headers against a regex.
fn many(count: usize, regex: &str) -> Value {
    let header = |nth: usize| json!({"header": {"name": format!("h{nth}"), "value": {"regex": regex}}});
    let matches: Vec<_> = (0..count).map(header).collect();
    let rules = matches.chunks(16).enumerate();
    rules
        .map(|(nth, matches)| json!({"name": format!("r{nth}"), "match": matches, "firewall": {"action": "Deny"}}))
        .collect()
}

#[tokio::test]
async fn many_regexes_are_bounded_together() {
    let backend = Backend::saying("ok").await;
    let cases = [
        ("most", many(128, "[0-9]{2}-0-0"), 200),
        ("more", many(129, "[0-9]{2}-0-0"), 503),
        ("large", many(128, r"(\w|\pL){2}0-0-0"), 503),
    ];
    let sites = cases.clone().map(|(name, rules, _)| {
        let guard = policy_with(name, json!({"targetRefs": [{"name": name}], "rules": rules}));
        Site::new(name, &format!("{name}.example.test"))
            .to(backend.address)
            .with(guard)
    });
    let postern = Postern::start(&sites).await;
    for (name, _, status) in cases {
        let answer = ask(
            postern.http,
            format!("GET / HTTP/1.1\r\nHost: {name}.example.test\r\n\r\n"),
        )
        .await;
        assert_eq!(answer.status(), status, "{name}: {answer:?}");
        let code = (status == 503).then_some("config:policy_invalid");
        assert_eq!(answer.head.get("x-postern-error"), code, "{name}");
    }
}

/// Three documents of 900 KB, of which a namespace has room for two: the youngest policy is not accepted, and says by how much.
#[test]
fn what_a_namespace_may_have_is_bounded_and_another_has_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let document = |namespace: &str, name: &str, length: usize| {
        let text = json!({
            "openapi": "3.1.0",
            "info": {"title": name, "version": "1", "description": "x".repeat(length)},
            "paths": {"/": {"get": {"responses": {"200": {"description": "ok"}}}}},
        });
        let metadata = json!({"name": name, "namespace": namespace, "labels": {"postern.dev/use": "openapi"}});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"openapi.json": text.to_string()}})
    };
    let guard = |namespace: &str, name: &str, day: usize| {
        let mut policy = policy(
            name,
            json!([{"name": "api", "openapi": {"documentRef": {"name": name}}}]),
        );
        policy["metadata"]["namespace"] = namespace.into();
        policy["metadata"]["creationTimestamp"] = format!("2026-01-0{day}T00:00:00Z").into();
        policy
    };
    let mut objects = vec![document("quiet", "small", 10), guard("quiet", "small", 9)];
    for day in 1..=3 {
        let name = format!("large{day}");
        objects.extend([document("big", &name, 900_000), guard("big", &name, day)]);
    }
    let site = |namespace: &str| Site::new("app", &format!("{namespace}.example.test")).namespace(namespace);
    let sites = [site("big"), site("quiet")].map(|site| site.manifest());
    let text: String = sites
        .into_iter()
        .chain(objects.iter().map(|object| format!("---\n{object}\n")))
        .collect();
    std::fs::write(folder.path().join("all.yaml"), text).expect("writes");
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_postern"))
        .arg("check")
        .arg(folder.path())
        .output()
        .expect("runs");
    let told = String::from_utf8_lossy(&checked.stdout);
    let of = |name: &str| {
        told.split("\nSentinelPolicy ")
            .find(|part| part.starts_with(name))
            .expect("it is told of")
    };
    for accepted in ["big/large1", "big/large2", "quiet/small"] {
        assert!(of(accepted).contains("Accepted          True"), "{told}");
    }
    let refused = of("big/large3");
    assert!(refused.contains("Accepted          False"), "{told}");
    assert!(
        refused.contains("OpenAPI documents 140") && refused.contains("of the 32768 KiB"),
        "{told}"
    );
    assert!(
        told.contains("the SentinelPolicies of namespace big take 281"),
        "{told}"
    );
}
