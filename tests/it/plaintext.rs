//! The plaintext port: what it sends to https, what it refuses, and when it serves.

use serde_json::json;

use crate::support::backend::Backend;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::tls::Client;
use crate::support::wire::{Wire, ask, get};
use crate::support::ws::handshake;

const HOST: &str = "app.example.test";

async fn redirecting(backend: &Backend, flags: &[&str]) -> Postern {
    let flags = [&["--http", "redirect"], flags].concat();
    Postern::start_with(&[Site::new("app", HOST).to(backend.address)], &flags).await
}

#[tokio::test]
async fn plain_request_is_sent_to_https_with_its_path_and_query() {
    let backend = Backend::saying("ok").await;
    let postern = redirecting(&backend, &[]).await;
    for (host, target, location) in [
        (HOST, "/a/b?c=d&e", "https://app.example.test/a/b?c=d&e"),
        ("app.example.test:8080", "/", "https://app.example.test/"),
        ("APP.example.test.", "/%2e%2e//x", "https://APP.example.test./%2e%2e//x"),
    ] {
        let answer = get(postern.http, host, target).await;
        assert_eq!(answer.status(), 308);
        assert_eq!(answer.head.get("location"), Some(location));
        assert!(answer.head.has("x-request-id"));
    }
    let asterisk = format!("OPTIONS * HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let answer = ask(postern.http, asterisk).await;
    assert_eq!(answer.head.get("location"), Some("https://app.example.test"));
    let post = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(ask(postern.http, post).await.status(), 308);
    assert_eq!(get(postern.http, "other.example.test", "/").await.status(), 404);
    assert_eq!(backend.hits(), 0);
    let counted = postern.metric("postern_requests_total", &[("deployment", "app"), ("code", "3xx")]);
    assert_eq!(counted.await, 5.0);
}

#[tokio::test]
async fn plaintext_websocket_is_told_to_use_wss_and_never_redirected() {
    let backend = Backend::echoing().await;
    let postern = redirecting(&backend, &[]).await;
    let answer = ask(postern.http, handshake(HOST, "/ws", "")).await;
    assert_eq!(answer.status(), 426);
    assert_eq!(answer.head.get("upgrade"), Some("TLS/1.2, HTTP/1.1"));
    assert_eq!(answer.head.get("connection"), Some("upgrade"));
    assert_eq!(answer.head.get("x-postern-error"), Some("client:tls_required"));
    assert!(!answer.head.has("location"));
    assert!(
        answer.json()["detail"].as_str().unwrap().contains("wss://"),
        "{answer:?}"
    );
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn request_that_a_trusted_proxy_had_over_https_is_served() {
    let backend = Backend::saying("ok").await;
    let postern = redirecting(&backend, &["--trusted-proxies", "127.0.0.1"]).await;
    let over = |proto: &str| format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-Proto: {proto}\r\n\r\n");
    assert_eq!(ask(postern.http, over("https")).await.status(), 200);
    assert_eq!(backend.request().await.get("x-forwarded-proto"), Some("https"));
    assert_eq!(ask(postern.http, over("http")).await.status(), 308);
    let (echo, mut opened) = (
        handshake(HOST, "/", "X-Forwarded-Proto: https\r\n"),
        Wire::connect(postern.http).await,
    );
    opened.send(echo).await;
    // The app says "ok" where a 101 should be: it was asked.
    assert_eq!(opened.answer().await.status(), 200);

    let elsewhere = redirecting(&backend, &["--trusted-proxies", "10.0.0.0/8"]).await;
    assert_eq!(
        ask(elsewhere.http, over("https")).await.status(),
        308,
        "nobody else is believed"
    );
}

#[tokio::test]
async fn a_manifests_folder_is_served_in_plaintext_unless_told_otherwise() {
    let backend = Backend::saying("ok").await;
    let site = [Site::new("app", HOST).to(backend.address)];
    let postern = Postern::start(&site).await;
    assert_eq!(get(postern.http, HOST, "/").await.status(), 200);
}

#[tokio::test]
async fn without_a_plaintext_port_https_serves_alone() {
    let backend = Backend::saying("ok").await;
    let site = [Site::new("app", HOST).to(backend.address)];
    let settings = json!({"http": "off"});
    let postern = Postern::start_configured(&site, &settings).await;
    let mut wire = Client::careless().connect(postern.https, HOST).await;
    wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(wire.answer().await.status(), 200);
    let bound = postern.ask_admin("/debug/config").await.json();
    assert!(bound["addresses"].get("http").is_none(), "{bound}");
}

#[tokio::test]
async fn hsts_stands_on_every_answer_over_tls_and_on_no_other() {
    let hsts = "max-age=63072000; includeSubDomains";
    let backend = Backend::saying("ok").await;
    let site = [Site::new("app", HOST).to(backend.address)];
    let postern = Postern::start_with(&site, &["--hsts", hsts]).await;
    for (host, status) in [(HOST, 200), ("other.example.test", 404)] {
        let mut wire = Client::careless().connect(postern.https, host).await;
        wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.head.all("strict-transport-security"), [hsts]);
        // RFC 6797 section 7.2: not in plaintext.
        assert!(!get(postern.http, host, "/").await.head.has("strict-transport-security"));
    }
    let strict =
        Backend::answering("HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 0\r\n\r\n")
            .await;
    postern.apply(&Site::new("app", HOST).to(strict.address));
    let own = async || {
        let mut wire = Client::careless().connect(postern.https, HOST).await;
        wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        wire.answer().await.head.all("strict-transport-security") == ["max-age=1"]
    };
    crate::support::eventually("the app's own is kept", own).await;
}
