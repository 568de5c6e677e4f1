//! `requestHeaders` and `responseHeaders`.

use serde_json::json;

use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST};

over_each! {
    the_app_gets_what_the_rule_says,
    the_client_gets_what_the_rule_says,
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
