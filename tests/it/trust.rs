//! Who is believed about the client: trusted proxies' headers, and the PROXY protocol.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::guarded::policy;
use crate::support::head::Head;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::tls::Client;
use crate::support::wire::{End, Wire, ask};

const HOST: &str = "app.example.test";
const V1: &str = "PROXY TCP4 203.0.113.9 198.51.100.1 50000 443\r\n";

async fn trusting(networks: &str, more: &[&str]) -> (Backend, Postern) {
    let backend = Backend::saying("ok").await;
    let flags = [&["--trusted-proxies", networks], more].concat();
    let postern = Postern::start_with(&[Site::new("app", HOST).to(backend.address)], &flags).await;
    (backend, postern)
}

/// What the app gets of a GET with these header lines.
async fn seen(backend: &Backend, postern: &Postern, lines: &str) -> Head {
    let answer = ask(postern.http, format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    last(backend)
}

/// What the app got last.
fn last(backend: &Backend) -> Head {
    backend.heads().pop().expect("was asked")
}

#[tokio::test]
async fn the_client_is_the_rightmost_hop_that_is_not_trusted() {
    let (backend, postern) = trusting("127.0.0.1,10.0.0.0/8,2001:db8:1::/48", &[]).await;
    for (told, client, chain) in [
        ("", "127.0.0.1", "127.0.0.1"),
        (
            "X-Forwarded-For: 203.0.113.9\r\n",
            "203.0.113.9",
            "203.0.113.9, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.2.3\r\n",
            "203.0.113.9",
            "203.0.113.9, 10.1.2.3, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n",
            "203.0.113.9",
            "203.0.113.9, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: 10.9.9.9, 10.1.2.3\r\n",
            "10.9.9.9",
            "10.9.9.9, 10.1.2.3, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: 203.0.113.9, unknown\r\n",
            "unknown",
            "unknown, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: 203.0.113.9, _hidden, 10.1.2.3\r\n",
            "unknown",
            "unknown, 10.1.2.3, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: \u{e9}\r\n",
            "unknown",
            "unknown, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: \u{e9}, 203.0.113.9\r\n",
            "203.0.113.9",
            "203.0.113.9, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: , 203.0.113.9,\t,\r\n",
            "203.0.113.9",
            "203.0.113.9, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: 203.0.113.9:4711\r\n",
            "203.0.113.9",
            "203.0.113.9, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: [2001:db8:2::7]:4711, 2001:db8:1::1\r\n",
            "2001:db8:2::7",
            "2001:db8:2::7, 2001:db8:1::1, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: ::ffff:203.0.113.9\r\n",
            "203.0.113.9",
            "203.0.113.9, 127.0.0.1",
        ),
    ] {
        let head = seen(&backend, &postern, told).await;
        assert_eq!(head.all("x-real-ip"), [client], "{told}");
        assert_eq!(head.all("x-forwarded-for"), [chain], "{told}");
    }
}

#[tokio::test]
async fn trusted_proxys_word_on_scheme_host_port_and_request_id_is_passed_on() {
    let (backend, postern) = trusting("127.0.0.1", &[]).await;
    let told = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\nX-Forwarded-Port: 443\r\nX-Request-Id: abc-123\r\n\
                X-Forwarded-Prefix: /shop\r\nX-Forwarded-Client-Cert: Hash=1\r\nX_Forwarded_Proto: twin\r\nX-Postern-Principal: forged\r\n";
    let head = seen(&backend, &postern, told).await;
    for (name, value) in [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-port", "443"),
        ("x-request-id", "abc-123"),
        ("x-forwarded-prefix", "/shop"),
        ("x-forwarded-client-cert", "Hash=1"),
    ] {
        assert_eq!(head.all(name), [value]);
    }
    assert!(
        !head.has("x_forwarded_proto") && !head.has("x-postern-principal"),
        "{head:?}"
    );

    let nonsense = "X-Forwarded-Proto: gopher\r\nX-Forwarded-Port: 0\r\nX-Request-Id: two words\r\n";
    let head = seen(&backend, &postern, nonsense).await;
    assert_eq!(head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(head.all("x-forwarded-port"), [postern.http.port().to_string()]);
    assert_ne!(head.get("x-request-id"), Some("two words"));
}

#[tokio::test]
async fn forwarded_is_sent_where_it_is_asked_for() {
    let (backend, postern) = trusting("127.0.0.1", &["--forwarded", "true"]).await;
    let head = seen(
        &backend,
        &postern,
        "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n",
    )
    .await;
    assert_eq!(
        head.get("forwarded"),
        Some("for=203.0.113.9;host=\"app.example.test\";proto=https")
    );
    let head = seen(&backend, &postern, "X-Forwarded-For: 2001:db8::7\r\n").await;
    assert_eq!(
        head.get("forwarded"),
        Some("for=\"[2001:db8::7]\";host=\"app.example.test\";proto=http")
    );
}

#[tokio::test]
async fn proxy_header_of_a_trusted_balancer_names_the_client_on_both_ports() {
    let (backend, postern) = trusting("127.0.0.1", &["--proxy-protocol", "true"]).await;
    let v2 = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[203, 0, 113, 9, 198, 51, 100, 1, 0xc3, 0x50, 1, 187],
    ];
    for header in [V1.as_bytes(), &v2.concat()] {
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
        let mut wire = Wire::connect(postern.http).await;
        wire.send([header, request.as_bytes()].concat()).await;
        assert_eq!(wire.answer().await.status(), 200);
        let head = last(&backend);
        assert_eq!(
            head.all("x-forwarded-for"),
            ["203.0.113.9"],
            "the client itself is not trusted"
        );
        assert_eq!(head.all("x-forwarded-port"), ["443"]);

        let mut stream = TcpStream::connect(postern.https).await.unwrap();
        stream.write_all(header).await.unwrap();
        let stream = Client::careless().handshake(stream, HOST).await.unwrap();
        let mut wire = Wire::tls(stream);
        wire.send(&request).await;
        assert_eq!(wire.answer().await.status(), 200);
        let head = last(&backend);
        assert_eq!(head.all("x-forwarded-for"), ["203.0.113.9"]);
        assert_eq!(head.all("x-forwarded-proto"), ["https"]);
    }
}

#[tokio::test]
async fn balancers_health_check_speaks_for_itself() {
    let (backend, postern) = trusting("127.0.0.1", &["--proxy-protocol", "true"]).await;
    let mut wire = Wire::connect(postern.http).await;
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    wire.send([&local[..], request.as_bytes()].concat()).await;
    assert_eq!(wire.answer().await.status(), 200);
    assert_eq!(last(&backend).get("x-real-ip"), Some("127.0.0.1"));
}

#[tokio::test]
async fn trusted_balancer_without_a_proxy_header_gets_no_answer() {
    let (backend, postern) = trusting("127.0.0.1", &["--proxy-protocol", "true"]).await;
    let bad = [
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        "PROXY TCP4 nonsense\r\n".to_owned(),
        format!("PROXY {}", "x".repeat(300)),
    ];
    for bytes in bad {
        let mut wire = Wire::connect(postern.http).await;
        wire.try_send(&bytes).await;
        let (answer, end) = wire.rest().await;
        assert!(answer.is_empty(), "{end:?} {:?}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(backend.hits(), 0);
}

#[tokio::test]
async fn proxy_header_of_anybody_else_is_a_malformed_request() {
    let (backend, postern) = trusting("10.0.0.0/8", &["--proxy-protocol", "true"]).await;
    let request = format!("{V1}GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    assert_eq!(ask(postern.http, request).await.status(), 400);
    assert_eq!(backend.hits(), 0);
    let plain = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    assert_eq!(
        ask(postern.http, plain).await.status(),
        200,
        "who is not trusted needs none"
    );
}

#[tokio::test]
async fn slow_proxy_header_is_not_waited_for() {
    let more = ["--proxy-protocol", "true", "--tls-handshake-timeout", "1s"];
    let (_backend, postern) = trusting("127.0.0.1", &more).await;
    for port in [postern.http, postern.https] {
        let mut wire = Wire::connect(port).await;
        wire.send("PROXY TCP4 ").await;
        let (answer, end) = wire.rest().await;
        assert_eq!((answer.len(), end), (0, End::Fin));
    }
    // Nor is one that comes byte by byte: the limit is for all of it.
    let mut wire = Wire::connect(postern.http).await;
    for byte in V1.bytes().cycle() {
        if !wire.try_send([byte]).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_client_that_cannot_be_read_is_in_no_network_and_has_a_bucket_of_its_own() {
    let rules = json!([
        {"name": "inside", "match": [{"path": {"exact": "/inside"}}, {"remoteIp": ["127.0.0.0/8"], "not": true}],
         "firewall": {"action": "Deny"}},
        {"name": "outside", "match": [{"path": {"exact": "/outside"}}, {"remoteIp": ["203.0.113.0/24"], "not": true}],
         "firewall": {"action": "Allow"}},
        {"name": "rest", "match": [{"path": {"exact": "/outside"}}], "firewall": {"action": "Deny"}},
        {"name": "few", "rateLimit": {"limit": 1, "window": "1h", "by": [{"remoteIp": {}}]}},
    ]);
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST).to(backend.address).with(policy("guard", rules));
    let postern = Postern::start_with(&[site], &["--trusted-proxies", "127.0.0.1"]).await;
    let status = async |target: &str, told: &str| {
        let lines = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: {told}\r\n\r\n");
        ask(postern.http, lines).await.status()
    };
    assert_eq!(status("/inside", "unknown").await, 403);
    assert_eq!(status("/outside", "unknown").await, 403);
    assert_eq!(status("/", "127.0.0.1").await, 200);
    assert_eq!(status("/", "unknown").await, 200, "not the proxy's bucket");
    assert_eq!(
        status("/", "\u{e9}").await,
        429,
        "one bucket for all that cannot be read"
    );
}
