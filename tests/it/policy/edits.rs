//! `requestHeaders` and `responseHeaders`.

use serde_json::json;

use crate::support::backend::Backend;
use crate::support::front::{Front, Transport};
use crate::support::guarded::{Guarded, HOST, site};

over_each! {
    the_app_gets_what_the_rule_says,
    the_client_gets_what_the_rule_says,
    the_apps_answers_are_edited_and_posterns_own_are_not,
}

async fn the_app_gets_what_the_rule_says(over: Transport) {
    let rules = json!([{"name": "edit", "requestHeaders": {
        "set": [{"name": "X-Role", "value": "user"}],
        "add": [{"name": "X-Tag", "value": "b"}],
        "remove": ["X-Debug"],
    }}]);
    let guarded = Guarded::start(over, rules).await;
    // Also in spellings that an app could take for the same.
    let more = "X-Role: admin\r\nX_Role: admin\r\nX-Tag: a\r\nX-Debug: 1\r\nX_Debug: 1\r\nX-Other: kept\r\n";
    for head in guarded.passes("/", more).await {
        assert_eq!(head.all("x-role"), ["user"], "{head:?}");
        assert_eq!(head.all("x-tag"), ["a", "b"]);
        assert_eq!(head.get("x-other"), Some("kept"));
        assert!(
            ["x-debug", "x_debug", "x_role"].iter().all(|name| !head.has(name)),
            "{head:?}"
        );
    }
}

async fn the_client_gets_what_the_rule_says(over: Transport) {
    let rules = json!([
        {"name": "edit", "responseHeaders": {"set": [{"name": "X-Frame-Options", "value": "DENY"}], "remove": ["Content-Type"]}},
    ]);
    let guarded = Guarded::start(over, rules).await;
    let answer = guarded.get("/", "").await;
    assert_eq!(
        (answer.status(), answer.head.get("x-frame-options")),
        (200, Some("DENY"))
    );
    let (head, _socket) = guarded.front.upgrade(HOST, "/", "").await.expect("a socket");
    assert_eq!(head.get("x-frame-options"), Some("DENY"));
}

async fn the_apps_answers_are_edited_and_posterns_own_are_not(over: Transport) {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Powered-By: a\r\nX_Powered_By: b\r\nX-Tag: app\r\nCache-Control: public\r\n\r\n";
    let backend = Backend::answering(answer).await;
    let rules = json!([
        {"name": "first", "responseHeaders": {
            "set": [{"name": "Cache-Control", "value": "no-store"}],
            "add": [{"name": "X-Tag", "value": "one"}, {"name": "X-Tag", "value": "two"}],
            "remove": ["x-powered-by"],
        }},
        {"name": "no", "match": [{"path": {"prefix": "/no"}}], "firewall": {"action": "Deny"}},
        {"name": "second", "responseHeaders": {"add": [{"name": "X-Tag", "value": "three"}]}},
    ]);
    let front = Front::start(over, &[site(rules).to(backend.address)]).await;
    let answer = front.get(HOST, "/").await;
    assert_eq!(answer.head.all("x-tag"), ["app", "one", "two", "three"]);
    assert_eq!(answer.head.all("cache-control"), ["no-store"]);
    assert!(
        !answer.head.has("x-powered-by") && !answer.head.has("x_powered_by"),
        "{answer:?}"
    );
    let refused = front.get(HOST, "/no").await;
    assert_eq!((refused.status(), backend.hits()), (403, 1));
    assert!(!refused.head.has("x-tag"), "{refused:?}");
}

#[tokio::test]
async fn what_is_not_a_rules_to_say_makes_it_invalid() {
    for kind in ["requestHeaders", "responseHeaders"] {
        let line = |name: &str| json!([{"name": name, "value": "a"}]);
        for edits in [
            json!({"set": line("X-Forwarded-For")}),
            json!({"add": line("x_postern_principal")}),
            json!({"remove": ["X-Deployment-Id"]}),
            json!({"set": line("Content-Length")}),
            json!({"add": line("Transfer_Encoding")}),
            json!({"remove": ["Host"]}),
            json!({"remove": ["CDN-Loop"]}),
            json!({"remove": ["Sec-WebSocket-Key"]}),
        ] {
            let guarded = Guarded::start(Transport::Plain, json!([{"name": "edit", kind: edits}])).await;
            guarded.refuses("/", "", 503, "config:policy_invalid").await;
        }
    }
}
