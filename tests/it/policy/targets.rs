//! Whom a policy stands before: those that it names, those that it selects, those that name it, and nobody else.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, policy_with};
use crate::support::site::Site;

const DENIED: (u16, &str) = (403, "client:firewall_denied");
const CLOSED: (u16, &str) = (503, "config:policy_invalid");

fn deny(fields: Value) -> Value {
    let mut all = json!({"rules": [{"name": "no", "firewall": {"action": "Deny"}}]});
    let (Some(spec), Value::Object(fields)) = (all.as_object_mut(), fields) else {
        panic!("a spec is an object")
    };
    spec.extend(fields);
    policy_with("guard", all)
}

/// Once a plain request is answered so, a handshake is as well.
async fn comes_to(guarded: &Guarded, (status, code): (u16, &str)) {
    let so = async || guarded.get("/", "").await.head.get("x-postern-error") == Some(code);
    eventually(&format!("it answers {code}"), so).await;
    guarded.refuses("/", "", status, code).await;
}

async fn comes_to_pass(guarded: &Guarded) {
    eventually("it answers", async || guarded.get("/", "").await.status() == 200).await;
    guarded.passes("/", "").await;
}

#[tokio::test]
async fn labels_put_a_deployment_behind_a_policy_and_take_it_from_there() {
    let guarded = Guarded::start_with(Transport::Plain, Site::new("app", HOST), &[]).await;
    let postern = &guarded.front.postern;
    let select = |labels: Value| deny(json!({"targetRefs": null, "targetSelector": {"matchLabels": labels}}));
    let site = Site::new("app", HOST).to(guarded.backend.address);
    postern.write("guard", &select(json!({"tier": "web", "team": "a"})).to_string());
    for (labels, held) in [
        (json!({"tier": "web", "team": "a", "more": "x"}), true),
        (json!({"tier": "web"}), false),
        (json!({"tier": "web", "team": "a"}), true),
        (json!({"tier": "Web", "team": "a"}), false),
    ] {
        postern.apply(&site.clone().labels(labels));
        match held {
            true => comes_to(&guarded, DENIED).await,
            false => comes_to_pass(&guarded).await,
        }
    }
    // No label is asked for.
    postern.write("guard", &select(json!({})).to_string());
    comes_to(&guarded, DENIED).await;
    postern.remove("guard");
    comes_to_pass(&guarded).await;
}

#[tokio::test]
async fn a_deployment_that_names_a_policy_is_closed_until_it_is_there() {
    let site = Site::new("app", HOST).spec(json!({"policies": ["guard"]}));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    guarded.refuses("/", "", CLOSED.0, CLOSED.1).await;
    let elsewhere = json!([{"name": "elsewhere"}]);
    let postern = &guarded.front.postern;
    postern.write("guard", &deny(json!({"targetRefs": elsewhere})).to_string());
    comes_to(&guarded, DENIED).await;
    let path = json!([{"name": "no", "match": [{"path": {"prefix": "/no"}}], "firewall": {"action": "Deny"}}]);
    let edited = deny(json!({"targetRefs": elsewhere, "rules": path}));
    postern.write("guard", &edited.to_string());
    comes_to_pass(&guarded).await;
    guarded.refuses("/no", "", DENIED.0, DENIED.1).await;
    let mut foreign = edited;
    foreign["metadata"]["namespace"] = "other".into();
    postern.write("guard", &foreign.to_string());
    comes_to(&guarded, CLOSED).await;
}

#[tokio::test]
async fn a_policy_of_another_namespace_or_name_stands_before_nobody_here() {
    let mut foreign = deny(json!({}));
    foreign["metadata"]["namespace"] = "other".into();
    let mut selecting = deny(json!({"targetRefs": null, "targetSelector": {}}));
    selecting["metadata"]["namespace"] = "other".into();
    selecting["metadata"]["name"] = "selecting".into();
    let site = Site::new("app", HOST)
        .with(foreign)
        .with(selecting)
        .with(deny(json!({"targetRefs": [{"name": "app-2"}]})));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    guarded.passes("/", "").await;
}

#[tokio::test]
async fn where_a_policy_is_required_nobody_passes_without_one_in_force() {
    let site = Site::new("app", HOST);
    let guarded = Guarded::start_with(Transport::Plain, site, &["--require-policy", "true"]).await;
    guarded.refuses("/", "", CLOSED.0, CLOSED.1).await;
    let postern = &guarded.front.postern;
    let path = json!([{"name": "no", "match": [{"path": {"prefix": "/no"}}], "firewall": {"action": "Deny"}}]);
    postern.write("guard", &deny(json!({"rules": path})).to_string());
    comes_to_pass(&guarded).await;
    guarded.refuses("/no", "", DENIED.0, DENIED.1).await;
    // In the shadow, and with no rule that is enabled, it is none.
    let mut off = path.clone();
    off[0]["enabled"] = false.into();
    for fields in [json!({"rules": path, "mode": "Shadow"}), json!({"rules": off})] {
        postern.write("guard", &deny(fields).to_string());
        comes_to(&guarded, CLOSED).await;
    }
    assert_eq!(
        guarded
            .backend
            .heads()
            .iter()
            .filter(|head| head.target() == "/no")
            .count(),
        0
    );
}
