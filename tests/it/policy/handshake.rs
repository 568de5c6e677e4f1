//! Policies and the upgrade: who is refused is refused before the app hears of it, and what goes over an open socket is no
//! request.

use serde_json::{Value, json};

use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, secret, site};
use crate::support::wire::Answer;
use crate::support::ws::{TEXT, frame};

over_each! {
    policies_run_before_an_upgrade_is_forwarded,
    who_is_not_authenticated_is_refused_before_a_websocket_is_made,
    who_is_rate_limited_is_refused_before_a_websocket_is_made,
    messages_in_an_open_socket_are_not_counted_by_rate_limits,
}

/// Refused as a WebSocket, with an error that says why.
async fn refused(guarded: &Guarded, target: &str, more: &str, status: u16, code: &str) -> Answer {
    let Err(answer) = guarded.front.upgrade(HOST, target, more).await else {
        panic!("{target} {more:?}: a socket was opened")
    };
    assert_eq!(answer.status(), status, "{target} {more:?}: {answer:?}");
    assert!(!answer.head.has("sec-websocket-accept"), "{answer:?}");
    assert_eq!(
        answer.head.get("x-postern-error"),
        Some(format!("client:{code}").as_str())
    );
    assert_eq!(answer.head.get("content-type"), Some("application/problem+json"));
    let body = answer.json();
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(body["code"], format!("client:{code}"), "{body}");
    let id = answer.head.get("x-request-id");
    assert!(id.is_some() && body["requestId"].as_str() == id, "{body}");
    for text in ["type", "title", "detail"] {
        assert!(
            body[text].as_str().is_some_and(|text| !text.is_empty()),
            "{text}: {body}"
        );
    }
    answer
}

fn keys(permissions: Option<&str>) -> Value {
    let mut rule = json!({"secretSelector": {"matchLabels": {"app": "app"}}});
    rule["permissions"] = permissions.map_or(Value::Null, Value::from);
    rule.as_object_mut()
        .expect("is one")
        .retain(|_, value| !value.is_null());
    json!({"name": "keys", "apiKey": rule})
}

/// Row 8 of the promises.
async fn policies_run_before_an_upgrade_is_forwarded(over: Transport) {
    let rules = json!([{"name": "no", "match": [{"webSocket": true}, {"path": {"prefix": "/no"}}], "firewall": {"action": "Deny"}}]);
    let guarded = Guarded::start(over, rules).await;
    for _ in 0..3 {
        refused(&guarded, "/no", "", 403, "firewall_denied").await;
    }
    assert_eq!((guarded.backend.connections(), guarded.backend.hits()), (0, 0));
    // It is the upgrade that the rule is for.
    assert_eq!(guarded.get("/no", "").await.status(), 200);
    guarded.passes("/yes", "").await;
}

/// Row 9.
async fn who_is_not_authenticated_is_refused_before_a_websocket_is_made(over: Transport) {
    let site = site(json!([keys(Some("chat.write"))]))
        .with(secret(
            "api-key",
            "writer",
            json!({"key": "sesame-w", "permissions": "chat.read chat.write"}),
        ))
        .with(secret(
            "api-key",
            "reader",
            json!({"key": "sesame-r", "permissions": "chat.read"}),
        ));
    let guarded = Guarded::start_with(over, site, &[]).await;
    for (more, status, code) in [
        ("", 401, "missing_credentials"),
        ("Authorization: Bearer sesame\r\n", 401, "invalid_key"),
        ("Authorization: Bearer sesame-r\r\n", 403, "insufficient_permissions"),
    ] {
        let answer = refused(&guarded, "/ws", more, status, code).await;
        assert_eq!(answer.head.has("www-authenticate"), status == 401, "{answer:?}");
    }
    assert_eq!((guarded.backend.connections(), guarded.backend.hits()), (0, 0));
    let opened = guarded
        .front
        .upgrade(HOST, "/ws", "Authorization: Bearer sesame-w\r\n")
        .await;
    assert!(opened.is_ok(), "{:?}", opened.err());
    assert_eq!(guarded.backend.hits(), 1);
}

/// Row 10.
async fn who_is_rate_limited_is_refused_before_a_websocket_is_made(over: Transport) {
    const LIMIT: usize = 3;
    let rules = json!([{"name": "limit", "rateLimit": {"limit": LIMIT, "window": "1h"}}]);
    let guarded = Guarded::start(over, rules).await;
    for _ in 0..LIMIT {
        guarded.front.open(HOST, "/ws").await;
    }
    assert_eq!(guarded.backend.hits(), LIMIT);
    for _ in 0..3 {
        let answer = refused(&guarded, "/ws", "", 429, "rate_limited").await;
        let seconds = answer.head.get("retry-after").and_then(|text| text.parse::<u32>().ok());
        assert!(seconds.is_some_and(|seconds| seconds > 0), "{answer:?}");
    }
    assert_eq!(guarded.backend.hits(), LIMIT);
}

/// Row 10, too: the handshake alone is a request.
async fn messages_in_an_open_socket_are_not_counted_by_rate_limits(over: Transport) {
    let rules = json!([{"name": "limit", "rateLimit": {"limit": 2, "window": "1h"}}]);
    let guarded = Guarded::start(over, rules).await;
    let mut socket = guarded.front.open(HOST, "/ws").await;
    for number in 0..50 {
        let message = frame(true, TEXT, Some([1, 2, 3, 4]), format!("message {number}").as_bytes());
        socket.send(&message).await;
        // The app sends bytes back as they are.
        assert_eq!(socket.exactly(message.len()).await, message);
    }
    guarded.front.open(HOST, "/ws").await;
    refused(&guarded, "/ws", "", 429, "rate_limited").await;
    assert_eq!(guarded.backend.hits(), 2);
}
