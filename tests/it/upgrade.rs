//! The handshake: which upgrades reach the app, in what shape, and which answers open a socket. What happens on open
//! sockets is in websocket.rs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::apps::curl;
use crate::support::backend::{Backend, next};
use crate::support::eventually;
use crate::support::front::{Front, Transport};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Answer, Wire, ask};
use crate::support::ws::{self, KEY, handshake};

const HOST: &str = "app.example.test";

over_each! {
    path_and_query_reach_the_app_verbatim,
    proxy_headers_are_on_the_upgrade_request,
    app_may_reject_on_the_proxy_headers,
    host_picks_the_deployment,
}

async fn in_front_of(backend: &Backend) -> Postern {
    Postern::start(&[Site::new("app", HOST).to(backend.address)]).await
}

/// The answer to a handshake that fails, with its code.
fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.head.get("x-postern-error"), Some(code));
    assert!(!answer.head.has("sec-websocket-accept"));
}

#[tokio::test]
async fn app_sees_an_http11_upgrade() {
    let (backend, _sockets) = Backend::sockets().await;
    let postern = in_front_of(&backend).await;
    // Tokens in any case, among others, over several lines.
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: keep-alive\r\nconnection: x, UPGRADE\r\nupgrade: WebSocket\r\n\
         x: gone\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\norigin: https://o.test\r\n\r\n"
    );
    assert_eq!(ask(postern.http, request).await.status(), 101);
    let head = backend.request().await;
    assert_eq!(head.line, "GET / HTTP/1.1");
    assert!(
        head.get("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("upgrade")),
        "{head:?}"
    );
    assert!(
        head.get("upgrade")
            .is_some_and(|value| value.eq_ignore_ascii_case("websocket")),
        "{head:?}"
    );
    assert_eq!(head.get("sec-websocket-key"), Some(KEY));
    assert_eq!(head.get("sec-websocket-version"), Some("13"));
    assert_eq!(head.get("origin"), Some("https://o.test"));
    assert!(!head.has("x"), "nominated by Connection: {head:?}");
}

#[tokio::test]
async fn extensions_and_subprotocol_are_negotiated_by_the_ends() {
    let backend = Backend::start(|mut visit| async move {
        let Some(request) = visit.head().await else { return };
        let more = "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        let answer = ws::accepted(&request).replacen("\r\n\r\n", &format!("\r\n{more}"), 1);
        visit.wire.send(answer).await;
        visit.wire.echo().await;
    })
    .await;
    let postern = in_front_of(&backend).await;
    let offer = "Sec-WebSocket-Protocol: soap, chat\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let answer = ask(postern.http, handshake(HOST, "/", offer)).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.head.get("sec-websocket-protocol"), Some("chat"));
    assert_eq!(answer.head.get("sec-websocket-extensions"), Some("permessage-deflate"));
    let head = backend.request().await;
    assert_eq!(head.get("sec-websocket-protocol"), Some("soap, chat"));
    assert_eq!(
        head.get("sec-websocket-extensions"),
        Some("permessage-deflate; client_max_window_bits")
    );
}

#[tokio::test]
async fn curl_gets_a_101_with_a_request_id() {
    let (backend, _sockets) = Backend::sockets().await;
    let postern = in_front_of(&backend).await;
    let head = {
        let mut wire = Wire::connect(postern.http).await;
        wire.send(handshake(HOST, "/", "")).await;
        wire.head().await
    };
    let id = head.get("x-request-id").expect("a request id").to_owned();
    assert_eq!(backend.request().await.get("x-request-id"), Some(id.as_str()));
    // And one that is refused shows its status to a client that speaks plain HTTP only.
    let url = format!("http://{}/", postern.http);
    let host = "Host: unknown.test";
    let arguments = [
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        host,
        "-H",
        "Connection: Upgrade",
        "-H",
        "Upgrade: websocket",
    ];
    let arguments = [
        &arguments[..],
        &[
            "-H",
            "Sec-WebSocket-Version: 13",
            "-H",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            &url,
        ],
    ];
    assert_eq!(curl(&arguments.concat()).await, "404");
}

async fn path_and_query_reach_the_app_verbatim(over: Transport) {
    let (backend, _sockets) = Backend::sockets().await;
    let front = Front::start(over, &[Site::new("app", HOST).to(backend.address)]).await;
    let target = "/ws//a/./b/../%2e%2E/c%2Fd;v=1/~(x)*'!?x=1&y=%C3%A9&&z=/?:@&t=a+b%20c&e";
    front.open(HOST, target).await;
    assert_eq!(backend.request().await.target(), target);
}

