//! What of a credential reaches the app, and what of it stands in the answer: `forward`, and subprotocols as browsers offer them.

use serde_json::{Value, json};

use crate::support::apps::{App, Runtime, client, tls_client};
use crate::support::backend::Backend;
use crate::support::chromium::Chromium;
use crate::support::front::{Front, Transport};
use crate::support::guarded::{Guarded, HOST, secret, site};
use crate::support::head::Head;
use crate::support::ws;

over_each! {
    what_is_not_forwarded_is_gone_and_all_else_is_as_it_was,
    what_is_forwarded_is_as_it_was,
    the_only_subprotocol_is_echoed_where_it_was_the_credential,
    among_other_subprotocols_the_apps_choice_passes,
}

fn keys(from: Value) -> Value {
    json!([{"name": "keys", "apiKey": {"secretSelector": {"matchLabels": {"app": "app"}}, "from": from}}])
}

/// From each kind of place.
fn everywhere(forward: bool) -> Value {
    let places = [
        json!({"bearer": {}}),
        json!({"header": {"name": "X-Api-Key"}}),
        json!({"query": {"name": "key"}}),
        json!({"cookie": {"name": "key"}}),
        json!({"subprotocol": {"prefix": "bearer."}}),
    ];
    let with = places.map(|mut place| {
        place["forward"] = forward.into();
        place
    });
    keys(json!(with))
}

async fn guarded(over: Transport, rules: Value) -> Guarded {
    let site = site(rules).with(secret("api-key", "one", json!({"key": "sesame"})));
    Guarded::start_with(over, site, &[]).await
}

/// A header as the app reads it: HTTP/2 splits cookies, and Postern joins them (RFC 9113 section 8.2.3).
fn told(head: &Head, name: &str, joint: &str) -> Option<String> {
    let lines = head.all(name);
    (!lines.is_empty()).then(|| lines.join(joint))
}

async fn what_is_not_forwarded_is_gone_and_all_else_is_as_it_was(over: Transport) {
    let guarded = guarded(over, everywhere(false)).await;
    // The target and header lines, the target that the app gets, and its cookies and subprotocols.
    for (target, more, seen, cookies, subprotocols) in [
        ("/a", "Authorization: Bearer sesame\r\n", "/a", None, None),
        ("/a", "X-Api-Key: sesame\r\nCookie: a=b\r\n", "/a", Some("a=b"), None),
        ("/a", "X-Api-Key: sesame\r\nX_Api_Key: sesame\r\n", "/a", None, None),
        ("/a?key=sesame", "", "/a", None, None),
        ("/a?key=sesame&", "", "/a?", None, None),
        (
            "/a?x=%2f+%zz&key=sesame&&y=;&=z&%6Bey=sesame",
            "",
            "/a?x=%2f+%zz&&y=;&=z",
            None,
            None,
        ),
        ("/a?x=1;key=sesame&y", "", "/a?x=1&y", None, None),
        (
            "/a?KEY=1&keys=2&key=sesame&xkey=3",
            "",
            "/a?KEY=1&keys=2&xkey=3",
            None,
            None,
        ),
        ("/key=sesame?a&key=sesame", "", "/key=sesame?a", None, None),
        ("/a", "Cookie: key=sesame\r\n", "/a", None, None),
        (
            "/a",
            "Cookie: a=\"b\";key=sesame;  c=d=e; keys=f\r\n",
            "/a",
            Some("a=\"b\";  c=d=e; keys=f"),
            None,
        ),
        ("/a", "Sec-WebSocket-Protocol: bearer.sesame\r\n", "/a", None, None),
        (
            "/a",
            "Sec-WebSocket-Protocol: chat,bearer.sesame , v2.chat\r\n",
            "/a",
            None,
            Some("chat, v2.chat"),
        ),
        (
            "/a",
            "Sec-WebSocket-Protocol: bearer.sesame\r\nSec-WebSocket-Protocol: chat\r\n",
            "/a",
            None,
            Some("chat"),
        ),
        // Those of the other places, too, whichever was looked at.
        (
            "/a?key=other&b",
            "Authorization: Bearer sesame\r\nX-Api-Key: other\r\nCookie: key=other; c=d\r\nSec-WebSocket-Protocol: x, bearer.other\r\n",
            "/a?b",
            Some("c=d"),
            Some("x"),
        ),
    ] {
        for head in guarded.passes(target, more).await {
            assert_eq!(head.target(), seen, "{target} {more:?}: {head:?}");
            assert_eq!(
                told(&head, "cookie", "; ").as_deref(),
                cookies,
                "{target} {more:?}: {head:?}"
            );
            let offered = told(&head, "sec-websocket-protocol", ", ");
            assert_eq!(offered.as_deref(), subprotocols, "{target} {more:?}: {head:?}");
            for name in ["authorization", "x-api-key", "x_api_key"] {
                assert!(!head.has(name), "{target} {more:?}: {head:?}");
            }
            assert!(head.has("x-postern-principal"));
        }
    }
}

