//! Endpoints that cannot be reached: what is tried, how long, and that it ends in 503, for plain requests and upgrades.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::{Backend, echoing_bodies};
use crate::support::black_hole::{BlackHole, refusing, unroutable};
use crate::support::front::{Front, Transport};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Answer, ask, get};

const HOST: &str = "app.example.test";

over_each! {
    refused_endpoint_is_503,
    unroutable_endpoint_is_503,
    black_holed_endpoint_is_503_within_the_defaults,
    connect_timeout_is_the_one_in_the_manifest,
    dial_budget_bounds_all_attempts_together,
    no_endpoint_at_all_is_503,
    no_ready_endpoint_is_503,
    upgrade_is_retried_on_the_next_endpoint,
}

/// Asks once plainly and once for an upgrade; each must fail with the code before the time is up.
async fn fails_within(over: Transport, limit: Duration, site: Site, code: &str) {
    let front = Front::start(over, &[site]).await;
    for upgrade in [false, true] {
        let start = Instant::now();
        let answer = match upgrade {
            false => front.get(HOST, "/").await,
            true => front.upgrade(HOST, "/", "").await.err().expect("no socket"),
        };
        let took = start.elapsed();
        assert_eq!((answer.status(), answer.head.get("x-postern-error")), (503, Some(code)));
        assert!(answer.head.has("retry-after"));
        assert!(took < limit, "answered after {took:?}");
    }
}

fn quick() -> Value {
    json!({"timeouts": {"connect": "200ms", "dialBudget": "600ms"}})
}

fn to_all(addresses: &[SocketAddr]) -> Site {
    addresses
        .iter()
        .fold(Site::new("app", HOST), |site, &address| site.to(address))
}

