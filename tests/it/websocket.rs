//! Open sockets: what goes in at one end comes out at the other, whole, for as long as both ends want. The handshake's
//! own rules are in upgrade.rs.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::support::apps::{App, Runtime, client};
use crate::support::backend::{Backend, Socket, next};
use crate::support::front::{Front, Transport};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{End, Wire, get};
use crate::support::ws::{self, frame};
use crate::support::{eventually, noise, within};

const HOST: &str = "app.example.test";
const MASK: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);
const MIB: usize = 1 << 20;

over_each! {
    text_frame_is_relayed,
    binary_frame_is_relayed,
    fragmented_message_is_relayed_with_a_ping_inside,
    ping_and_pong_are_relayed_and_nobody_else_answers,
    close_is_relayed_with_code_and_reason,
    malformed_frame_is_relayed_as_bytes,
    frames_of_every_size_are_relayed_byte_identical_both_ways_at_once,
    bytes_sent_with_the_101_are_not_lost,
    app_that_leaves_right_after_its_101_is_heard_out,
    half_closed_client_still_gets_all_of_the_app,
    half_closed_app_still_gets_all_of_the_client,
    silent_socket_outlives_every_timer,
    pings_of_the_app_keep_its_socket_alive,
    vanished_client_is_passed_on_and_freed,
    client_that_hangs_up_is_counted_as_the_one_who_closed,
    app_that_dies_in_mid_message_is_passed_on_and_freed,
    killed_app_ends_its_sockets,
    client_that_does_not_read_slows_the_app_down,
}

over_http1! {
    bytes_right_behind_the_handshake_are_not_lost,
    client_that_says_all_with_its_handshake_still_gets_the_answer,
}

/// Postern between a test's client and a test's app.
struct Bench {
    front: Front,
    backend: Backend,
    sockets: mpsc::Receiver<Socket>,
}

impl Bench {
    async fn start(over: Transport) -> Self {
        let (backend, sockets) = Backend::sockets().await;
        let front = Front::start(over, &[Site::new("app", HOST).to(backend.address)]).await;
        Self {
            front,
            backend,
            sockets,
        }
    }

    /// Both ends of a new socket.
    async fn open(&mut self) -> (Wire, Wire) {
        let client = self.front.open(HOST, "/").await;
        (client, next(&mut self.sockets).await.wire)
    }

    async fn open_sockets(&self) -> f64 {
        self.front
            .postern
            .metric("postern_websockets_open", &[("deployment", "app")])
            .await
    }

    async fn closed_by(&self, who: &str) -> f64 {
        let labels = [("deployment", "app"), ("closed_by", who)];
        self.front
            .postern
            .metric("postern_websockets_closed_total", &labels)
            .await
    }
}

#[tokio::test]
async fn websocket_needs_no_setting() {
    // The manifest is a hostname and a service: the app is the very sample of the mission's page.
    let app = App::start(Runtime::Node, "sample.mjs").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(app.address)]).await;
    let mut socket = ws::connect(postern.http, HOST, "/").await;
    socket.send(Message::text("hello")).await.expect("sends");
    let answer = within("the echo", socket.next())
        .await
        .expect("an answer")
        .expect("a message");
    assert_eq!(answer, Message::text("echo: hello"));
}

#[tokio::test]
async fn sample_app_echoes_to_node_and_python() {
    let app = App::start(Runtime::Node, "sample.mjs").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(app.address)]).await;
    let address = postern.http.to_string();
    client(Runtime::Node, "client.mjs", [&address, HOST, "/", "sample"]).await;
    client(Runtime::Python, "client.py", [&address, HOST, "/", "sample"]).await;
}

#[tokio::test]
async fn same_port_serves_http_and_websocket() {
    let app = App::start(Runtime::Node, "echo.mjs").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(app.address)]).await;
    assert_eq!(get(postern.http, HOST, "/").await.text(), "hello");
    let mut socket = ws::connect(postern.http, HOST, "/").await;
    socket.send(Message::text("hi")).await.expect("sends");
    let answer = within("the echo", socket.next())
        .await
        .expect("an answer")
        .expect("a message");
    assert_eq!(answer, Message::text("hi"));
    assert_eq!(get(postern.http, HOST, "/").await.text(), "hello");
}

#[tokio::test]
async fn node_app_gets_every_message_unchanged_compressed() {
    let app = App::start(Runtime::Node, "echo.mjs").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(app.address)]).await;
    let address = postern.http.to_string();
    client(Runtime::Node, "client.mjs", [&address, HOST, "/", "echo"]).await;
    client(Runtime::Python, "client.py", [&address, HOST, "/", "echo"]).await;
}

