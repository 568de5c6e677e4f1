//! What the app and the client see of each other's headers, and what Postern adds. The upgrade's own are in upgrade.rs.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::backend::Backend;
use crate::support::head::Head;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Answer, Wire, ask, get};

const HOST: &str = "app.example.test";

/// What an app that says nothing in particular gets of a GET with these header lines.
async fn seen_by_app(lines: &str) -> Head {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let answer = ask(postern.http, format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    backend.request().await
}

/// What a client gets of an app's answer with these header lines.
async fn seen_by_client(lines: &str) -> Answer {
    let backend = Backend::answering(format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok")).await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    get(postern.http, HOST, "/").await
}

/// The parts of a UUID: version 7 has a 7 and one of 8, 9, a, b at fixed places (RFC 9562 section 5.7).
fn is_uuid_v7(id: &str) -> bool {
    let groups: Vec<&str> = id.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let hex = |group: &&str| group.chars().all(|c| c.is_ascii_hexdigit());
    lengths == [8, 4, 4, 4, 12]
        && groups.iter().all(hex)
        && groups[2].starts_with('7')
        && groups[3].starts_with(['8', '9', 'a', 'b'])
}

#[tokio::test]
async fn forged_identity_never_reaches_the_app() {
    let names = [
        "X-Postern-Principal",
        "x-postern-anything",
        "X_Postern_Principal",
        "X-Postern_Principal-Token",
        "X-Deployment-Id",
        "X_Deployment_Id",
        "x-deployment_id",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Client-Cert",
        "X_Forwarded_For",
        "X-Forwarded_Proto",
        "x_forwarded-host",
        "X-Real-Ip",
        "X_Real_IP",
        "x-real_ip",
        "X-Request-Id",
        "X_Request_Id",
    ];
    let lines: String = names
        .iter()
        .map(|name| format!("{name}: forged\r\n{name}: forged again\r\n"))
        .collect();
    let head = seen_by_app(&lines).await;
    let forged: Vec<_> = head
        .headers
        .iter()
        .filter(|(_, value)| value.contains("forged"))
        .collect();
    assert!(forged.is_empty(), "{forged:?}");
    let folded: Vec<_> = head.headers.iter().filter(|(name, _)| name.contains('_')).collect();
    assert!(folded.is_empty(), "{folded:?}");
    assert_eq!(head.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.get("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(head.get("x-forwarded-host"), Some(HOST));
    assert_eq!(head.get("x-forwarded-proto"), Some("http"));
    assert_eq!(head.get("x-deployment-id"), Some("app"));
    assert!(!head.has("x-postern-principal"));
}

#[tokio::test]
async fn client_cannot_nominate_away_what_postern_sets() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let lines = "Connection: x-forwarded-for, x-deployment-id\r\nConnection: x-real-ip\r\nconnection: X-Request-Id,host, content-length\r\n\
                 Connection: x-forwarded-host, x-forwarded-proto, x-forwarded-port\r\n";
    let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{lines}Content-Length: 4\r\n\r\nbody");
    assert_eq!(ask(postern.http, request).await.status(), 200);
    let head = backend.request().await;
    let set = [
        "x-forwarded-for",
        "x-deployment-id",
        "x-real-ip",
        "x-request-id",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
    ];
    for name in set.into_iter().chain(["host", "content-length"]) {
        assert!(head.has(name), "{name} is gone: {head:?}");
    }
}

#[tokio::test]
async fn hop_by_hop_headers_of_the_client_stay_behind() {
    let lines = "Connection: keep-alive, x-one\r\nConnection: X-Two\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\
                 Keep-Alive: timeout=99\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n";
    let head = seen_by_app(lines).await;
    for name in ["x-one", "x-two", "keep-alive", "proxy-connection", "te"] {
        assert!(!head.has(name), "{name} is there: {head:?}");
    }
    assert_eq!(head.get("x-three"), Some("3"));
}

#[tokio::test]
async fn hop_by_hop_headers_of_the_app_stay_behind() {
    let lines = "Connection: keep-alive, x-one\r\nConnection: X-Two\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\
                 Keep-Alive: timeout=99\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\n";
    let head = seen_by_client(lines).await.head;
    for name in ["x-one", "x-two", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!head.has(name), "{name} is there: {head:?}");
    }
    assert_eq!(head.get("x-three"), Some("3"));
}

#[tokio::test]
async fn every_request_gets_an_id_of_its_own_at_both_ends() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let mut wire = Wire::connect(postern.http).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Request-Id: mine\r\n\r\n"))
            .await;
        let id = wire.answer().await.head.get("x-request-id").expect("an id").to_owned();
        assert!(is_uuid_v7(&id), "{id}");
        told.push(id);
    }
    let heads = backend.heads();
    let seen: Vec<_> = heads
        .iter()
        .map(|head| head.get("x-request-id").expect("an id"))
        .collect();
    assert_eq!(seen, told);
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), 3);
}