async fn proxy_headers_are_on_the_upgrade_request(over: Transport) {
    let (backend, _sockets) = Backend::sockets().await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"deploymentId": "d-42"}));
    let front = Front::start(over, &[site]).await;
    let forged =
        "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Deployment-Id: forged\r\nX_Forwarded_Proto: forged\r\n";
    let opened = front.upgrade(&format!("{HOST}:8080"), "/", forged).await;
    assert!(opened.is_ok());
    let head = backend.request().await;
    assert_eq!(head.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.get("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(head.get("x-forwarded-host"), Some("app.example.test:8080"));
    assert_eq!(head.get("x-forwarded-proto"), Some(front.scheme()));
    assert_eq!(head.get("x-deployment-id"), Some("d-42"));
    assert_eq!(head.get("host"), Some("app.example.test:8080"));
    let port = front.address().port().to_string();
    assert_eq!(head.get("x-forwarded-port"), Some(port.as_str()));
    assert!(head.has("x-request-id"));
    assert!(!head.has("x_forwarded_proto"));
}

async fn app_may_reject_on_the_proxy_headers(over: Transport) {
    let backend = Backend::start(|mut visit| async move {
        while let Some(head) = visit.head().await {
            if head.get("x-deployment-id") == Some("allowed") {
                visit.wire.send(ws::accepted(&head)).await;
                return visit.wire.echo().await;
            }
            visit
                .wire
                .send("HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nnot on you")
                .await;
        }
    })
    .await;
    let allowed = Site::new("allowed", "allowed.test").to(backend.address);
    let refused = Site::new("refused", "refused.test").to(backend.address);
    let front = Front::start(over, &[allowed, refused]).await;
    front.open("allowed.test", "/").await;
    let refused = front.upgrade("refused.test", "/", "").await;
    let answer = refused.err().expect("a refusal");
    assert_eq!((answer.status(), answer.text().as_str()), (403, "not on you"));
    assert!(
        !answer.head.has("x-postern-error"),
        "the refusal is the app's: {answer:?}"
    );
}

async fn host_picks_the_deployment(over: Transport) {
    let (one, mut ones) = Backend::sockets().await;
    let (two, mut twos) = Backend::sockets().await;
    let sites = [
        Site::new("one", "one.test").to(one.address),
        Site::new("two", "*.two.test").to(two.address),
    ];
    let front = Front::start(over, &sites).await;
    for host in ["one.test", "ONE.test:80", "one.test.", "a.two.test"] {
        let sockets = if host == "a.two.test" { &mut twos } else { &mut ones };
        let mut client = front.open(host, "/").await;
        let mut socket = next(sockets).await;
        assert_eq!(socket.request.get("host"), Some(host), "Host goes verbatim");
        client.send("x").await;
        assert_eq!(socket.wire.exactly(1).await, b"x");
    }
    assert_eq!((one.hits(), two.hits()), (3, 1));
}

#[tokio::test]
async fn assigned_and_custom_hostnames_reach_the_same_app() {
    let (backend, _sockets) = Backend::sockets().await;
    let site = Site::new("app", "ws.customer.test")
        .namespace("acme")
        .to(backend.address);
    let postern = Postern::start_with(&[site], &["--apex-domain", "example.app"]).await;
    for host in ["app-acme.example.app", "ws.customer.test"] {
        let answer = ask(postern.http, handshake(host, "/ws?x=1", "")).await;
        assert_eq!((host, answer.status()), (host, 101));
        let head = backend.heads().pop().expect("a request");
        assert_eq!((head.target(), head.get("host")), ("/ws?x=1", Some(host)));
    }
    assert_eq!(
        ask(postern.http, handshake("app-other.example.app", "/", ""))
            .await
            .status(),
        404
    );
}

#[tokio::test]
async fn unknown_host_is_404_and_no_app_sees_it() {
    let (backend, _sockets) = Backend::sockets().await;
    let postern = Postern::start(&[Site::new("app", "*.two.test").to(backend.address)]).await;
    for host in ["unknown.test", "two.test", "a.b.two.test", "127.0.0.1", "[::1]:80"] {
        assert_refused(
            &ask(postern.http, handshake(host, "/", "")).await,
            404,
            "routing:host_not_found",
        );
    }
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn path_that_no_deployment_serves_is_404() {
    let (backend, _sockets) = Backend::sockets().await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"paths": [{"path": "/ws", "type": "Prefix"}]}));
    let postern = Postern::start(&[site]).await;
    assert_refused(
        &ask(postern.http, handshake(HOST, "/wsx", "")).await,
        404,
        "routing:path_not_found",
    );
    assert_eq!(backend.connections(), 0);
    assert_eq!(ask(postern.http, handshake(HOST, "/ws/x", "")).await.status(), 101);
}