#[tokio::test]
async fn python_app_gets_every_message_unchanged_compressed() {
    let app = App::start(Runtime::Python, "echo.py").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(app.address)]).await;
    let address = postern.http.to_string();
    client(Runtime::Python, "client.py", [&address, HOST, "/", "echo"]).await;
    client(Runtime::Node, "client.mjs", [&address, HOST, "/", "echo"]).await;
}

/// Sends the bytes from either end, and sees that the other gets these and nothing else.
async fn relays_unchanged(over: Transport, frames: impl Fn(Option<[u8; 4]>) -> Vec<u8>) {
    let mut bench = Bench::start(over).await;
    let (mut client, mut app) = bench.open().await;
    let (masked, plain) = (frames(MASK), frames(None));
    client.send(&masked).await;
    assert_eq!(app.exactly(masked.len()).await, masked);
    app.send(&plain).await;
    assert_eq!(client.exactly(plain.len()).await, plain);
    assert!(client.quiet_for(Duration::from_millis(50)).await, "something followed");
    assert!(app.quiet_for(Duration::from_millis(50)).await, "something followed");
}

async fn text_frame_is_relayed(over: Transport) {
    relays_unchanged(over, |mask| frame(true, ws::TEXT, mask, "grüß dich".as_bytes())).await;
}

async fn binary_frame_is_relayed(over: Transport) {
    relays_unchanged(over, |mask| frame(true, ws::BINARY, mask, &noise(300, 1))).await;
}

async fn fragmented_message_is_relayed_with_a_ping_inside(over: Transport) {
    relays_unchanged(over, |mask| {
        let parts = [
            frame(false, ws::TEXT, mask, b"one "),
            frame(true, ws::PING, mask, b"inside"),
            frame(false, 0, mask, b"two "),
            frame(true, 0, mask, b""),
        ];
        parts.concat()
    })
    .await;
}

async fn ping_and_pong_are_relayed_and_nobody_else_answers(over: Transport) {
    relays_unchanged(over, |mask| {
        let parts = [
            frame(true, ws::PING, mask, b"ping"),
            frame(true, ws::PONG, mask, b"unasked"),
        ];
        parts.concat()
    })
    .await;
}

async fn close_is_relayed_with_code_and_reason(over: Transport) {
    relays_unchanged(over, |mask| {
        let mut payload = 4321_u16.to_be_bytes().to_vec();
        payload.extend(b"because");
        frame(true, ws::CLOSE, mask, &payload)
    })
    .await;
}

async fn malformed_frame_is_relayed_as_bytes(over: Transport) {
    // A reserved opcode and reserved bits: the app's to judge.
    relays_unchanged(over, |_| vec![0xFB, 0x05, 1, 2, 3, 4, 5, 0xFF]).await;
}

async fn frames_of_every_size_are_relayed_byte_identical_both_ways_at_once(over: Transport) {
    let mut bench = Bench::start(over).await;
    let (mut client, mut app) = bench.open().await;
    for size in [1, 125, 126, 127, 65535, 65536, MIB, 16 * MIB] {
        let up = frame(true, ws::BINARY, MASK, &noise(size, 1));
        let down = frame(true, ws::BINARY, None, &noise(size, 2));
        let (at_app, at_client) = tokio::join!(app.exchange(&down, up.len()), client.exchange(&up, down.len()));
        assert!(at_app == up, "{size} bytes from the client arrived changed");
        assert!(at_client == down, "{size} bytes from the app arrived changed");
    }
}

async fn bytes_right_behind_the_handshake_are_not_lost(over: Transport) {
    let mut bench = Bench::start(over).await;
    for size in [1, 100, 16 * 1024] {
        let early = frame(true, ws::BINARY, MASK, &noise(size, 3));
        let mut client = bench.front.wire(HOST).await;
        let mut bytes = ws::handshake(HOST, "/", "").into_bytes();
        bytes.extend(&early);
        client.send(bytes).await;
        assert_eq!(client.head().await.status(), 101);
        let mut app = next(&mut bench.sockets).await.wire;
        assert!(
            app.exactly(early.len()).await == early,
            "{size} early bytes arrived changed"
        );
        client.send("more").await;
        assert_eq!(app.exactly(4).await, b"more");
    }
}

