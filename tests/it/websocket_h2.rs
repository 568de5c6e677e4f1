//! WebSockets over HTTP/2 (RFC 8441): streams of one connection, each with an app's connection of its own behind it.

use std::time::Duration;

use h2::ext::Protocol;
use h2::{Reason, client};
use http::Method;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::backend::{Backend, Socket, next};
use crate::support::http2::Http2;
use crate::support::link::Http2Stream;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{End, Wire};
use crate::support::{eventually, frames, noise, within};

const HOST: &str = "app.example.test";
const MIB: usize = 1 << 20;

/// Postern between a client's one connection and a test's app.
struct Bench {
    postern: Postern,
    client: Http2,
    _backend: Backend,
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
            _backend: backend,
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

#[tokio::test]
async fn half_close_is_kept_either_way() {
    let mut bench = Bench::start().await;
    let (mut client, mut app) = bench.open().await;
    client.send("last words").await;
    client.finish().await;
    assert_eq!(app.rest().await, (b"last words".to_vec(), End::Fin));
    app.send("an answer").await;
    app.finish().await;
    assert_eq!(client.rest().await, (b"an answer".to_vec(), End::Fin));
    let (mut client, mut app) = bench.open().await;
    app.finish().await;
    assert_eq!(client.rest().await, (Vec::new(), End::Fin));
    client.send("still there").await;
    client.finish().await;
    assert_eq!(app.rest().await, (b"still there".to_vec(), End::Fin));
    eventually("no socket is counted", async || bench.open_sockets().await == 0.0).await;
    assert_eq!(
        (bench.closed_by("client").await, bench.closed_by("app").await),
        (1.0, 1.0)
    );
}

#[tokio::test]
async fn reset_is_passed_on_either_way() {
    let mut bench = Bench::start().await;
    let (client, mut app) = bench.open().await;
    client.reset();
    app.rest().await;
    eventually("the client closed it", async || bench.closed_by("client").await == 1.0).await;
    let (mut client, app) = bench.open().await;
    app.reset();
    assert_eq!(client.rest().await, (Vec::new(), End::Reset));
    eventually("the app closed it", async || bench.closed_by("app").await == 1.0).await;
    // Both alone.
    let (mut client, mut app) = bench.open().await;
    client.send("hello").await;
    assert_eq!(app.exactly(5).await, b"hello");
}

#[tokio::test]
async fn vanished_connection_ends_all_its_sockets() {
    let mut bench = Bench::start().await;
    let mut apps = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..10 {
        let (client, app) = bench.open().await;
        clients.push(client);
        apps.push(app);
    }
    assert_eq!(bench.open_sockets().await, 10.0);
    drop(clients);
    bench.client = Http2::plain(bench.postern.http).await;
    for mut app in apps {
        app.rest().await;
    }
    eventually("no socket is counted", async || bench.open_sockets().await == 0.0).await;
}

#[tokio::test]
async fn silent_socket_outlives_every_timer() {
    let (backend, mut sockets) = Backend::sockets().await;
    let site = Site::new("app", HOST).to(backend.address).spec(json!({
        "timeouts": {"connect": "1s", "dialBudget": "1s", "response": "1s", "idle": "1s", "total": "1s"},
        "webSocket": {"handshakeTimeout": "1s"},
    }));
    let postern = Postern::start_with(&[site], &["--keep-alive-timeout", "1s"]).await;
    let connection = Http2::plain(postern.http).await;
    let (_, mut client) = connection.upgrade(HOST, "/", "").await.expect("a socket");
    let mut app = next(&mut sockets).await.wire;
    // Longer than the settable timers above, the 4 s of idle connections to apps and the 10 s of prefaces and looks.
    let silence = Duration::from_secs(13);
    let (client_quiet, app_quiet) = tokio::join!(client.quiet_for(silence), app.quiet_for(silence));
    assert!(client_quiet && app_quiet);
    client.send("still here").await;
    assert_eq!(app.exactly(10).await, b"still here");
    app.send("me too").await;
    assert_eq!(client.exactly(6).await, b"me too");
    // And the connection opens more.
    connection.upgrade(HOST, "/", "").await.expect("a socket");
}

#[tokio::test]
async fn socket_that_is_not_read_slows_its_app_down_and_no_other_socket() {
    let mut bench = Bench::start().await;
    // Its connection's window is larger than a stream's, as browsers have it.
    let tcp = TcpStream::connect(bench.postern.http).await.expect("connects");
    let handshake = client::Builder::new()
        .initial_connection_window_size(1 << 20)
        .handshake(tcp);
    let (mut send, connection) = within("a preface", handshake).await.expect("speaks h2");
    tokio::spawn(connection);
    let mut open = async || {
        let mut request = bench.client.request(Method::CONNECT, HOST, "/", "");
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        let (response, stream) = send.send_request(request, false).expect("sends");
        let response = within("an answer", response).await.expect("a socket");
        let client = Wire::http2(Http2Stream::new(stream, response.into_body()));
        (client, next(&mut bench.sockets).await.wire)
    };
    let (mut slow, mut slow_app) = open().await;
    let (mut quick, mut quick_app) = open().await;
    let block = noise(MIB, 8);
    let mut taken = 0;
    while slow_app.sends_within(Duration::from_millis(500), &block).await {
        taken += 1;
        assert!(
            taken < 64,
            "the app could send {taken} MiB to a client that reads nothing"
        );
    }
    let echo = noise(MIB, 9);
    quick.send("ping").await;
    assert_eq!(quick_app.exactly(4).await, b"ping");
    let (_, received) = tokio::join!(quick_app.send("pong"), quick.exactly(4));
    assert_eq!(received, b"pong");
    let (_, received) = tokio::join!(quick.send(&echo), quick_app.exactly(MIB));
    assert!(received == echo, "the bytes arrived changed");
    let received = slow.exactly(taken * MIB).await;
    assert!(
        received.chunks(MIB).all(|part| part == block),
        "the bytes arrived changed"
    );
}

#[tokio::test]
async fn wrong_or_missing_accept_is_bad_upgrade() {
    for accept in ["", "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"] {
        let answer =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{accept}\r\n");
        let backend = Backend::answering(answer).await;
        let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
        let Err(refused) = Http2::plain(postern.http).await.upgrade(HOST, "/", "").await else {
            panic!("accepted: {accept}");
        };
        assert_eq!(
            (refused.status(), refused.head.get("x-postern-error")),
            (502, Some("upstream:bad_upgrade"))
        );
    }
}

#[tokio::test]
async fn refusal_of_the_app_passes_with_its_body() {
    let backend = Backend::answering("HTTP/1.1 403 Forbidden\r\nX-Why: rules\r\nContent-Length: 2\r\n\r\nno").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let Err(refused) = Http2::plain(postern.http).await.upgrade(HOST, "/", "").await else {
        panic!("accepted");
    };
    assert_eq!((refused.status(), refused.text().as_str()), (403, "no"));
    assert_eq!(refused.head.get("x-why"), Some("rules"));
}

#[tokio::test]
async fn handshakes_that_are_none_never_reach_the_app() {
    let backend = Backend::echoing().await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let client = Http2::plain(postern.http).await;
    // Extended CONNECT may be sent once the settings are here.
    assert_eq!(client.get("nobody.example.test", "/").await.status(), 404);
    assert!(client.offers_sockets());
    let ask = async |protocol: &'static str, more: &str| {
        let mut request = client.request(Method::CONNECT, HOST, "/", more);
        request.extensions_mut().insert(Protocol::from_static(protocol));
        let refused = client.ask(request, b"").await;
        (
            refused.status(),
            refused.head.get("x-postern-error").unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(ask("connect-udp", "").await, (400, "client:bad_upgrade".to_owned()));
    assert_eq!(
        ask("websocket", "Sec-WebSocket-Version: 8\r\n").await,
        (426, "client:unsupported_version".to_owned())
    );
    assert_eq!(backend.hits(), 0);
    assert!(client.upgrade(HOST, "/", "").await.is_ok());
}

#[tokio::test]
async fn switched_off_it_is_neither_offered_nor_served() {
    let backend = Backend::echoing().await;
    let site = Site::new("app", HOST).to(backend.address);
    let postern = Postern::start_with(&[site], &["--websocket-http2", "false"]).await;
    let client = Http2::plain(postern.http).await;
    assert_eq!(client.get("nobody.example.test", "/").await.status(), 404);
    assert!(!client.offers_sockets());
    // By hand, as the client library would not send it.
    let mut wire = Wire::connect(postern.http).await;
    wire.begin_http2().await;
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", HOST),
    ];
    wire.send(frames::frame(
        frames::HEADERS,
        frames::END_HEADERS,
        1,
        &frames::block(&fields),
    ))
    .await;
    let reset = wire.frame_of(frames::RST_STREAM).await;
    assert_eq!(reset.error(), u32::from(Reason::PROTOCOL_ERROR));
    assert_eq!(backend.hits(), 0);
}

#[tokio::test]
async fn drain_leaves_sockets_until_the_deadline_and_ends_them_in_order() {
    let backend = Backend::echoing().await;
    let site = Site::new("app", HOST).to(backend.address);
    let flags = ["--shutdown-delay", "0s", "--drain-deadline", "4s"];
    let mut postern = Postern::start_with(&[site], &flags).await;
    let client = Http2::plain(postern.http).await;
    let (_, mut socket) = client.upgrade(HOST, "/", "").await.expect("a socket");
    postern.terminate();
    eventually("new connections are refused", async || {
        TcpStream::connect(postern.http).await.is_err()
    })
    .await;
    assert_eq!(socket.exchange(b"still here", 10).await, b"still here");
    assert_eq!(socket.rest().await, (Vec::new(), End::Fin));
    drop(socket);
    eventually("Postern exits", || std::future::ready(postern.has_exited().is_some())).await;
}
