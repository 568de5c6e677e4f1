//! Apps that speak HTTP/2 by prior knowledge: plain requests share connections as streams, upgrades go as HTTP/1.1. The app
//! is Node's, which takes both on one port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::apps::{App, Runtime, client};
use crate::support::backend::{Backend, next};
use crate::support::black_hole::refusing;
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Answer, Chunk, End, Wire, ask, get};
use crate::support::{eventually, noise, within, ws};

const HOST: &str = "app.example.test";
const MIB: usize = 1024 * 1024;

fn site() -> Site {
    Site::new("app", HOST).app_protocol("kubernetes.io/h2c")
}

async fn start() -> (App, Postern) {
    start_with(&[], json!({})).await
}

async fn start_with(environment: &[(&'static str, &str)], spec: Value) -> (App, Postern) {
    let app = App::start_with(Runtime::Node, "h2c.mjs", environment).await;
    let postern = Postern::start(&[site().to(app.address).spec(spec)]).await;
    (app, postern)
}

/// What the app has counted, asked on a connection of our own, which is counted with the others.
async fn stats(app: &App) -> Value {
    Http2::plain(app.address).await.get(HOST, "/stats").await.json()
}

async fn sessions(postern: &Postern) -> Value {
    get(postern.http, HOST, "/stats").await.json()["sessions"].clone()
}

fn is_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status(), answer.head.get("x-postern-error")),
        (status, Some(code))
    );
}

#[tokio::test]
async fn request_reaches_the_app_as_http2() {
    let (_app, postern) = start().await;
    let answer = ask(
        postern.http,
        format!(
            "GET /?a=b%20c HTTP/1.1\r\nHost: {HOST}\r\nConnection: keep-alive, x-mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n\
             TE: trailers\r\nCookie: a=1; b=2\r\nX-Other: 2\r\n\r\n"
        ),
    )
    .await;
    assert_eq!(answer.head.line, "HTTP/1.1 200 OK");
    assert!(answer.head.has("x-request-id"));
    let told = answer.json();
    let expected = [
        (":method", Some("GET")),
        (":scheme", Some("http")),
        (":authority", Some(HOST)),
        (":path", Some("/?a=b%20c")),
        ("te", Some("trailers")),
        ("cookie", Some("a=1; b=2")),
        ("x-other", Some("2")),
        ("x-real-ip", Some("127.0.0.1")),
        ("x-forwarded-host", Some(HOST)),
        ("x-deployment-id", Some("app")),
        ("host", None),
        ("connection", None),
        ("keep-alive", None),
        ("x-mine", None),
    ];
    for (name, value) in expected {
        assert_eq!((name, told[name].as_str()), (name, value), "{told}");
    }
}

#[tokio::test]
async fn hundred_requests_at_once_share_one_connection() {
    let (_app, postern) = start().await;
    let answers = join_all((0..100).map(|_| get(postern.http, HOST, "/later?ms=200"))).await;
    assert!(answers.iter().all(|answer| answer.text() == "late"));
    let stats = get(postern.http, HOST, "/stats").await.json();
    assert_eq!(stats["sessions"], 1);
    assert!(stats["most"].as_u64() > Some(1), "{stats}");
}