async fn bytes_sent_with_the_101_are_not_lost(over: Transport) {
    for size in [1, 100, 64 * 1024] {
        let early = frame(true, ws::BINARY, None, &noise(size, 4));
        let sent = early.clone();
        let backend = Backend::start(move |mut visit| {
            let early = sent.clone();
            async move {
                let Some(request) = visit.head().await else { return };
                let mut bytes = ws::accepted(&request).into_bytes();
                bytes.extend(early);
                visit.wire.send(bytes).await;
                visit.wire.echo().await;
            }
        })
        .await;
        let front = Front::start(over, &[Site::new("app", HOST).to(backend.address)]).await;
        let mut client = front.open(HOST, "/").await;
        assert!(
            client.exactly(early.len()).await == early,
            "{size} early bytes arrived changed"
        );
        client.send("more").await;
        assert_eq!(client.exactly(4).await, b"more");
    }
}

async fn app_that_leaves_right_after_its_101_is_heard_out(over: Transport) {
    let words = noise(64 * 1024, 9);
    let sent = words.clone();
    let backend = Backend::start(move |mut visit| {
        let words = sent.clone();
        async move {
            let Some(request) = visit.head().await else { return };
            visit
                .wire
                .send([ws::accepted(&request).as_bytes(), &words].concat())
                .await;
        }
    })
    .await;
    let front = Front::start(over, &[Site::new("app", HOST).to(backend.address)]).await;
    let mut client = front.open(HOST, "/").await;
    assert!(client.rest().await == (words, End::Fin), "the words arrived changed");
}

async fn client_that_says_all_with_its_handshake_still_gets_the_answer(over: Transport) {
    let mut bench = Bench::start(over).await;
    let mut client = bench.front.wire(HOST).await;
    client
        .send(format!("{}all there is", ws::handshake(HOST, "/", "")))
        .await;
    client.finish().await;
    let mut app = next(&mut bench.sockets).await.wire;
    assert_eq!(app.rest().await, (b"all there is".to_vec(), End::Fin));
    app.send("heard").await;
    app.finish().await;
    assert_eq!(client.head().await.status(), 101);
    assert_eq!(client.rest().await, (b"heard".to_vec(), End::Fin));
}

async fn half_closed_client_still_gets_all_of_the_app(over: Transport) {
    let mut bench = Bench::start(over).await;
    let (mut client, mut app) = bench.open().await;
    client.send("last words").await;
    client.finish().await;
    assert_eq!(app.rest().await, (b"last words".to_vec(), End::Fin));
    let answer = noise(MIB, 5);
    let (_, received) = tokio::join!(
        async {
            app.send(&answer).await;
            app.finish().await;
        },
        client.rest()
    );
    assert!(received == (answer, End::Fin), "the answer arrived changed");
}

async fn half_closed_app_still_gets_all_of_the_client(over: Transport) {
    let mut bench = Bench::start(over).await;
    let (mut client, mut app) = bench.open().await;
    app.send("last words").await;
    app.finish().await;
    assert_eq!(client.rest().await, (b"last words".to_vec(), End::Fin));
    let answer = noise(MIB, 6);
    let (_, received) = tokio::join!(
        async {
            client.send(&answer).await;
            client.finish().await;
        },
        app.rest()
    );
    assert!(received == (answer, End::Fin), "the answer arrived changed");
}

async fn silent_socket_outlives_every_timer(over: Transport) {
    let (backend, mut sockets) = Backend::sockets().await;
    let site = Site::new("app", HOST).to(backend.address).spec(json!({
        "timeouts": {"connect": "1s", "dialBudget": "1s", "response": "1s", "idle": "1s", "total": "1s"},
        "webSocket": {"handshakeTimeout": "1s"},
    }));
    let front = Front::start(over, &[site]).await;
    let mut client = front.open(HOST, "/").await;
    let mut app = next(&mut sockets).await.wire;
    // Longer than the settable timers above, the 4 s of idle connections to apps and the 10 s of request heads.
    let silence = Duration::from_secs(12);
    let (client_quiet, app_quiet) = tokio::join!(client.quiet_for(silence), app.quiet_for(silence));
    assert!(client_quiet && app_quiet);
    client.send("still here").await;
    assert_eq!(app.exactly(10).await, b"still here");
    app.send("me too").await;
    assert_eq!(client.exactly(6).await, b"me too");
}

