//! What tenants and clients may make Postern work, and that nobody else waits for it.

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, policy};
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

#[tokio::test]
async fn many_regexes_are_bounded_together() {
    let header = |nth: usize| json!({"header": {"name": format!("h{nth}"), "value": {"regex": r"(\w|\pL){2}0-0-0"}}});
    let rule = |nth: usize| json!({"name": format!("r{nth}"), "match": (0..16).map(|at| header(nth * 16 + at)).collect::<Vec<_>>(), "firewall": {"action": "Deny"}});
    let backend = Backend::saying("ok").await;
    let rules: Vec<Value> = (0..64).map(rule).collect();
    let site = Site::new("app", HOST)
        .to(backend.address)
        .with(policy("guard", rules.into()));
    let postern = Postern::start(&[site]).await;
    let answer = ask(postern.http, format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(
        answer.head.get("x-postern-error"),
        Some("config:policy_invalid"),
        "{answer:?}"
    );
    // As many as a policy may have.
    let few: Vec<Value> = (0..8).map(|nth| json!({"name": format!("r{nth}"), "match": (0..16).map(|at| json!({"header": {"name": format!("h{}", nth * 16 + at), "value": {"regex": "[0-9]{2}-0-0"}}})).collect::<Vec<_>>(), "firewall": {"action": "Deny"}})).collect();
    postern.write("guard", &policy("guard", few.into()).to_string());
    eventually("the smaller policy is in force", async || {
        ask(postern.http, format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
            .await
            .status()
            == 200
    })
    .await;
}