async fn what_is_forwarded_is_as_it_was(over: Transport) {
    let guarded = guarded(over, everywhere(true)).await;
    for (target, name, value) in [
        ("/a?x=%2f", "authorization", "bEARER sesame"),
        ("/a?x=%2f", "x-api-key", "sesame"),
        ("/a?&x=1;2&%6bey=sesame&", "x-other", "y"),
        ("/a", "cookie", "a=b; key=\"sesame\"; c"),
        ("/a", "sec-websocket-protocol", "chat, bearer.sesame"),
        ("/a", "sec-websocket-protocol", "bearer.sesame"),
    ] {
        for head in guarded.passes(target, &format!("{name}: {value}\r\n")).await {
            assert_eq!((head.target(), head.get(name)), (target, Some(value)), "{head:?}");
        }
    }
}

#[tokio::test]
async fn by_default_query_and_subprotocol_are_kept_from_the_app_and_the_rest_is_not() {
    let places = json!([
        {"bearer": {}}, {"header": {"name": "X-Api-Key"}}, {"query": {"name": "key"}},
        {"cookie": {"name": "key"}}, {"subprotocol": {"prefix": "bearer."}},
    ]);
    let guarded = guarded(Transport::Plain, keys(places)).await;
    let more = "Authorization: Bearer sesame\r\nX-Api-Key: sesame\r\nCookie: key=sesame\r\n\
                Sec-WebSocket-Protocol: bearer.sesame\r\n";
    for head in guarded.passes("/?key=sesame", more).await {
        assert_eq!(head.target(), "/");
        assert_eq!(head.get("authorization"), Some("Bearer sesame"));
        assert_eq!(head.get("x-api-key"), Some("sesame"));
        assert_eq!(head.get("cookie"), Some("key=sesame"));
        assert!(!head.has("sec-websocket-protocol"), "{head:?}");
    }
}

#[tokio::test]
async fn an_optional_rule_lets_no_empty_credential_through_to_the_app_as_one() {
    let mut rules = everywhere(false);
    rules[0]["apiKey"]["optional"] = true.into();
    let guarded = guarded(Transport::Plain, rules).await;
    for head in guarded
        .passes("/?key=&a", "Authorization: Basic YTpi\r\nCookie: key=; a=b\r\n")
        .await
    {
        // Nobody was authenticated: nothing was taken for a credential, and nothing is kept back.
        assert_eq!(head.target(), "/?key=&a");
        assert_eq!(head.get("authorization"), Some("Basic YTpi"));
        assert!(!head.has("x-postern-principal"));
    }
}