#[tokio::test]
async fn request_id_of_the_app_does_not_replace_ours() {
    let answer = seen_by_client("X-Request-Id: theirs\r\n").await;
    let ids = answer.head.all("x-request-id");
    assert!(ids.len() == 1 && is_uuid_v7(ids[0]), "{ids:?}");
}

#[tokio::test]
async fn app_cannot_speak_with_the_error_header() {
    for code in ["client:bad_request", "routing:loop_detected"] {
        let answer = seen_by_client(&format!("X-Postern-Error: {code}\r\n")).await;
        assert!(
            !answer.head.has("x-postern-error"),
            "the header is Postern's alone: {answer:?}"
        );
    }
}

#[tokio::test]
async fn host_reaches_the_app_verbatim() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    for host in ["App.Example.TEST", "app.example.test:8080", "app.example.test."] {
        assert_eq!(get(postern.http, host, "/").await.status(), 200);
        let head = backend.heads().pop().expect("a request");
        assert_eq!(head.get("host"), Some(host));
        assert_eq!(head.get("x-forwarded-host"), Some(host));
    }
}

#[tokio::test]
async fn path_and_query_reach_the_app_verbatim() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    for target in [
        "/",
        "/?",
        "//x//",
        "/a/../b/%2e%2e/./c",
        "/%41%zz%",
        "/a;b=c?d&&e==&%20+/?",
        "/?q=~!$'()*,;:@[]",
    ] {
        assert_eq!((target, get(postern.http, HOST, target).await.status()), (target, 200));
        assert_eq!(backend.heads().pop().expect("a request").target(), target);
    }
}

#[tokio::test]
async fn deployment_id_is_the_one_in_the_manifest() {
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"deploymentId": "d_123"}));
    let postern = Postern::start(&[site]).await;
    get(postern.http, HOST, "/").await;
    assert_eq!(backend.request().await.get("x-deployment-id"), Some("d_123"));
}

#[tokio::test]
async fn repeated_headers_stay_apart_and_in_order() {
    let head = seen_by_app("X-Many: one\r\nX-Many: two, three\r\nX-Many: one\r\nCookie: a=b\r\n").await;
    assert_eq!(head.all("x-many"), ["one", "two, three", "one"]);
    let answer = seen_by_client("Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2, c\r\n").await;
    assert_eq!(answer.head.all("set-cookie"), ["a=1; Path=/", "b=2, c"]);
}

#[tokio::test]
async fn date_and_server_of_the_app_are_kept() {
    let date = "Tue, 15 Nov 1994 08:12:31 GMT";
    let answer = seen_by_client(&format!("Date: {date}\r\nServer: theirs/1.0\r\n")).await;
    assert_eq!(answer.head.get("date"), Some(date));
    assert_eq!(answer.head.get("server"), Some("theirs/1.0"));
}

#[tokio::test]
async fn bytes_beyond_ascii_pass_in_values() {
    let backend = Backend::answering(&b"HTTP/1.1 200 OK\r\nX-Name: gr\xfc\xdf\r\nContent-Length: 0\r\n\r\n"[..]).await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let request = b"GET / HTTP/1.1\r\nHost: app.example.test\r\nX-Name: caf\xe9\r\n\r\n";
    let answer = ask(postern.http, request).await;
    let contains = |head: &Head, bytes: &[u8]| head.raw.windows(bytes.len()).any(|window| window == bytes);
    assert!(contains(&answer.head, b"gr\xfc\xdf"));
    assert!(contains(&backend.request().await, b"caf\xe9"));
}
