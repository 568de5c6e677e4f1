//! The walls of the machine: connections, descriptors and memory have an end, and who comes to it costs others nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use crate::support::backend::Backend;
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Wire, get};
use crate::support::{eventually, within, ws};

const HOST: &str = "app.example.test";
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

async fn start(backend: &Backend, flags: &[&str]) -> Postern {
    Postern::start_with(&[Site::new("app", HOST).to(backend.address)], flags).await
}

fn request() -> String {
    format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// A client of another address than most.
async fn connect_from(from: IpAddr, to: SocketAddr) -> Wire {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(from, 0)).expect("an address of loopback");
    Wire::new(socket.connect(to).await.expect("connects"))
}

/// A body that never ends, of which the head has reached the app.
async fn upload(mut wire: Wire) -> Wire {
    wire.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nx"))
        .await;
    wire
}

#[tokio::test]
async fn idle_connections_make_room_the_longest_idle_first() {
    let backend = Backend::saying("ok").await;
    let postern = start(&backend, &["--max-connections", "20"]).await;
    let mut clients = Vec::new();
    for nth in 0..50 {
        let mut client = Wire::connect(postern.http).await;
        // Some have asked before, some never have, one is in the middle of a head.
        match nth % 3 {
            0 => {
                client.send(request()).await;
                assert_eq!(client.answer().await.status(), 200);
            }
            1 => client.send("GET / HTTP/1.1\r\nHo").await,
            _ => {}
        }
        clients.push(client);
        let open = async || postern.metric("postern_client_connections", &[]).await;
        eventually("it is taken", async || open().await >= f64::from((nth + 1).min(17))).await;
    }
    for client in clients.drain(..30) {
        within("the oldest are gone", client.end()).await;
    }
    let mut last = clients.pop().expect("many");
    last.send("\r\n").await;
    assert_eq!(get(postern.http, HOST, "/").await.status(), 200);
    assert!(postern.metric("postern_client_connections_displaced_total", &[]).await >= 30.0);
    assert_eq!(
        postern.metric("postern_client_connections_refused_total", &[]).await,
        0.0
    );
}

#[tokio::test]
async fn an_idle_connection_in_http2_makes_room_as_well() {
    let backend = Backend::saying("ok").await;
    let postern = start(&backend, &["--max-connections", "9"]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = Http2::plain(postern.http).await;
        assert_eq!(client.get(HOST, "/").await.status(), 200);
        clients.push(client);
    }
    assert!(postern.metric("postern_client_connections_displaced_total", &[]).await >= 11.0);
    assert!(postern.metric("postern_client_connections", &[]).await <= 9.0);
}

