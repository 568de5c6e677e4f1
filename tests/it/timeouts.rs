//! The timeouts of a plain exchange, as the manifest sets them. Those of dialling are in dial.rs, of handshakes in upgrade.rs.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::backend::{Backend, next};
use crate::support::exchange::{GET, HOST, exchange};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Wire, get};

#[tokio::test]
async fn app_that_does_not_answer_is_504() {
    let (backend, mut visits) = Backend::visits().await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"timeouts": {"response": "300ms"}}));
    let postern = Postern::start(&[site]).await;
    let (answer, mut app) = tokio::join!(get(postern.http, HOST, "/"), next(&mut visits));
    assert_eq!(
        (answer.status(), answer.head.get("x-postern-error")),
        (504, Some("upstream:timeout"))
    );
    // And its connection is given up.
    app.wire.rest().await;
}

#[tokio::test]
async fn total_timeout_counts_from_the_request() {
    let (backend, mut visits) = Backend::visits().await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"timeouts": {"total": "2s"}}));
    let postern = Postern::start(&[site]).await;
    let (answer, _app) = tokio::join!(get(postern.http, HOST, "/"), next(&mut visits));
    assert_eq!(
        (answer.status(), answer.head.get("x-postern-error")),
        (504, Some("upstream:timeout"))
    );
    // A body that keeps coming ends with it, too, and not cleanly.
    let mut client = Wire::connect(postern.http).await;
    let (mut app, _) = exchange(&mut client, &mut visits, GET).await;
    app.wire
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let start = Instant::now();
    while app.wire.try_send("1\r\nx\r\n").await {
        assert!(start.elapsed() < Duration::from_secs(15), "the body goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.head().await.status(), 200);
    let (rest, _) = client.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "cut, not ended");
}

#[tokio::test]
async fn idle_timeout_cuts_a_stalled_body_and_no_other() {
    let (backend, mut visits) = Backend::visits().await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"timeouts": {"idle": "2s"}}));
    let postern = Postern::start(&[site]).await;
    let mut client = Wire::connect(postern.http).await;
    let (mut app, _) = exchange(&mut client, &mut visits, GET).await;
    app.wire
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    // Slow, but longer than the timeout in all.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        app.wire.send("1\r\nx\r\n").await;
    }
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(client.chunks(10).await, b"xxxxxxxxxx");
    let start = Instant::now();
    let (rest, _) = client.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "cut, not ended");
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "cut after {:?}",
        start.elapsed()
    );
    app.wire.rest().await;
}

#[tokio::test]
async fn idle_timeout_cuts_a_stalled_upload() {
    let (backend, mut visits) = Backend::visits().await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"timeouts": {"idle": "300ms"}}));
    let postern = Postern::start(&[site]).await;
    let mut client = Wire::connect(postern.http).await;
    let (mut app, _) = exchange(
        &mut client,
        &mut visits,
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nshort"),
    )
    .await;
    let start = Instant::now();
    let (rest, _) = app.wire.rest().await;
    assert_eq!(rest, b"short");
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "cut after {:?}",
        start.elapsed()
    );
    client.rest().await;
}

/// Limits of ten seconds and more have no timer of their own: the connection's clock keeps them.
#[tokio::test]
async fn long_limits_are_kept_too() {
    let (backend, mut visits) = Backend::visits().await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"timeouts": {"response": "11s", "idle": "11s"}}));
    let postern = Postern::start(&[site]).await;
    let start = Instant::now();
    let mut stalled = Wire::connect(postern.http).await;
    let (mut app, _) = exchange(&mut stalled, &mut visits, GET).await;
    app.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx").await;
    let mut silent = Wire::connect(postern.http).await;
    silent.send(GET).await;
    let _silent_app = next(&mut visits).await;

    assert_eq!(silent.answer().await.status(), 504);
    stalled.head().await;
    let (rest, _) = stalled.rest().await;
    assert_eq!(rest, b"x");
    let took = start.elapsed();
    assert!(took > Duration::from_secs(10), "after {took:?}");
    // The connection that got the 504 serves on, and its next request has all of its time.
    let (mut app, _) = exchange(&mut silent, &mut visits, GET).await;
    app.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(silent.answer().await.text(), "ok");
}