async fn post(to: SocketAddr, body: &str) -> Answer {
    ask(
        to,
        format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
    .await
}

async fn refused_endpoint_is_503(over: Transport) {
    let (address, _port) = refusing();
    fails_within(over, Duration::from_secs(2), to_all(&[address]), "upstream:unreachable").await;
}

async fn unroutable_endpoint_is_503(over: Transport) {
    fails_within(
        over,
        Duration::from_secs(2),
        to_all(&[unroutable()]),
        "upstream:unreachable",
    )
    .await;
}

async fn black_holed_endpoint_is_503_within_the_defaults(over: Transport) {
    let hole = BlackHole::open().await;
    // 2 s per attempt, 5 s for all of them.
    fails_within(
        over,
        Duration::from_secs(7),
        to_all(&[hole.address]),
        "upstream:unreachable",
    )
    .await;
}

async fn connect_timeout_is_the_one_in_the_manifest(over: Transport) {
    let hole = BlackHole::open().await;
    let site = to_all(&[hole.address]).spec(json!({"timeouts": {"connect": "100ms"}}));
    fails_within(over, Duration::from_millis(1900), site, "upstream:unreachable").await;
}

async fn dial_budget_bounds_all_attempts_together(over: Transport) {
    let mut holes = Vec::new();
    for _ in 0..5 {
        holes.push(BlackHole::open().await);
    }
    let addresses: Vec<_> = holes.iter().map(|hole| hole.address).collect();
    // Five attempts by themselves would take ten seconds.
    let site = to_all(&addresses).spec(json!({"timeouts": {"connect": "2s", "dialBudget": "1s"}}));
    fails_within(over, Duration::from_secs(4), site, "upstream:unreachable").await;
}

async fn no_endpoint_at_all_is_503(over: Transport) {
    fails_within(
        over,
        Duration::from_secs(2),
        Site::new("app", HOST),
        "capacity:no_ready_endpoint",
    )
    .await;
}

async fn no_ready_endpoint_is_503(over: Transport) {
    let backend = Backend::saying("never").await;
    let site = Site::new("app", HOST).endpoint(backend.address, json!({"ready": false}));
    fails_within(over, Duration::from_secs(2), site, "capacity:no_ready_endpoint").await;
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn dead_endpoint_is_retried_on_the_next() {
    let backend = Backend::saying("alive").await;
    let (refused, _port) = refusing();
    let hole = BlackHole::open().await;
    let site = to_all(&[refused, unroutable(), hole.address, backend.address]).spec(quick());
    let postern = Postern::start(&[site]).await;
    for _ in 0..20 {
        assert_eq!(get(postern.http, HOST, "/").await.text(), "alive");
    }
    assert_eq!(backend.hits(), 20);
}

async fn upgrade_is_retried_on_the_next_endpoint(over: Transport) {
    let backend = Backend::echoing().await;
    let (refused, _port) = refusing();
    let hole = BlackHole::open().await;
    let site = to_all(&[refused, unroutable(), hole.address, backend.address]).spec(quick());
    let front = Front::start(over, &[site]).await;
    for _ in 0..10 {
        let mut socket = front.open(HOST, "/").await;
        socket.send("x").await;
        assert_eq!(socket.exactly(1).await, b"x");
    }
    assert_eq!(backend.hits(), 10);
}

#[tokio::test]
async fn body_survives_the_dial_of_the_next_endpoint() {
    let backend = echoing_bodies().await;
    let (refused, _port) = refusing();
    let postern = Postern::start(&[to_all(&[refused, unroutable(), backend.address])]).await;
    for i in 0..10 {
        let body = format!("body {i}");
        assert_eq!(post(postern.http, &body).await.text(), body);
    }
    assert_eq!(backend.hits(), 10);
}

#[tokio::test]
async fn request_that_has_left_is_not_sent_again() {
    // Takes the request on a fresh connection and hangs up: whether it acted on it, nobody knows.
    let backend = Backend::start(|mut visit| async move {
        visit.head().await;
    })
    .await;
    let postern = Postern::start(&[to_all(&[backend.address])]).await;
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let before = backend.hits();
        let answer = ask(postern.http, request).await;
        assert_eq!(
            (answer.status(), answer.head.get("x-postern-error")),
            (502, Some("upstream:bad_gateway"))
        );
        assert_eq!(backend.hits(), before + 1);
    }
}

#[tokio::test]
async fn reset_of_a_connection_is_502() {
    let backend = Backend::start(|mut visit| async move {
        visit.head().await;
        visit.wire.reset();
    })
    .await;
    let postern = Postern::start(&[to_all(&[backend.address])]).await;
    let answer = get(postern.http, HOST, "/").await;
    assert_eq!(
        (answer.status(), answer.head.get("x-postern-error")),
        (502, Some("upstream:bad_gateway"))
    );
}

#[tokio::test]
async fn endpoint_that_comes_back_is_served_again() {
    let (address, port) = refusing();
    let postern = Postern::start(&[to_all(&[address])]).await;
    assert_eq!(get(postern.http, HOST, "/").await.status(), 503);
    let _backend = Backend::start_bound(port, |mut visit| async move {
        while visit.request().await.is_some() {
            visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    postern.answers(HOST, 200).await;
}

#[tokio::test]
async fn endpoints_are_reached_over_ipv6_and_ipv4() {
    let backend = Backend::start_at("[::1]:0".parse().expect("an address"), |mut visit| async move {
        while visit.request().await.is_some() {
            visit
                .wire
                .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsix!")
                .await;
        }
    })
    .await;
    let other = Backend::saying("four").await;
    let site = to_all(&[backend.address, other.address]).spec(json!({"balancing": {"strategy": "RoundRobin"}}));
    let postern = Postern::start(&[site]).await;
    let mut texts = [
        get(postern.http, HOST, "/").await.text(),
        get(postern.http, HOST, "/").await.text(),
    ];
    texts.sort();
    assert_eq!(texts, ["four", "six!"]);
}

#[tokio::test]
async fn dial_attempts_are_counted_by_result() {
    let backend = Backend::saying("alive").await;
    let (refused, _port) = refusing();
    let postern = Postern::start(&[to_all(&[refused])]).await;
    get(postern.http, HOST, "/").await;
    let attempts = async |labels: &[(&str, &str)]| postern.metric("postern_dial_attempts_total", labels).await;
    let failed = attempts(&[("deployment", "app")]).await;
    assert!(failed >= 1.0);
    postern.apply(&to_all(&[backend.address]));
    postern.answers(HOST, 200).await;
    assert!(attempts(&[("deployment", "app")]).await > failed);
}