async fn the_only_subprotocol_is_echoed_where_it_was_the_credential(over: Transport) {
    let guarded = guarded(over, everywhere(false)).await;
    for (more, echoed) in [
        ("Sec-WebSocket-Protocol: bearer.sesame\r\n", Some("bearer.sesame")),
        ("Sec-WebSocket-Protocol: , bearer.sesame ,\r\n", Some("bearer.sesame")),
        // The app chooses none of those that it was offered.
        ("Sec-WebSocket-Protocol: chat, bearer.sesame\r\n", None),
        ("Authorization: Bearer sesame\r\n", None),
        ("Authorization: Bearer sesame\r\nSec-WebSocket-Protocol: chat\r\n", None),
    ] {
        let (head, _socket) = guarded.front.upgrade(HOST, "/", more).await.expect("a socket");
        assert_eq!(head.get("sec-websocket-protocol"), echoed, "{more}");
    }
    // An answer that opens no socket names no subprotocol.
    let answer = guarded.get("/", "Sec-WebSocket-Protocol: bearer.sesame\r\n").await;
    assert!(!answer.head.has("sec-websocket-protocol"), "{answer:?}");
}

async fn among_other_subprotocols_the_apps_choice_passes(over: Transport) {
    let backend = Backend::start(|mut visit| async move {
        let Some(request) = visit.head().await else { return };
        let accepted = ws::accepted(&request);
        let chosen = "\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
        visit.wire.send(accepted.replace("\r\n\r\n", chosen)).await;
        visit.wire.echo().await;
    })
    .await;
    for forward in [false, true] {
        let site = site(everywhere(forward)).with(secret("api-key", "one", json!({"key": "sesame"})));
        let front = Front::start(over, &[site.to(backend.address)]).await;
        for offered in ["chat, bearer.sesame", "bearer.sesame, v2, chat"] {
            let more = format!("Sec-WebSocket-Protocol: {offered}\r\n");
            let (head, _socket) = front.upgrade(HOST, "/", &more).await.expect("a socket");
            assert_eq!(head.get("sec-websocket-protocol"), Some("chat"), "{offered}");
        }
    }
}

/// Where clients that are not ours offer a token: alone, and beside what they speak.
const OFFERS: [(&[&str], &str); 3] = [
    (&["bearer.sesame"], "bearer.sesame"),
    (&["chat", "bearer.sesame"], "chat"),
    (&["bearer.sesame", "chat"], "chat"),
];

fn subprotocols() -> Value {
    keys(json!([{"subprotocol": {"prefix": "bearer."}}]))
}

#[tokio::test]
async fn node_and_python_open_sockets_with_their_token_as_a_subprotocol() {
    for (runtime, script) in [(Runtime::Node, "told.mjs"), (Runtime::Python, "told.py")] {
        let app = App::start(runtime, script).await;
        for over in [Transport::Plain, Transport::Tls] {
            let site = site(subprotocols()).with(secret("api-key", "one", json!({"key": "sesame"})));
            let front = Front::start(over, &[site.to(app.address)]).await;
            let address = front.address().to_string();
            for (offered, chosen) in OFFERS {
                let offered = offered.join(",");
                for (runtime, script) in [(Runtime::Node, "subprotocol.mjs"), (Runtime::Python, "subprotocol.py")] {
                    let arguments = [&*address, HOST, &*offered, chosen];
                    match over {
                        Transport::Plain => client(runtime, script, arguments).await,
                        _ => tls_client(runtime, script, arguments, &front.authority).await,
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn chromium_opens_sockets_with_its_token_as_a_subprotocol() {
    let app = App::start(Runtime::Node, "told.mjs").await;
    let site = site(subprotocols()).with(secret("api-key", "one", json!({"key": "sesame"})));
    let front = Front::start(Transport::Http2, &[site.to(app.address)]).await;
    let mut browser = Chromium::start(&front.authority, front.postern.https).await;
    // Over HTTP/1.1 at first, and then over the connection of a page.
    for over_http2 in [false, true] {
        if over_http2 {
            assert_eq!(browser.visit(HOST).await, "h2");
        }
        for (offered, chosen) in OFFERS {
            let opened = browser.open(HOST, offered).await;
            assert_eq!(opened["protocol"], chosen, "{opened}");
            let told = opened["first"].as_str().expect("a text");
            assert!(
                told.contains("x-postern-principal") && !told.contains("sesame"),
                "{told}"
            );
        }
        let refused = browser.open(HOST, &["chat", "bearer.wrong"]).await;
        assert_eq!(refused["closed"], 1006, "{refused}");
    }
}