#[tokio::test]
async fn broken_handshakes_are_refused_before_the_app() {
    let (backend, _sockets) = Backend::sockets().await;
    let postern = in_front_of(&backend).await;
    let good = handshake(HOST, "/", "");
    let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
    let cases = [
        ("no version", good.replace("Sec-WebSocket-Version: 13\r\n", "")),
        ("no key", good.replace(&key, "")),
        ("empty key", good.replace(KEY, "")),
        ("short key", good.replace(KEY, "dGhlIHNhbXBsZQ==")),
        ("long key", good.replace(KEY, "dGhlIHNhbXBsZSBub25jZSBhbmQgbW9yZQ==")),
        ("key that is not base64", good.replace(KEY, "!!!!!!!!!!!!!!!!!!!!!!==")),
        ("two keys", good.replace(&key, &key.repeat(2))),
        ("POST", good.replacen("GET", "POST", 1)),
        (
            "a body with a length",
            good.replacen("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc", 1),
        ),
        (
            "a chunked body",
            good.replacen("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1),
        ),
    ];
    for (case, request) in cases {
        let answer = ask(postern.http, request).await;
        assert_eq!((case, answer.status()), (case, 400));
        assert_refused(&answer, 400, "client:bad_upgrade");
    }
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn version_other_than_13_is_426_and_told_which() {
    let (backend, _sockets) = Backend::sockets().await;
    let postern = in_front_of(&backend).await;
    let good = handshake(HOST, "/", "");
    for version in ["12", "14", "013", "13, 8", "x"] {
        let answer = ask(
            postern.http,
            good.replace("Version: 13", &format!("Version: {version}")),
        )
        .await;
        assert_refused(&answer, 426, "client:unsupported_version");
        assert_eq!(answer.head.get("upgrade"), Some("websocket"));
        assert_eq!(answer.head.get("sec-websocket-version"), Some("13"));
    }
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn upgrades_to_anything_else_go_on_as_plain_requests() {
    let backend = Backend::saying("plain").await;
    let postern = in_front_of(&backend).await;
    let cases = [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket/13\r\n",
        // Without Connection: Upgrade the header means nothing (RFC 9110 section 7.8).
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: keep-alive\r\nUpgrade: websocket\r\n",
    ];
    for (i, lines) in cases.into_iter().enumerate() {
        let answer = ask(postern.http, format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n")).await;
        assert_eq!((lines, answer.status(), answer.text().as_str()), (lines, 200, "plain"));
        let head = &backend.heads()[i];
        assert!(!head.has("upgrade"), "{head:?}");
        assert!(!head.has("http2-settings"), "{head:?}");
        assert!(
            !head
                .all("connection")
                .iter()
                .any(|value| value.to_ascii_lowercase().contains("upgrade")),
            "{head:?}"
        );
    }
}

#[tokio::test]
async fn websocket_among_other_upgrades_is_taken() {
    let (backend, _sockets) = Backend::sockets().await;
    let postern = in_front_of(&backend).await;
    let request = handshake(HOST, "/", "").replace("Upgrade: websocket", "Upgrade: h2c, websocket");
    assert_eq!(ask(postern.http, request).await.status(), 101);
    assert_eq!(backend.request().await.get("upgrade"), Some("websocket"));
}

#[tokio::test]
async fn http10_cannot_upgrade() {
    let backend = Backend::saying("plain").await;
    let postern = in_front_of(&backend).await;
    let answer = ask(
        postern.http,
        handshake(HOST, "/", "").replacen("HTTP/1.1", "HTTP/1.0", 1),
    )
    .await;
    assert_ne!(answer.status(), 101);
    assert!(
        backend.heads().iter().all(|head| !head.has("upgrade")),
        "{:?}",
        backend.heads()
    );
}

#[tokio::test]
async fn refusal_of_the_app_passes_unchanged() {
    let cases = [
        (
            401,
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nX-App: yes\r\nContent-Length: 9\r\n\r\nwho is it",
            "who is it",
        ),
        (
            403,
            "HTTP/1.1 403 Forbidden\r\nX-App: yes\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n4\r\n you\r\n0\r\n\r\n",
            "not you",
        ),
        (
            200,
            "HTTP/1.1 200 OK\r\nX-App: yes\r\nContent-Length: 4\r\n\r\npage",
            "page",
        ),
        (
            302,
            "HTTP/1.1 302 Found\r\nX-App: yes\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
            "",
        ),
        (
            426,
            "HTTP/1.1 426 Upgrade Required\r\nX-App: yes\r\nContent-Length: 3\r\n\r\nold",
            "old",
        ),
    ];
    for (status, sent, body) in cases {
        let backend = Backend::answering(sent).await;
        let postern = in_front_of(&backend).await;
        let mut wire = Wire::connect(postern.http).await;
        wire.send(handshake(HOST, "/", "")).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status(), answer.text().as_str()), (status, body));
        assert_eq!(answer.head.get("x-app"), Some("yes"));
        assert!(!answer.head.has("x-postern-error"), "{answer:?}");
        if status == 401 {
            assert_eq!(answer.head.get("www-authenticate"), Some("Bearer"));
        }
        // The connection is an ordinary one still.
        wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!(wire.answer().await.status(), status);
    }
}

#[tokio::test]
async fn switch_that_does_not_match_is_502() {
    let wrong = [
        (
            "another key's Accept",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
        ),
        ("no Accept", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        (
            "another protocol",
            "Connection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        ),
        (
            "no protocol",
            "Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        ),
    ];
    for (case, lines) in wrong {
        let backend = Backend::answering(format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n")).await;
        let postern = in_front_of(&backend).await;
        let answer = ask(postern.http, handshake(HOST, "/", "")).await;
        assert_eq!((case, answer.status()), (case, 502));
        assert_refused(&answer, 502, "upstream:bad_upgrade");
        assert!(!answer.head.has("upgrade"));
    }
}

#[tokio::test]
async fn switch_that_nobody_asked_for_is_502() {
    let switch = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        ws::ACCEPT
    );
    let backend = Backend::answering(switch).await;
    let postern = in_front_of(&backend).await;
    let answer = ask(postern.http, format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(answer.status(), 502);
    let code = answer.head.get("x-postern-error").unwrap_or_default();
    assert!(
        ["upstream:bad_upgrade", "upstream:bad_gateway"].contains(&code),
        "{code}"
    );
}

#[tokio::test]
async fn app_that_never_answers_the_handshake_is_504() {
    let backend = Backend::start(|mut visit| async move {
        visit.head().await;
        // Holds the connection until Postern gives up.
        visit.wire.rest().await;
    })
    .await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"webSocket": {"handshakeTimeout": "300ms"}}));
    let postern = Postern::start(&[site]).await;
    let answer = ask(postern.http, handshake(HOST, "/", "")).await;
    assert_refused(&answer, 504, "upstream:timeout");
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains("within 0.3 s (webSocket.handshakeTimeout)"), "{detail}");
}

/// Handshakes that come together wait neither for one another nor for what only looks like one.
#[tokio::test]
async fn an_app_that_is_slow_to_answer_gets_all_handshakes_at_once() {
    let backend = Backend::start(|mut visit| async move {
        let Some(request) = visit.head().await else { return };
        tokio::time::sleep(Duration::from_secs(2)).await;
        visit.wire.send(ws::accepted(&request)).await;
        visit.wire.echo().await;
    })
    .await;
    let postern = in_front_of(&backend).await;
    let start = Instant::now();
    let opening: Vec<_> = (0..300)
        .map(|_| {
            let to = postern.http;
            tokio::spawn(async move { ws::open(to, HOST, "/").await })
        })
        .collect();
    for socket in opening {
        socket.await.expect("opens");
    }
    // In lines of 64 it would take ten.
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
}

#[tokio::test]
async fn requests_that_only_look_like_handshakes_hold_no_places() {
    let (backend, _sockets) = Backend::sockets().await;
    let postern = in_front_of(&backend).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut wire = Wire::connect(postern.http).await;
        let more = "Content-Length: 1000000\r\n";
        wire.send(handshake(HOST, "/", more).replacen("GET", "POST", 1)).await;
        wire.send("x").await;
        slow.push(wire);
    }
    let start = Instant::now();
    for _ in 0..10 {
        ws::open(postern.http, HOST, "/").await;
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(slow);
}

#[tokio::test]
async fn informational_answers_before_the_101_do_not_disturb() {
    let backend = Backend::start(|mut visit| async move {
        let Some(request) = visit.head().await else { return };
        let answers = format!(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}",
            ws::accepted(&request)
        );
        visit.wire.send(answers).await;
        visit.wire.echo().await;
    })
    .await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    client.send(handshake(HOST, "/", "")).await;
    let mut head = client.head().await;
    while head.status() == 103 {
        head = client.head().await;
    }
    assert_eq!(head.status(), 101);
    client.send("x").await;
    assert_eq!(client.exactly(1).await, b"x");
}

/// An app that is silent until the switch is turned, and accepts from then on. It tells when a silent one was given up.
async fn silent_until(accepts: &Arc<AtomicBool>, given_up: &Arc<AtomicUsize>) -> Backend {
    let (accepts, given_up) = (Arc::clone(accepts), Arc::clone(given_up));
    Backend::start(move |mut visit| {
        let (accepts, given_up) = (Arc::clone(&accepts), Arc::clone(&given_up));
        async move {
            let Some(request) = visit.head().await else { return };
            if accepts.load(Ordering::SeqCst) {
                visit.wire.send(ws::accepted(&request)).await;
                return visit.wire.echo().await;
            }
            visit.wire.rest().await;
            given_up.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await
}

#[tokio::test]
async fn client_that_leaves_during_the_handshake_is_passed_on() {
    let (accepts, given_up) = (Arc::default(), Arc::default());
    let backend = silent_until(&accepts, &given_up).await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    client.send(handshake(HOST, "/", "")).await;
    backend.request().await;
    client.reset();
    // Long before the 60 s that a handshake may take.
    let start = Instant::now();
    eventually("the app is let go", async || given_up.load(Ordering::SeqCst) == 1).await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test]
async fn failed_handshakes_leave_nothing_behind() {
    let (accepts, given_up) = (Arc::default(), Arc::default());
    let backend = silent_until(&accepts, &given_up).await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"webSocket": {"handshakeTimeout": "1s"}}));
    let postern = Postern::start(&[site]).await;
    let address = postern.http;
    let asking: Vec<_> = (0..1000)
        .map(|_| tokio::spawn(ask(address, handshake(HOST, "/", ""))))
        .collect();
    eventually("handshakes are in flight", async || backend.hits() > 0).await;
    // All reach the app, which never answers: nobody waits in line for an app that is slow.
    let mut codes = BTreeSet::new();
    for answer in asking {
        let answer = answer.await.expect("is answered");
        codes.insert(answer.head.get("x-postern-error").unwrap_or_default().to_owned());
    }
    assert_eq!(codes, ["upstream:timeout".to_owned()].into());
    let let_go = async || given_up.load(Ordering::SeqCst) == backend.hits();
    eventually("the app is let go", let_go).await;
    eventually("descriptors are back", async || postern.descriptors() < 100).await;
    accepts.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        ws::open(address, HOST, "/").await;
    }
}

#[tokio::test]
async fn app_that_hangs_up_on_the_handshake_is_502() {
    let backend = Backend::start(|mut visit| async move {
        visit.head().await;
    })
    .await;
    let postern = in_front_of(&backend).await;
    assert_refused(
        &ask(postern.http, handshake(HOST, "/", "")).await,
        502,
        "upstream:bad_gateway",
    );
    assert_eq!(backend.hits(), 1, "an upgrade is not sent twice");
}

#[tokio::test]
async fn upgrade_goes_over_a_fresh_connection() {
    let backend = Backend::start(|mut visit| async move {
        while let Some(head) = visit.head().await {
            if head.has("upgrade") {
                visit.wire.send(ws::accepted(&head)).await;
                return visit.wire.echo().await;
            }
            visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let postern = in_front_of(&backend).await;
    let mut wire = Wire::connect(postern.http).await;
    wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(wire.answer().await.status(), 200);
    // On the client's own connection, right behind the plain request.
    wire.send(handshake(HOST, "/", "")).await;
    assert_eq!(wire.answer().await.status(), 101);
    wire.send("x").await;
    assert_eq!(wire.exactly(1).await, b"x");
    assert_eq!(backend.connections(), 2);
}
