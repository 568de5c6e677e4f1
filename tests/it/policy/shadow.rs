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
