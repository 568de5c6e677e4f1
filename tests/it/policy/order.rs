//! Which policies stand before an app, and in which order they and their rules decide.

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, backend, policy_with, site};
use crate::support::site::Site;

/// A rule that tells by a header that it was asked.
fn tag(name: &str) -> Value {
    json!({"name": name, "requestHeaders": {"add": [{"name": "X-Asked", "value": name}]}})
}

fn allow(path: &str) -> Value {
    json!({"name": "allow", "match": [{"path": {"prefix": path}}], "firewall": {"action": "Allow"}})
}

fn created(mut policy: Value, at: &str) -> Value {
    policy["metadata"]["creationTimestamp"] = at.into();
    policy
}

#[tokio::test]
async fn priority_then_age_then_name_orders_policies() {
    let of = |name: &str, priority: i32, at: &str| {
        created(
            policy_with(name, json!({"priority": priority, "rules": [tag(name)]})),
            at,
        )
    };
    let site = Site::new("app", HOST)
        .with(of("c-late", 0, "2026-02-01T00:00:00Z"))
        .with(of("b-early", 0, "2026-01-01T00:00:00Z"))
        .with(of("a-early", 0, "2026-01-01T00:00:00Z"))
        .with(of("low", -5, "2025-01-01T00:00:00Z"))
        .with(of("high", 5, "2026-03-01T00:00:00Z"));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    for head in guarded.passes("/", "").await {
        assert_eq!(head.all("x-asked"), ["high", "a-early", "b-early", "c-late", "low"]);
    }
}

#[tokio::test]
async fn allow_ends_its_own_policy_and_no_other() {
    let first = policy_with(
        "first",
        json!({"priority": 1, "rules": [tag("one"), allow("/free"), {"name": "no", "firewall": {"action": "Deny"}}]}),
    );
    let second = policy_with(
        "second",
        json!({"rules": [tag("two"), {"name": "no", "match": [{"path": {"exact": "/free/no"}}], "firewall": {"action": "Deny"}}]}),
    );
    let guarded = Guarded::start_with(Transport::Plain, Site::new("app", HOST).with(first).with(second), &[]).await;
    for head in guarded.passes("/free", "").await {
        assert_eq!(head.all("x-asked"), ["one", "two"]);
    }
    for target in ["/", "/free/no"] {
        guarded.refuses(target, "", 403, "client:firewall_denied").await;
    }
}

#[tokio::test]
async fn the_first_refusal_ends_it() {
    let rules = json!([
        {"name": "first", "origin": {"allowed": ["https://a.test"], "allowMissing": false}},
        {"name": "second", "firewall": {"action": "Deny"}},
        {"name": "off", "enabled": false, "firewall": {"action": "Deny"}},
    ]);
    let guarded = Guarded::start(Transport::Plain, rules).await;
    guarded.refuses("/", "", 403, "client:origin_denied").await;
    guarded
        .refuses("/", "Origin: https://a.test\r\n", 403, "client:firewall_denied")
        .await;
    let count = async |rule: &str| {
        let labels = [("rule", rule), ("mode", "enforce"), ("decision", "refused")];
        guarded
            .front
            .postern
            .metric("postern_policy_decisions_total", &labels)
            .await
    };
    assert_eq!(
        (count("first").await, count("second").await, count("off").await),
        (2.0, 2.0, 0.0)
    );
}

#[tokio::test]
async fn a_refusal_comes_before_the_app_is_looked_for() {
    let site = Site::new("app", HOST).with(policy_with(
        "guard",
        json!({"rules": [{"name": "no", "firewall": {"action": "Deny"}}]}),
    ));
    let front = crate::support::front::Front::start(Transport::Plain, &[site]).await;
    assert_eq!(front.get(HOST, "/").await.status(), 403);
}

#[tokio::test]
async fn rules_that_take_too_long_together_are_given_up_after_five_seconds() {
    let silent = Backend::start(|mut visit| async move {
        visit.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let url = format!("http://{}/", silent.address);
    let slow = |name: &str| json!({"name": name, "forwardAuth": {"url": url, "timeout": "2s", "failOpen": true}});
    let rules = json!([slow("one"), slow("two"), slow("three")]);
    let guarded = Guarded::start_with(Transport::Plain, site(rules), &["--allow-egress", "127.0.0.0/8"]).await;
    let [plain, _] = guarded.refuses("/", "", 503, "policy:timeout").await;
    assert!(plain.head.has("retry-after"));
}

#[tokio::test]
async fn rules_in_the_shadow_take_no_time_from_those_that_are_enforced() {
    let silent = Backend::start(|mut visit| async move {
        visit.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let url = format!("http://{}/", silent.address);
    let slow = |name: &str| json!({"name": name, "mode": "Shadow", "forwardAuth": {"url": url, "timeout": "3s"}});
    let service = backend().await;
    let prompt = json!({"name": "prompt", "forwardAuth": {"url": format!("http://{}/", service.address)}});
    let rules = json!([slow("one"), slow("two"), prompt]);
    let guarded = Guarded::start_with(Transport::Plain, site(rules), &["--allow-egress", "127.0.0.0/8"]).await;
    assert_eq!(
        guarded.get("/", "").await.status(),
        200,
        "the third is asked, and has its time"
    );
    assert_eq!(service.hits(), 1);
    assert_eq!(guarded.decisions("two", "shadow", "failed").await, 1.0);
}
