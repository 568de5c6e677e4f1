//! Rules in the shadow decide and count, and nothing else comes of it.

use serde_json::{Value, json};

use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, policy, policy_with, secret, site};
use crate::support::site::Site;

over_each! {
    a_shadow_rule_counts_and_lets_through,
}

fn deny() -> Value {
    json!({"name": "no", "mode": "Shadow", "firewall": {"action": "Deny"}})
}

async fn a_shadow_rule_counts_and_lets_through(over: Transport) {
    let rules = json!([
        deny(),
        {"name": "tag", "mode": "Shadow", "requestHeaders": {"set": [{"name": "X-Tag", "value": "t"}]}},
        {"name": "who", "mode": "Shadow", "apiKey": {"secretSelector": {"matchLabels": {}}, "from": [{"query": {"name": "key"}}]}},
    ]);
    let site = site(rules).with(secret("api-key", "one", json!({"key": "sesame"})));
    let guarded = Guarded::start_with(over, site, &[]).await;
    for head in guarded.passes("/?key=sesame", "").await {
        assert!(!head.has("x-tag") && !head.has("x-postern-principal"), "{head:?}");
        assert_eq!(head.line, "GET /?key=sesame HTTP/1.1");
    }
    guarded.passes("/", "").await;
    let count = async |rule: &str, decision: &str| {
        let labels = [
            ("policy", "guard"),
            ("rule", rule),
            ("mode", "shadow"),
            ("decision", decision),
        ];
        guarded
            .front
            .postern
            .metric("postern_policy_decisions_total", &labels)
            .await
    };
    assert_eq!(count("no", "refused").await, 4.0);
    assert_eq!(count("who", "passed").await, 2.0);
    assert_eq!(count("who", "refused").await, 2.0);
}

#[tokio::test]
async fn a_policy_in_the_shadow_changes_nothing_and_one_that_is_enforced_decides() {
    let shadow = policy_with(
        "shadow",
        json!({"mode": "Shadow", "rules": [{"name": "no", "firewall": {"action": "Deny"}}]}),
    );
    let deny = json!([{"name": "no", "match": [{"path": {"prefix": "/no"}}], "firewall": {"action": "Deny"}}]);
    let site = Site::new("app", HOST).with(shadow).with(policy("guard", deny));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    guarded.passes("/", "").await;
    guarded.refuses("/no", "", 403, "client:firewall_denied").await;
}

#[tokio::test]
async fn a_policy_in_the_shadow_goes_as_far_as_it_would_and_says_so() {
    let limit = |name: &str, by: Value| json!({"name": name, "rateLimit": {"limit": 1, "window": "1h", "by": by}});
    let rules = json!([
        {"name": "free", "match": [{"path": {"prefix": "/free"}}], "firewall": {"action": "Allow"}},
        {"name": "who", "apiKey": {"secretSelector": {"matchLabels": {}}, "from": [{"query": {"name": "key"}}]}},
        limit("each", json!([{"authenticatedSubject": {}}])),
        {"name": "enforced", "mode": "Enforce", "match": [{"path": {"prefix": "/no"}}], "firewall": {"action": "Deny"}},
    ]);
    let site = Site::new("app", HOST)
        .with(policy_with("guard", json!({"mode": "Shadow", "rules": rules})))
        .with(secret("api-key", "one", json!({"key": "one"})))
        .with(secret("api-key", "two", json!({"key": "two"})));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    guarded.passes("/free", "").await;
    guarded.passes("/", "").await;
    // Of each subject one passes, though no one is told who it is.
    for key in ["one", "two"] {
        for head in guarded.passes(&format!("/?key={key}"), "").await {
            assert!(!head.has("x-postern-principal") && head.target() == format!("/?key={key}"));
        }
    }
    // What says that it is enforced is, though the shadow ended before it.
    guarded.refuses("/no", "", 403, "client:firewall_denied").await;
    let count = async |rule: &str, decision: &str| guarded.decisions(rule, "shadow", decision).await;
    assert_eq!(
        (count("free", "passed").await, count("free", "refused").await),
        (2.0, 0.0)
    );
    assert_eq!(
        (count("who", "passed").await, count("who", "refused").await),
        (4.0, 4.0)
    );
    assert_eq!(
        (count("each", "passed").await, count("each", "refused").await),
        (2.0, 2.0)
    );
    guarded.front.postern.tells("a shadow rule would have refused").await;
    let log = guarded.front.postern.log().join("\n");
    for told in ["client:missing_credentials", "client:rate_limited", "default/guard"] {
        assert!(log.contains(told), "{told}");
    }
}

#[tokio::test]
async fn a_broken_rule_in_the_shadow_changes_no_answer() {
    let broken = json!([
        {"name": "regex", "mode": "Shadow", "match": [{"path": {"regex": "("}}], "firewall": {"action": "Deny"}},
        {"name": "no", "match": [{"path": {"prefix": "/no"}}], "firewall": {"action": "Deny"}},
        {"name": "missing", "mode": "Shadow", "openapi": {"documentRef": {"name": "nowhere"}}},
    ]);
    let guarded = Guarded::start(Transport::Plain, broken).await;
    guarded.passes("/", "").await;
    guarded.refuses("/no", "", 403, "client:firewall_denied").await;
}
