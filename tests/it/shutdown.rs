//! SIGTERM: unready first, still serving for the delay, requests finished, sockets ended at the deadline, exit code 0.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::support::backend::{Backend, next};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{End, Wire, get};
use crate::support::{eventually, ws};

const HOST: &str = "app.example.test";
const GET: &str = "GET / HTTP/1.1\r\nHost: app.example.test\r\n\r\n";

async fn exits(postern: &mut Postern) -> Option<i32> {
    let mut status = None;
    let start = Instant::now();
    while status.is_none() {
        assert!(start.elapsed() < Duration::from_secs(30), "still running");
        tokio::time::sleep(Duration::from_millis(20)).await;
        status = postern.has_exited();
    }
    status.and_then(|status| status.code())
}

#[tokio::test]
async fn sigterm_fails_readiness_and_serves_on_for_the_delay() {
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST).to(backend.address);
    let flags = ["--shutdown-delay", "4s", "--drain-deadline", "1s"];
    let mut postern = Postern::start_with(&[site], &flags).await;
    let [mut old, mut idle] = [Wire::connect(postern.http).await, Wire::connect(postern.http).await];
    for wire in [&mut old, &mut idle] {
        wire.send(GET).await;
        let answer = wire.answer().await;
        assert_eq!((answer.text().as_str(), answer.head.get("connection")), ("ok", None));
    }
    let start = Instant::now();
    postern.terminate();
    let unready = async || postern.probe("/readyz").await == 503;
    eventually("readyz fails", unready).await;
    assert_eq!(postern.probe("/livez").await, 200);
    // New connections and old ones are served, each to its next answer: no request meets one that closes.
    assert_eq!(get(postern.http, HOST, "/").await.text(), "ok");
    old.send(GET).await;
    let answer = old.answer().await;
    assert_eq!(
        (answer.text().as_str(), answer.head.get("connection")),
        ("ok", Some("close"))
    );
    assert_eq!(old.rest().await, (Vec::new(), End::Fin));
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "too slow a machine for a delay of 4 s"
    );
    // After the delay the idle connection goes, nobody is waited for, and the exit is a good one.
    assert_eq!(idle.rest().await, (Vec::new(), End::Fin));
    assert_eq!(exits(&mut postern).await, Some(0));
    assert!(start.elapsed() >= Duration::from_secs(4));
}

#[tokio::test]
async fn request_in_flight_is_finished() {
    let (backend, mut visits) = Backend::visits().await;
    let site = Site::new("app", HOST).to(backend.address);
    let flags = ["--shutdown-delay", "0s", "--drain-deadline", "20s"];
    let mut postern = Postern::start_with(&[site], &flags).await;
    let mut client = Wire::connect(postern.http).await;
    client.send(GET).await;
    let mut app = next(&mut visits).await;
    app.request_head().await;
    postern.terminate();
    let refused = async || TcpStream::connect(postern.http).await.is_err();
    eventually("new connections are refused", refused).await;
    app.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "done"));
    assert_eq!(client.rest().await, (Vec::new(), End::Fin));
    assert_eq!(exits(&mut postern).await, Some(0));
}

#[tokio::test]
async fn sockets_stay_until_the_deadline_and_end_by_fin() {
    let backend = Backend::echoing().await;
    let site = Site::new("app", HOST).to(backend.address);
    let flags = ["--shutdown-delay", "0s", "--drain-deadline", "4s"];
    let mut postern = Postern::start_with(&[site], &flags).await;
    let mut socket = ws::open(postern.http, HOST, "/").await;
    let start = Instant::now();
    postern.terminate();
    let refused = async || TcpStream::connect(postern.http).await.is_err();
    eventually("new connections are refused", refused).await;
    socket.send("still here").await;
    assert_eq!(socket.exactly(10).await, b"still here");
    assert_eq!(socket.rest().await, (Vec::new(), End::Fin));
    drop(socket);
    assert_eq!(exits(&mut postern).await, Some(0));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[tokio::test]
async fn lingering_keeps_sockets_past_the_deadline_until_they_leave() {
    let backend = Backend::echoing().await;
    let site = Site::new("app", HOST).to(backend.address);
    let flags = "--shutdown-delay 0s --drain-deadline 0s --drain-mode linger --linger 300s";
    let mut postern = Postern::start_with(&[site], &flags.split(' ').collect::<Vec<_>>()).await;
    let mut idle = Wire::connect(postern.http).await;
    idle.send(GET).await;
    idle.answer().await;
    let mut socket = ws::open(postern.http, HOST, "/").await;
    postern.terminate();
    // Nothing new is taken.
    let refused = async || TcpStream::connect(postern.http).await.is_err();
    eventually("new connections are refused", refused).await;
    assert_eq!(idle.rest().await, (Vec::new(), End::Fin));
    socket.send("still here").await;
    assert_eq!(socket.exactly(10).await, b"still here");
    assert_eq!(postern.probe("/livez").await, 200);
    assert_eq!(postern.has_exited(), None);
    drop(socket);
    assert_eq!(exits(&mut postern).await, Some(0));
}

#[tokio::test]
async fn lingering_ends_when_its_time_is_up() {
    let backend = Backend::echoing().await;
    let site = Site::new("app", HOST).to(backend.address);
    let flags = "--shutdown-delay 0s --drain-deadline 1s --drain-mode linger --linger 2s";
    let mut postern = Postern::start_with(&[site], &flags.split(' ').collect::<Vec<_>>()).await;
    let mut socket = ws::open(postern.http, HOST, "/").await;
    let start = Instant::now();
    postern.terminate();
    assert_eq!(socket.rest().await, (Vec::new(), End::Fin));
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    drop(socket);
    assert_eq!(exits(&mut postern).await, Some(0));
}

#[tokio::test]
async fn nothing_open_means_no_waiting_for_the_deadline() {
    let mut postern = Postern::start_with(&[], &["--shutdown-delay", "0s", "--drain-deadline", "300s"]).await;
    postern.terminate();
    assert_eq!(exits(&mut postern).await, Some(0));
}

#[tokio::test]
async fn second_signal_does_not_wait() {
    let backend = Backend::echoing().await;
    let site = Site::new("app", HOST).to(backend.address);
    let mut postern = Postern::start_with(&[site], &["--shutdown-delay", "300s"]).await;
    let _socket = ws::open(postern.http, HOST, "/").await;
    postern.terminate();
    let unready = async || postern.probe("/readyz").await == 503;
    eventually("readyz fails", unready).await;
    postern.terminate();
    exits(&mut postern).await;
}