#[tokio::test]
async fn connections_have_no_more_streams_than_the_app_allows() {
    let (_app, postern) = start_with(&[("STREAMS", "5")], json!({})).await;
    // The first ones wait on one connection for the app's SETTINGS, the second ones know them.
    for _ in 0..2 {
        let answers = join_all((0..20).map(|_| get(postern.http, HOST, "/later?ms=300"))).await;
        assert!(answers.iter().all(|answer| answer.text() == "late"));
    }
    let stats = get(postern.http, HOST, "/stats").await.json();
    assert!(stats["most"].as_u64() <= Some(5), "{stats}");
    assert!(stats["sessions"].as_u64() > Some(1), "{stats}");
    assert_eq!(stats["resets"], json!([]));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let (_app, postern) = start().await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!(
            "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\nTrailer: X-Told\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nX-Told: up\r\nContent-Length: 3\r\n\r\n"
        ))
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "hello");
    let mut trailers = answer.trailers;
    trailers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
    trailers.sort();
    let expected = [("x-sum", "whole"), ("x-told", "up")];
    assert_eq!(
        trailers,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[tokio::test]
async fn answer_of_nothing_but_trailers_passes_as_a_head() {
    let (_app, postern) = start().await;
    let answer = get(postern.http, HOST, "/trailers-only").await;
    assert_eq!((answer.status(), answer.head.get("grpc-status")), (200, Some("12")));
    assert_eq!(answer.text(), "");
}

#[tokio::test]
async fn large_bodies_pass_both_ways_at_once() {
    let (_app, postern) = start().await;
    let body = noise(8 * MIB, 1);
    let exchange = async |seed: usize| {
        let body = &body[seed..];
        let mut client = Wire::connect(postern.http).await;
        let head = format!(
            "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.send(head).await;
        // Neither side waits for the other: the app echoes as it reads.
        let (mut read, mut write) = tokio::io::split(client.into_parts().0);
        let mut echoed = Vec::new();
        let send = async {
            let sent = tokio::io::AsyncWriteExt::write_all(&mut write, body).await;
            sent.expect("sends");
        };
        let receive = async {
            while !echoed.ends_with(b"0\r\n\r\n") {
                let count = tokio::io::AsyncReadExt::read_buf(&mut read, &mut echoed).await;
                assert!(count.expect("reads") > 0, "ended early");
            }
        };
        within("an exchange", async { tokio::join!(send, receive) }).await;
        assert!(dechunked(&echoed) == body, "the body came back changed");
    };
    tokio::join!(exchange(0), exchange(1), exchange(2));
    assert_eq!(sessions(&postern).await, 1);
}

/// The body of a whole chunked answer.
fn dechunked(answer: &[u8]) -> Vec<u8> {
    let end = |bytes: &[u8], mark: &[u8]| {
        let at = bytes.windows(mark.len()).position(|window| window == mark);
        at.expect("is there") + mark.len()
    };
    let (mut rest, mut body) = (&answer[end(answer, b"\r\n\r\n")..], Vec::new());
    loop {
        let line = end(rest, b"\r\n");
        let size = std::str::from_utf8(&rest[..line - 2]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            return body;
        }
        body.extend(&rest[line..line + size]);
        rest = &rest[line + size + 2..];
    }
}

#[tokio::test]
async fn client_that_does_not_read_holds_up_nobody_else() {
    let (_app, postern) = start().await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = Wire::connect_narrow(postern.http).await;
        client
            .send(format!("GET /zeros?bytes={} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 4 * MIB))
            .await;
        client.head().await;
        slow.push(client);
    }
    let quick = get(postern.http, HOST, &format!("/zeros?bytes={MIB}")).await;
    assert_eq!(quick.body.len(), MIB);
    assert_eq!(sessions(&postern).await, 1);
}

#[tokio::test]
async fn lengths_and_heads_are_kept() {
    let (_app, postern) = start().await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!("HEAD /length HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .await;
    assert_eq!(client.answer_to_head().await.head.get("content-length"), Some("4"));
    client
        .send(format!("GET /length HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.head.get("content-length"), Some("4"));
    assert_eq!(answer.text(), "four");
}

#[tokio::test]
async fn app_decides_whether_it_wants_the_body() {
    let (_app, postern) = start().await;
    let post = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    };
    let mut client = Wire::connect(postern.http).await;
    let asked = Instant::now();
    client.send(post("/accept")).await;
    assert_eq!(client.head().await.status(), 100);
    // Without the app's word the body is asked for after a second.
    assert!(asked.elapsed() < Duration::from_secs(1));
    client.send("hello").await;
    assert_eq!(client.answer().await.text(), "hello");
    let mut client = Wire::connect(postern.http).await;
    client.send(post("/early")).await;
    assert_eq!(client.answer().await.status(), 413, "no 100 comes before it");
}

#[tokio::test]
async fn answer_before_the_end_of_the_body_passes() {
    let (app, postern) = start().await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!(
            "POST /early HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {MIB}\r\n\r\nx"
        ))
        .await;
    assert_eq!(client.answer().await.status(), 413);
    // Nothing of the request is left at the app.
    eventually("its stream has ended", async || stats(&app).await["streams"] == 1).await;
}

#[tokio::test]
async fn bytes_of_a_stream_pass_as_they_come() {
    let (_app, postern) = start().await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!(
            "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ))
        .await;
    assert_eq!(client.head().await.status(), 200);
    for part in ["one", "two", "three"] {
        client.send(format!("{:x}\r\n{part}\r\n", part.len())).await;
        assert_eq!(client.chunks(part.len()).await, part.as_bytes());
    }
    client.send("0\r\n\r\n").await;
    assert!(matches!(client.chunk().await, Chunk::Last(_)));
}

#[tokio::test]
async fn reset_stream_is_502_and_costs_no_other() {
    let (_app, postern) = start().await;
    let late = get(postern.http, HOST, "/later?ms=500");
    let reset = async {
        is_refused(&get(postern.http, HOST, "/reset").await, 502, "upstream:bad_gateway");
    };
    let (late, ()) = tokio::join!(late, reset);
    assert_eq!(late.text(), "late");
    assert_eq!(sessions(&postern).await, 1);
}

/// An app that answers every request with half of a body.
async fn breaking_off(with: h2::Reason, length: Option<u64>, now: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let now = now.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("a preface");
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let mut head = Response::builder();
                    if let Some(length) = length {
                        head = head.header("content-length", length);
                    }
                    let mut stream = respond
                        .send_response(head.body(()).expect("a head"), false)
                        .expect("sends");
                    stream.send_data(Bytes::from_static(b"half"), false).expect("sends");
                    let now = now.clone();
                    tokio::spawn(async move {
                        // A reset overtakes what is still in a queue, on either leg.
                        now.notified().await;
                        stream.send_reset(with);
                    });
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn answer_that_breaks_off_never_looks_whole() {
    for (with, length) in [
        (h2::Reason::INTERNAL_ERROR, None),
        (h2::Reason::CANCEL, Some(8)),
        (h2::Reason::NO_ERROR, Some(8)),
    ] {
        let now = Arc::<Notify>::default();
        let app = breaking_off(with, length, now.clone()).await;
        let postern = Postern::start(&[site().to(app)]).await;
        let mut client = Wire::connect(postern.http).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!(client.head().await.status(), 200);
        client.through(b"half").await;
        now.notify_one();
        let (rest, _) = client.rest().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "half an answer looks whole: {with:?}");
    }
}

/// A request whose body does not say that it has one frame.
fn chunked(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
}

#[tokio::test]
async fn refused_stream_is_sent_again() {
    let requests = |path: &str| {
        [
            format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
            format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
            format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello"),
            chunked(path),
        ]
    };
    for (once, always) in requests("/refuse?times=1")
        .into_iter()
        .zip(requests("/refuse?times=100"))
    {
        let (_app, postern) = start().await;
        get(postern.http, HOST, "/").await;
        let answer = ask(postern.http, &once).await;
        let body = if once.contains("hello") { "hello" } else { "" };
        assert_eq!(answer.text(), format!("taken {body}"), "{once}");
        is_refused(&ask(postern.http, &always).await, 502, "upstream:bad_gateway");
    }
}

#[tokio::test]
async fn refused_stream_whose_body_is_not_there_any_more_is_502() {
    let (app, postern) = start().await;
    get(postern.http, HOST, "/").await;
    let head = format!("POST /refuse?times=1&after=200000 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {MIB}\r\n\r\n");
    let answer = ask(postern.http, [head.into_bytes(), noise(MIB, 1)].concat()).await;
    is_refused(&answer, 502, "upstream:bad_gateway");
    assert_eq!(stats(&app).await["resets"], json!([7]), "it was refused, and once");
}

#[tokio::test]
async fn connection_that_goes_away_ends_what_it_has_and_takes_nothing_new() {
    let (app, postern) = start().await;
    let last = get(postern.http, HOST, "/goaway");
    let others = async {
        eventually("it goes away", async || stats(&app).await["most"] == 1).await;
        join_all((0..10).map(|_| get(postern.http, HOST, "/"))).await
    };
    let (last, others) = tokio::join!(last, others);
    assert_eq!(last.text(), "last");
    assert!(others.iter().all(|answer| answer.status() == 200));
}

#[tokio::test]
async fn request_that_a_goaway_leaves_out_is_sent_again() {
    for request in [
        format!("GET /untaken HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        chunked("/untaken"),
    ] {
        let (_app, postern) = start().await;
        assert_eq!(sessions(&postern).await, 1);
        assert_eq!(ask(postern.http, request).await.text(), "taken");
        assert_eq!(sessions(&postern).await, 2);
    }
}

#[tokio::test]
async fn connection_that_dies_is_tried_once_more_where_that_is_safe() {
    for (method, tries) in [("GET", 2), ("POST", 1)] {
        let (_app, postern) = start().await;
        assert_eq!(sessions(&postern).await, 1);
        let answer = ask(
            postern.http,
            format!("{method} /destroy HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        )
        .await;
        is_refused(&answer, 502, "upstream:bad_gateway");
        assert_eq!((method, sessions(&postern).await), (method, json!(tries + 1)));
    }
}

#[tokio::test]
async fn answer_that_does_not_come_in_time_is_504() {
    let (app, postern) = start_with(&[], json!({"timeouts": {"response": "300ms"}})).await;
    is_refused(&get(postern.http, HOST, "/never").await, 504, "upstream:timeout");
    eventually("the stream is reset", async || {
        stats(&app).await["resets"] == json!([8])
    })
    .await;
    assert_eq!(get(postern.http, HOST, "/length").await.text(), "four");
}

#[tokio::test]
async fn client_that_pauses_in_its_body_is_408() {
    let (app, postern) = start_with(&[], json!({"timeouts": {"idle": "300ms"}})).await;
    let post = format!("POST /never HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nhello");
    is_refused(&ask(postern.http, post).await, 408, "client:request_timeout");
    eventually("its stream has ended", async || stats(&app).await["streams"] == 1).await;
}

#[tokio::test]
async fn exchange_that_takes_too_long_in_all_is_504() {
    let (app, postern) = start_with(&[], json!({"timeouts": {"total": "500ms"}})).await;
    is_refused(&get(postern.http, HOST, "/never").await, 504, "upstream:timeout");
    let post = format!("POST /never HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nhello");
    is_refused(&ask(postern.http, post).await, 504, "upstream:timeout");
    eventually("their streams have ended", async || stats(&app).await["streams"] == 1).await;
}

#[tokio::test]
async fn app_that_pauses_in_its_answer_is_cut_off() {
    let (app, postern) = start_with(&[], json!({"timeouts": {"idle": "300ms"}})).await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!("GET /pause HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .await;
    assert_eq!(client.head().await.status(), 200);
    let (rest, _) = client.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "half an answer looks whole");
    eventually("its stream has ended", async || stats(&app).await["streams"] == 1).await;
}

#[tokio::test]
async fn client_that_leaves_ends_its_stream() {
    let (app, postern) = start().await;
    for path in ["/never", "/zeros?bytes=100000000"] {
        let mut client = Wire::connect(postern.http).await;
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
            .await;
        eventually("the app has it", async || stats(&app).await["streams"] == 2).await;
        drop(client);
        eventually("its stream has ended", async || stats(&app).await["streams"] == 1).await;
    }
    assert_eq!(stats(&app).await["resets"], json!([8, 8]));
}

#[tokio::test]
async fn idle_connections_close_after_four_seconds() {
    let (app, postern) = start().await;
    let observer = Http2::plain(app.address).await;
    let open = async || observer.get(HOST, "/stats").await.json()["open"].clone();
    // It stays while it is of use.
    let used = Instant::now();
    while used.elapsed() < Duration::from_secs(6) {
        get(postern.http, HOST, "/").await;
        assert_eq!(open().await, 2);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let metric = async |state| {
        postern
            .metric("postern_upstream_connections", &[("state", state)])
            .await
    };
    assert_eq!((metric("active").await, metric("idle").await), (0.0, 1.0));
    let idle = Instant::now();
    eventually("it closes", async || open().await == 1).await;
    assert!((2..8).contains(&idle.elapsed().as_secs()), "after {:?}", idle.elapsed());
    assert_eq!((metric("active").await, metric("idle").await), (0.0, 0.0));
}

#[tokio::test]
async fn connections_in_use_are_counted() {
    let (_app, postern) = start().await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!("GET /never HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .await;
    let metric = async |state| {
        postern
            .metric("postern_upstream_connections", &[("state", state)])
            .await
    };
    eventually("one is active", async || {
        (metric("active").await, metric("idle").await) == (1.0, 0.0)
    })
    .await;
    drop(client);
    eventually("it is idle", async || {
        (metric("active").await, metric("idle").await) == (0.0, 1.0)
    })
    .await;
}

#[tokio::test]
async fn app_that_speaks_no_http2_is_502() {
    let app = Backend::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    let postern = Postern::start(&[site().to(app.address)]).await;
    is_refused(&get(postern.http, HOST, "/").await, 502, "upstream:bad_gateway");
    let post = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1\r\n\r\nx");
    is_refused(&ask(postern.http, post).await, 502, "upstream:bad_gateway");
}

#[tokio::test]
async fn next_endpoint_takes_what_the_others_cannot() {
    let app = App::start(Runtime::Node, "h2c.mjs").await;
    let old = Backend::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    let (refused, _port) = refusing();
    let site = site().to(refused).to(old.address).to(app.address);
    let postern = Postern::start(&[site.spec(json!({"balancing": {"strategy": "Random"}}))]).await;
    for i in 0..20 {
        let body = format!("body {i}");
        let length = body.len();
        let post = format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n{body}");
        assert_eq!(ask(postern.http, post).await.text(), body);
    }
}

#[tokio::test]
async fn no_endpoint_that_can_be_reached_is_503() {
    let (refused, _port) = refusing();
    let postern = Postern::start(&[site().to(refused)]).await;
    let answers = join_all((0..20).map(|_| get(postern.http, HOST, "/"))).await;
    for answer in answers {
        is_refused(&answer, 503, "upstream:unreachable");
    }
}

#[tokio::test]
async fn app_that_takes_connections_and_says_nothing_is_504() {
    let (app, mut visits) = Backend::visits().await;
    let spec = json!({"timeouts": {"response": "300ms"}});
    let postern = Postern::start(&[site().to(app.address).spec(spec)]).await;
    let post = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1\r\n\r\nx");
    is_refused(&ask(postern.http, post).await, 504, "upstream:timeout");
    // It has the preface, and no more.
    let mut visit = next(&mut visits).await;
    assert!(visit.wire.exactly(24).await.starts_with(b"PRI * HTTP/2.0\r\n"));
    drop(postern);
    let (rest, end) = visit.wire.rest().await;
    assert!(
        !rest.windows(3).any(|bytes| bytes == b"app"),
        "a request has left: {rest:?}"
    );
    assert_eq!(end, End::Fin);
}

#[tokio::test]
async fn upgrade_goes_as_http1_on_a_connection_of_its_own() {
    let (_app, postern) = start().await;
    assert_eq!(sessions(&postern).await, 1);
    let mut socket = ws::open(postern.http, HOST, "/").await;
    let message = ws::frame(true, ws::BINARY, Some([1, 2, 3, 4]), &noise(100_000, 3));
    socket.send(&message).await;
    let expected = ws::frame(true, ws::BINARY, None, &noise(100_000, 3));
    assert!(socket.exactly(expected.len()).await == expected);
    assert_eq!(sessions(&postern).await, 1);
}

#[tokio::test]
async fn http2_clients_reach_http2_apps() {
    let (_app, postern) = start().await;
    let client = Http2::plain(postern.http).await;
    let body = noise(60_000, 7);
    let request = client.request(Method::POST, HOST, "/echo", "TE: trailers\r\n");
    let answer = client.ask(request, &body).await;
    assert!(answer.body == body);
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "whole".to_owned())]);
}

#[tokio::test]
async fn grpc_passes_in_all_its_forms() {
    let app = App::start(Runtime::Node, "grpc.mjs").await;
    let postern = Postern::start(&[site().to(app.address)]).await;
    let address = postern.http.to_string();
    client(Runtime::Node, "grpc.mjs", [&address, HOST, "", ""]).await;
}
