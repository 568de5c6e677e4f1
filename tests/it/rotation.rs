//! Two thousand sockets over TLS, half of them streams of HTTP/2, while certificates and TLS options change under them.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::backend::Backend;
use crate::support::certs::{Authority, Leaf};
use crate::support::eventually;
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::tls::Client;
use crate::support::wire::Wire;
use crate::support::ws::handshake;

const HOST: &str = "app.example.test";
const HTTP1: usize = 1000;
const CONNECTIONS: usize = 10;
const STREAMS: usize = 100;
const ROUNDS: usize = 100;
/// Sockets that are asked in each round: all of them once in ten.
const ASKED: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_sockets_survive_a_hundred_rotations_and_changes_of_tls_options() {
    let authority = Authority::new("authority");
    let backend = Backend::echoing().await;
    let site = |leaf: &Leaf| Site::new("app", HOST).to(backend.address).tls(leaf);
    let options = |round: usize| {
        json!({
            "tlsMinVersion": if round.is_multiple_of(2) { "1.2" } else { "1.3" },
            "http2": !round.is_multiple_of(3),
            "websocketHttp2": !round.is_multiple_of(5),
            "tlsHandshakeTimeout": format!("{}s", 5 + round % 7),
            "keepAliveTimeout": format!("{}s", 60 + round),
            "http2MaxStreams": 100 + round,
            "hsts": format!("max-age={round}"),
        })
    };
    let start = json!({"http2MaxStreams": STREAMS});
    let postern = Postern::start_configured(&[site(&authority.server(&[HOST]))], &start).await;
    let mut sockets = open(&postern, &authority).await;
    assert_eq!(sockets.len(), HTTP1 + CONNECTIONS * STREAMS);

    for round in 0..ROUNDS {
        let leaf = authority.server(&[HOST]);
        postern.apply(&site(&leaf));
        postern.configure(&options(round));
        let served = async || {
            // A client of its own: one that resumes a session is shown no certificate.
            let mut wire = Client::of(&authority).connect(postern.https, HOST).await;
            wire.send("GET / HTTP/1.1\r\nHost: other.example.test\r\nConnection: close\r\n\r\n")
                .await;
            let hsts = format!("max-age={round}");
            let answer = wire.answer().await;
            leaf.was_shown(&wire) && answer.head.get("strict-transport-security") == Some(&hsts)
        };
        eventually(&format!("change {round} is served"), served).await;
        let first = round * ASKED % sockets.len();
        join_all(
            sockets[first..first + ASKED]
                .iter_mut()
                .map(|wire| still_echoes(wire, round)),
        )
        .await;
    }
    join_all(sockets.iter_mut().map(|wire| still_echoes(wire, ROUNDS))).await;
    let ours = [("deployment", "app")];
    assert_eq!(
        postern.metric("postern_websockets_open", &ours).await,
        sockets.len() as f64
    );
    assert_eq!(postern.metric("postern_websockets_closed_total", &ours).await, 0.0);
}

async fn open(postern: &Postern, authority: &Authority) -> Vec<Wire> {
    let client = Client::of(authority);
    let mut sockets = Vec::new();
    while sockets.len() < HTTP1 {
        let opened = (0..50).map(|_| async {
            let mut wire = client.connect(postern.https, HOST).await;
            wire.send(handshake(HOST, "/", "")).await;
            assert_eq!(wire.head().await.status(), 101);
            wire
        });
        sockets.extend(join_all(opened).await);
    }
    let client = client.offering(&["h2"]);
    for _ in 0..CONNECTIONS {
        let connection = Http2::connect(&client, postern.https, HOST).await;
        let opened = (0..STREAMS).map(|_| async {
            match connection.upgrade(HOST, "/", "").await {
                Ok((_, wire)) => wire,
                Err(refused) => panic!("{refused:?}"),
            }
        });
        sockets.extend(join_all(opened).await);
    }
    sockets
}

async fn still_echoes(wire: &mut Wire, round: usize) {
    let message = format!("in round {round}");
    wire.send(&message).await;
    assert_eq!(wire.exactly(message.len()).await, message.as_bytes());
}