async fn pings_of_the_app_keep_its_socket_alive(over: Transport) {
    let app = App::start(Runtime::Node, "echo.mjs").await;
    let front = Front::start(over, &[Site::new("app", HOST).to(app.address)]).await;
    // The client library answers pings by itself; the app counts the pongs.
    let mut socket = ws::client_on(front.open(HOST, "/keepalive").await).await;
    let mut pongs = 0;
    while pongs < 20 {
        match within("a count", socket.next())
            .await
            .expect("stays open")
            .expect("a message")
        {
            Message::Text(count) => pongs = count.parse().expect("a number"),
            other => assert!(matches!(other, Message::Ping(_)), "{other:?}"),
        }
    }
}

async fn vanished_client_is_passed_on_and_freed(over: Transport) {
    let mut bench = Bench::start(over).await;
    let (client, mut app) = bench.open().await;
    assert_eq!(bench.open_sockets().await, 1.0);
    client.reset();
    app.rest().await;
    eventually("no socket is counted", async || bench.open_sockets().await == 0.0).await;
    assert_eq!(bench.closed_by("client").await, 1.0);
}

async fn client_that_hangs_up_is_counted_as_the_one_who_closed(over: Transport) {
    let mut bench = Bench::start(over).await;
    let (mut client, mut app) = bench.open().await;
    client.finish().await;
    assert_eq!(app.rest().await, (Vec::new(), End::Fin));
    app.finish().await;
    assert_eq!(client.rest().await, (Vec::new(), End::Fin));
    eventually("no socket is counted", async || bench.open_sockets().await == 0.0).await;
    assert_eq!(bench.closed_by("client").await, 1.0);
}

async fn app_that_dies_in_mid_message_is_passed_on_and_freed(over: Transport) {
    let mut bench = Bench::start(over).await;
    let (mut client, mut app) = bench.open().await;
    let message = frame(true, ws::BINARY, None, &noise(1000, 7));
    app.send(&message[..500]).await;
    assert_eq!(client.exactly(500).await, &message[..500]);
    app.reset();
    client.rest().await;
    eventually("no socket is counted", async || bench.open_sockets().await == 0.0).await;
    assert_eq!(bench.closed_by("app").await, 1.0);
}

#[tokio::test]
async fn descriptors_are_given_back_however_sockets_end() {
    let mut bench = Bench::start(Transport::Plain).await;
    let mut open = Vec::new();
    for _ in 0..50 {
        open.push(bench.open().await);
    }
    assert_eq!(bench.open_sockets().await, 50.0);
    let held = bench.front.postern.descriptors();
    assert!(held >= 100, "{held}");
    for (i, (mut client, mut app)) in open.into_iter().enumerate() {
        match i % 5 {
            0 => client.reset(),
            1 => app.reset(),
            2 => drop(client),
            3 => drop(app),
            _ => {
                client.finish().await;
                app.finish().await;
            }
        }
    }
    eventually("no socket is counted", async || bench.open_sockets().await == 0.0).await;
    eventually("descriptors are back", async || {
        bench.front.postern.descriptors() <= held - 100
    })
    .await;
}

async fn killed_app_ends_its_sockets(over: Transport) {
    let mut bench = Bench::start(over).await;
    let (mut client, app) = bench.open().await;
    drop(app);
    drop(bench.backend);
    assert_eq!(client.rest().await.0, Vec::<u8>::new());
}

async fn client_that_does_not_read_slows_the_app_down(over: Transport) {
    let (backend, mut sockets) = Backend::sockets().await;
    let front = Front::start(over, &[Site::new("app", HOST).to(backend.address)]).await;
    let mut client = front.open_narrow(HOST, "/").await;
    let mut app = next(&mut sockets).await.wire;
    // The kernel's buffers take some MiB; a proxy that buffered would take all of it.
    let block = noise(MIB, 8);
    let mut taken = 0;
    while app.sends_within(Duration::from_millis(500), &block).await {
        taken += 1;
        assert!(
            taken < 64,
            "the app could send {taken} MiB to a client that reads nothing"
        );
    }
    let received = client.exactly(taken * MIB).await;
    assert!(
        received.chunks(MIB).all(|part| part == block),
        "the bytes arrived changed"
    );
}

#[tokio::test]
async fn hundreds_of_upgrades_at_once_all_succeed() {
    let backend = Backend::echoing().await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let address = postern.http;
    let opening: Vec<_> = (0..400).map(|_| tokio::spawn(ws::open(address, HOST, "/"))).collect();
    let mut open = Vec::new();
    for socket in opening {
        open.push(socket.await.expect("opens"));
    }
    for socket in &mut open {
        socket.send("ping").await;
        assert_eq!(socket.exactly(4).await, b"ping");
    }
    assert_eq!(
        postern
            .metric("postern_websockets_open", &[("deployment", "app")])
            .await,
        400.0
    );
}