#[tokio::test]
async fn sockets_and_requests_stay_and_who_finds_no_place_is_told() {
    let backend = Backend::start(|mut visit| async move {
        while let Some(head) = visit.head().await {
            if head.has("upgrade") {
                visit.wire.send(ws::accepted(&head)).await;
                return visit.wire.echo().await;
            }
            if head.line.starts_with("GET") {
                visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let postern = start(&backend, &["--max-connections", "18"]).await;
    let (mut sockets, mut uploads) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        sockets.push(ws::open(postern.http, HOST, "/").await);
        uploads.push(upload(Wire::connect(postern.http).await).await);
    }
    eventually("all have reached the app", async || backend.hits() == 16).await;
    // One address has its share, eight ninths.
    let mut refused = Wire::connect(postern.http).await;
    let answer = refused.answer_to_head().await;
    assert_eq!(answer.head.get("x-postern-error"), Some("capacity:overloaded"));
    assert!(answer.status() == 503 && answer.head.has("retry-after"), "{answer:?}");
    // Another is served.
    let mut other = connect_from(OTHER, postern.http).await;
    other.send(request()).await;
    assert_eq!(other.answer().await.status(), 200);
    for socket in &mut sockets {
        assert_eq!(socket.exchange(b"still here", 10).await, b"still here");
    }
    let labels = [
        ("namespace", ""),
        ("deployment", ""),
        ("code", "5xx"),
        ("reason", "capacity:overloaded"),
    ];
    assert_eq!(postern.metric("postern_requests_total", &labels).await, 1.0);
    assert_eq!(
        postern.metric("postern_client_connections_displaced_total", &[]).await,
        0.0
    );
    postern.tells("no place for another client connection").await;
    drop(uploads);
    eventually("places are given back", async || {
        get(postern.http, HOST, "/").await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn proxies_have_no_share_and_their_clients_do() {
    let backend = Backend::saying("ok").await;
    let flags = [
        "--max-connections",
        "9",
        "--trusted-proxies",
        "127.0.0.1",
        "--proxy-protocol",
        "true",
    ];
    let postern = start(&backend, &flags).await;
    let through = async |client: &str| {
        let mut wire = Wire::connect(postern.http).await;
        let sent = wire
            .try_send(format!("PROXY TCP4 {client} 192.0.2.9 5000 80\r\n"))
            .await;
        assert!(sent, "the proxy is never refused");
        upload(wire).await
    };
    let mut crowd = Vec::new();
    for _ in 0..8 {
        crowd.push(through("192.0.2.1").await);
    }
    eventually("the crowd is there", async || backend.connections() == 8).await;
    within("one more of the crowd is hung up on", through("192.0.2.1").await.end()).await;
    crowd.push(through("192.0.2.2").await);
    eventually("another client is served", async || backend.connections() == 9).await;
}

/// A client that takes nothing for ten seconds gives way, before anybody who is served.
#[tokio::test]
async fn a_stalled_client_makes_room() {
    let large = "x".repeat(16 << 20);
    let backend = Backend::saying(&large).await;
    let postern = start(&backend, &["--max-connections", "2"]).await;
    let mut stalled = Wire::connect_narrow(postern.http).await;
    stalled.send(request()).await;
    backend.request().await;
    let busy = upload(connect_from(Ipv4Addr::new(127, 0, 0, 3).into(), postern.http).await).await;
    eventually("both have reached the app", async || backend.connections() == 2).await;
    let taken = async || {
        let mut newcomer = connect_from(OTHER, postern.http).await;
        newcomer.send(request()).await;
        newcomer.head().await.status() == 200
    };
    assert!(!taken().await, "a client may be slow for a while");
    crate::support::eventually_within(Duration::from_secs(30), "it gives way", taken).await;
    drop((stalled, busy));
}

#[tokio::test]
async fn a_process_with_few_descriptors_serves_probes_apps_and_others_under_a_crowd() {
    let backend = Backend::start(|mut visit| async move {
        while let Some(head) = visit.head().await {
            if head.line.starts_with("GET") {
                visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let site = Site::new("app", HOST).to(backend.address);
    let quiet = Site::new("quiet", "quiet.example.test")
        .namespace("quiet")
        .to(backend.address);
    let postern = Postern::start_limited(400, &[site, quiet], &[]).await;
    let mut crowd = Vec::new();
    for nth in 0..500 {
        let Ok(stream) = TcpStream::connect(postern.http).await else {
            continue;
        };
        let mut wire = Wire::new(stream);
        match nth % 3 {
            0 => {
                let _ = wire
                    .try_send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nx"))
                    .await;
            }
            1 => {
                let _ = wire.try_send("GET / HTTP/1.1\r\n").await;
            }
            _ => {}
        }
        crowd.push(wire);
    }
    assert_eq!(postern.probe("/livez").await, 200);
    let free = postern.metric("postern_descriptors_free_ratio", &[]).await;
    assert!(free > 0.0 && free < 0.9, "{free}");
    let mut other = connect_from(OTHER, postern.http).await;
    other.send("GET / HTTP/1.1\r\nHost: quiet.example.test\r\n\r\n").await;
    assert_eq!(other.answer().await.status(), 200);
    assert_eq!(postern.probe("/readyz").await, 200);
    drop(crowd);
}

#[tokio::test]
async fn one_namespace_leaves_descriptors_toward_apps_to_others() {
    let silent = Backend::start(|mut visit| async move {
        visit.wire.rest().await;
    })
    .await;
    let backend = Backend::saying("ok").await;
    let hungry = Site::new("app", HOST).to(silent.address);
    let quiet = Site::new("quiet", "quiet.example.test")
        .namespace("quiet")
        .to(backend.address);
    // 300 descriptors are clients' and apps', of which apps have 100.
    let flags = ["--max-connections", "200"];
    let postern = Postern::start_limited(400, &[hungry, quiet], &flags).await;
    let mut crowd = Vec::new();
    for _ in 0..150 {
        let mut wire = Wire::connect(postern.http).await;
        wire.send(request()).await;
        crowd.push(wire);
    }
    let labels = [
        ("namespace", "default"),
        ("deployment", "app"),
        ("result", "no_descriptors"),
    ];
    eventually("the namespace is refused", async || {
        postern.metric("postern_dial_attempts_total", &labels).await >= 50.0
    })
    .await;
    assert_eq!(get(postern.http, "quiet.example.test", "/").await.status(), 200);
    assert!(silent.connections() < 100, "{}", silent.connections());
}

#[tokio::test]
async fn how_far_it_is_to_each_wall_is_told() {
    let backend = Backend::saying("ok").await;
    let postern = start(&backend, &["--max-memory", "64Gi"]).await;
    assert_eq!(get(postern.http, HOST, "/").await.status(), 200);
    for ratio in ["descriptors", "ports", "memory"] {
        let free = postern.metric(&format!("postern_{ratio}_free_ratio"), &[]).await;
        assert!(free > 0.0 && free < 1.0, "{ratio}: {free}");
    }
}
