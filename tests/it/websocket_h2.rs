//! WebSockets over HTTP/2 (RFC 8441): streams of one connection, each with an app's connection of its own behind it.

use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Version};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::backend::{Backend, Socket, next};
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{End, Wire};
use crate::support::{eventually, noise, within, ws};

const HOST: &str = "app.example.test";
const MIB: usize = 1 << 20;

/// Postern between a client's one connection and a test's app.
struct Bench {
    postern: Postern,
    client: Http2,
    backend: Backend,
    sockets: mpsc::Receiver<Socket>,
}

impl Bench {
    async fn start() -> Self {
        let (backend, sockets) = Backend::sockets().await;
        let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
        let client = Http2::plain(postern.http).await;
        Self {
            postern,
            client,
            backend,
            sockets,
        }
    }

    /// Both ends of a new socket.
    async fn open(&mut self) -> (Wire, Wire) {
        let opened = self.client.upgrade(HOST, "/", "").await;
        let (_, client) = opened.unwrap_or_else(|refused| panic!("{refused:?}"));
        (client, next(&mut self.sockets).await.wire)
    }

    async fn open_sockets(&self) -> f64 {
        self.postern
            .metric("postern_websockets_open", &[("deployment", "app")])
            .await
    }

    async fn closed_by(&self, who: &str) -> f64 {
        let labels = [("deployment", "app"), ("closed_by", who)];
        self.postern.metric("postern_websockets_closed_total", &labels).await
    }
}

#[tokio::test]
async fn socket_is_a_get_with_upgrade_to_the_app() {
    let mut bench = Bench::start().await;
    let more = "Sec-WebSocket-Protocol: chat, other\r\nSec-WebSocket-Extensions: permessage-deflate\r\nOrigin: http://a.test\r\n";
    let (head, mut client) = bench
        .client
        .upgrade(HOST, "/chat?room=1", more)
        .await
        .expect("a socket");
    let mut app = next(&mut bench.sockets).await;
    assert_eq!(app.request.line, "GET /chat?room=1 HTTP/1.1");
    for (name, value) in [
        ("host", HOST),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat, other"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("origin", "http://a.test"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(app.request.get(name), Some(value), "{name}");
    }
    assert_eq!(app.request.get("sec-websocket-key").map(str::len), Some(24));
    for absent in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!head.has(absent), "{head:?}");
    }
    assert!(head.has("x-request-id"));
    client.send("up").await;
    assert_eq!(app.wire.exactly(2).await, b"up");
    app.wire.send("down").await;
    assert_eq!(client.exactly(4).await, b"down");
}

#[tokio::test]
async fn hundred_sockets_of_one_connection_echo_side_by_side() {
    let backend = Backend::echoing().await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let client = Http2::plain(postern.http).await;
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(client.upgrade(HOST, "/", "").await.expect("a socket").1);
    }
    let echoes = open.into_iter().enumerate().map(|(i, mut socket)| {
        tokio::spawn(async move {
            let bytes = noise(100_000, i as u64);
            assert!(
                socket.exchange(&bytes, bytes.len()).await == bytes,
                "socket {i} changed its bytes"
            );
            socket
        })
    });
    let mut open: Vec<_> = within("the echoes", futures_util::future::join_all(echoes)).await;
    assert_eq!(
        postern
            .metric("postern_websockets_open", &[("deployment", "app")])
            .await,
        100.0
    );
    // One that ends, however it does, ends alone.
    for (i, socket) in open.drain(..50).enumerate() {
        let mut socket = socket.expect("echoed");
        match i % 3 {
            0 => socket.reset(),
            1 => drop(socket),
            _ => {
                socket.finish().await;
                assert_eq!(socket.rest().await, (Vec::new(), End::Fin));
            }
        }
    }
    eventually("fifty are open", async || {
        postern
            .metric("postern_websockets_open", &[("deployment", "app")])
            .await
            == 50.0
    })
    .await;
    for socket in open {
        let mut socket = socket.expect("echoed");
        assert_eq!(socket.exchange(b"still here", 10).await, b"still here");
    }
}
