//! HTTP/2 toward clients: what differs from HTTP/1.1, seen in plaintext, where every frame can be written by hand. Sockets
//! are in websocket_h2.rs, and what holds over every transport in the files of its subject.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, Version};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::support::backend::{Backend, Visit, echoing_bodies, next};
use crate::support::go_build::Program;
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Chunk, Wire, get};
use crate::support::{eventually, frames, noise, within};

const HOST: &str = "app.example.test";
const URI: &str = "http://app.example.test/";
const MIB: usize = 1 << 20;

async fn start(backend: &Backend) -> Postern {
    Postern::start(&[Site::new("app", HOST).to(backend.address)]).await
}

/// A connection on which the test opens its streams itself.
struct Connection {
    send: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

impl Connection {
    async fn open(postern: &Postern) -> Self {
        let tcp = TcpStream::connect(postern.http).await.expect("connects");
        let (send, connection) = within("a preface", h2::client::handshake(tcp))
            .await
            .expect("speaks h2");
        let ended = tokio::spawn(connection);
        Self { send, ended }
    }

    async fn request(&mut self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut send = within("a stream", self.send.clone().ready()).await.expect("is open");
        send.send_request(request, end).expect("sends")
    }

    async fn get(&mut self) -> Response<RecvStream> {
        let (response, _) = self.request(head(Method::GET, URI), true).await;
        within("an answer", response).await.expect("an answer")
    }
}

fn head(method: Method, uri: &str) -> Request<()> {
    let request = Request::builder().method(method).uri(uri).version(Version::HTTP_2);
    request.body(()).expect("a request")
}

/// All of a body; its window is given back.
async fn whole(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = within("a body", body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}

#[tokio::test]
async fn request_by_prior_knowledge_reaches_the_app_as_http1() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    let client = Http2::plain(postern.http).await;
    let request = client.request(Method::GET, HOST, "/path?query", "Accept: a/b\r\n");
    let answer = client.ask(request, b"").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    let request = backend.request().await;
    assert_eq!(request.line, "GET /path?query HTTP/1.1");
    assert_eq!(request.get("host"), Some(HOST));
    assert_eq!(request.get("accept"), Some("a/b"));
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.get("x-forwarded-host"), Some(HOST));
    assert_eq!(request.get("x-forwarded-proto"), Some("http"));
    let id = answer.head.get("x-request-id").expect("an id");
    assert_eq!(request.get("x-request-id"), Some(id));
}

#[tokio::test]
async fn curl_speaks_it() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    let url = format!("http://{}/", postern.http);
    let curl = move || {
        Command::new("curl")
            .args([
                "--silent",
                "--http2-prior-knowledge",
                "--header",
                "Host: app.example.test",
            ])
            .args(["--write-out", " %{http_version} %{http_code}", &url])
            .output()
    };
    let output = within("curl", spawn_blocking(curl)).await.expect("no panic");
    let output = output.expect("curl is installed");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello 2 200", "{output:?}");
}

#[tokio::test]
async fn http1_is_served_on_the_same_port() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    assert_eq!(Http2::plain(postern.http).await.get(HOST, "/").await.text(), "hello");
    assert_eq!(get(postern.http, HOST, "/").await.text(), "hello");
}

#[tokio::test]
async fn switched_off_the_preface_is_no_request() {
    let backend = Backend::saying("hello").await;
    let site = Site::new("app", HOST).to(backend.address);
    let postern = Postern::start_with(&[site], &["--http2", "false"]).await;
    let mut wire = Wire::connect(postern.http).await;
    wire.send(frames::PREFACE).await;
    let (bytes, _) = wire.rest().await;
    assert!(!bytes.starts_with(&[0, 0]), "settings in {bytes:?}");
    assert_eq!(get(postern.http, HOST, "/").await.text(), "hello");
}

#[tokio::test]
async fn authority_must_be_host_where_both_are_and_host_counts_without_it() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    let client = Http2::plain(postern.http).await;
    let ask = async |more: &str| client.ask(client.request(Method::GET, HOST, "/", more), b"").await;
    assert_eq!(ask("Host: app.example.test\r\n").await.status(), 200);
    let refused = ask("Host: other.example.test\r\n").await;
    assert_eq!(
        (refused.status(), refused.head.get("x-postern-error")),
        (400, Some("client:bad_request"))
    );
    assert!(!refused.head.has("connection"), "{:?}", refused.head);
    // The other streams of the connection live on, whatever one was refused for.
    assert_eq!(client.get(HOST, "/").await.status(), 200);
    let mut wire = Wire::connect(postern.http).await;
    wire.begin_http2().await;
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", HOST)];
    let head = frames::frame(
        frames::HEADERS,
        frames::END_HEADERS | frames::END_STREAM,
        1,
        &frames::block(&fields),
    );
    wire.send(head).await;
    assert_eq!(wire.frame_of(frames::DATA).await.payload, b"hello");
    assert_eq!(
        backend
            .heads()
            .last()
            .and_then(|head| head.get("host").map(str::to_owned))
            .as_deref(),
        Some(HOST)
    );
}

#[tokio::test]
async fn connection_headers_and_paths_without_slash_never_reach_the_app() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    let malformed = [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
    ];
    for more in malformed {
        let mut wire = Wire::connect(postern.http).await;
        wire.begin_http2().await;
        let flags = frames::END_HEADERS | frames::END_STREAM;
        wire.send(frames::frame(frames::HEADERS, flags, 1, &frames::get(HOST, &[more])))
            .await;
        let reset = wire.frame_of(frames::RST_STREAM).await;
        assert_eq!(
            (reset.stream, reset.error()),
            (1, u32::from(Reason::PROTOCOL_ERROR)),
            "{more:?}"
        );
    }
    let client = Http2::plain(postern.http).await;
    let request = client.request(Method::CONNECT, HOST, "", "");
    let mut request = request;
    *request.uri_mut() = HOST.parse().expect("an authority");
    assert_eq!(
        client.ask(request, b"").await.head.get("x-postern-error"),
        Some("client:method_not_allowed")
    );
    assert_eq!(backend.hits(), 0);
}

#[tokio::test]
async fn a_path_of_a_fragment_alone_is_no_empty_target_to_the_app() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    let mut wire = Wire::connect(postern.http).await;
    wire.begin_http2().await;
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "#/admin"),
        (":authority", HOST),
    ];
    let flags = frames::END_HEADERS | frames::END_STREAM;
    wire.send(frames::frame(frames::HEADERS, flags, 1, &frames::block(&fields)))
        .await;
    assert_eq!(wire.frame_of(frames::DATA).await.payload, b"hello");
    assert_eq!(backend.request().await.line, "GET / HTTP/1.1");
}

#[tokio::test]
async fn cookie_crumbs_are_one_line_to_the_app() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    let client = Http2::plain(postern.http).await;
    let crumbs = "Cookie: a=1\r\nCookie: b=2\r\nCookie: c=3\r\n";
    client.ask(client.request(Method::GET, HOST, "/", crumbs), b"").await;
    assert_eq!(backend.request().await.all("cookie"), ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn too_many_headers_are_431() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    let client = Http2::plain(postern.http).await;
    let lines: String = (0..101).map(|i| format!("x-{i}: y\r\n")).collect();
    let refused = client.ask(client.request(Method::GET, HOST, "/", &lines), b"").await;
    assert_eq!(
        (refused.status(), refused.head.get("x-postern-error")),
        (431, Some("client:headers_too_large"))
    );
    // Too large by its bytes, h2 says so itself.
    let large = format!("x-large: {}\r\n", "y".repeat(65 * 1024));
    assert_eq!(
        client
            .ask(client.request(Method::GET, HOST, "/", &large), b"")
            .await
            .status(),
        431
    );
    assert_eq!(client.get(HOST, "/").await.status(), 200);
    assert_eq!(backend.hits(), 1);
}

#[tokio::test]
async fn connection_headers_of_the_app_do_not_reach_the_client() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
                  Upgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let backend = Backend::answering(answer).await;
    let postern = start(&backend).await;
    let answer = Http2::plain(postern.http).await.get(HOST, "/").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    for absent in ["connection", "keep-alive", "x-hop", "upgrade", "transfer-encoding"] {
        assert!(!answer.head.has(absent), "{:?}", answer.head);
    }
}

#[tokio::test]
async fn body_of_a_get_reaches_the_app_though_nothing_announces_it() {
    let backend = echoing_bodies().await;
    let postern = start(&backend).await;
    let connection = Http2::plain(postern.http).await;
    for method in [Method::GET, Method::DELETE, Method::POST] {
        let request = connection.request(method.clone(), HOST, "/", "");
        let answer = connection.ask(request, b"a body").await;
        assert_eq!((&method, answer.text()), (&method, "a body".to_owned()));
    }
    let mut wire = Wire::connect(postern.http).await;
    wire.send(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n6\r\na body\r\n0\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.answer().await.text(), "a body");
}

#[tokio::test]
async fn head_and_answers_without_a_body_end_with_their_head() {
    for (method, status, answer) in [
        (Method::HEAD, 200, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (Method::GET, 204, "HTTP/1.1 204 No Content\r\n\r\n"),
        (Method::GET, 304, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
    ] {
        let backend = Backend::answering(answer).await;
        let postern = start(&backend).await;
        let mut client = Connection::open(&postern).await;
        let (response, _) = client.request(head(method, URI), true).await;
        let response = within("an answer", response).await.expect("an answer");
        assert_eq!(response.status().as_u16(), status);
        assert!(response.body().is_end_stream(), "{response:?}");
    }
    // Postern's own, too.
    let postern = Postern::start(&[]).await;
    let mut client = Connection::open(&postern).await;
    let (response, _) = client.request(head(Method::HEAD, URI), true).await;
    let response = within("an answer", response).await.expect("an answer");
    assert_eq!(response.status().as_u16(), 404);
    assert!(response.body().is_end_stream(), "{response:?}");
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let (backend, mut visits) = Backend::visits().await;
    let postern = start(&backend).await;
    let mut client = Connection::open(&postern).await;
    let mut request = head(Method::POST, URI);
    request.headers_mut().insert("te", "trailers".parse().expect("a value"));
    request
        .headers_mut()
        .insert("trailer", "x-sum".parse().expect("a value"));
    let (response, mut send) = client.request(request, false).await;
    send.send_data(Bytes::from_static(b"up"), false).expect("sends");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().expect("a value"));
    send.send_trailers(trailers).expect("sends");
    let mut app = next(&mut visits).await;
    let asked = app.request_head().await;
    let (body, trailers) = app.wire.body(&asked).await;
    assert_eq!(
        (body, trailers),
        (b"up".to_vec(), vec![("x-sum".to_owned(), "1".to_owned())])
    );
    app.wire
        .send(
            "HTTP/1.1 200 OK\r\nTrailer: x-end\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndown\r\n0\r\nx-end: 2\r\n\r\n",
        )
        .await;
    let mut response = within("an answer", response).await.expect("an answer");
    assert_eq!(whole(response.body_mut()).await.expect("a body"), b"down");
    let trailers = within("trailers", response.body_mut().trailers())
        .await
        .expect("an end");
    assert_eq!(
        trailers.and_then(|all| all.get("x-end").cloned()),
        Some("2".parse().expect("a value"))
    );
}

#[tokio::test]
async fn large_bodies_pass_unchanged_on_many_streams_at_once() {
    let backend = echoing_bodies().await;
    let postern = start(&backend).await;
    let client = Http2::plain(postern.http).await;
    let asked = (0..20).map(|i| {
        let client = client.clone();
        tokio::spawn(async move {
            let body = noise(MIB, i);
            let answer = client.ask(client.request(Method::POST, HOST, "/", ""), &body).await;
            assert!(answer.body == body, "stream {i} changed its body");
        })
    });
    for done in within("the echoes", futures_util::future::join_all(asked)).await {
        done.expect("unchanged");
    }
}

#[tokio::test]
async fn client_that_expects_a_100_gets_it() {
    let (backend, mut visits) = Backend::visits().await;
    let postern = start(&backend).await;
    let mut wire = Wire::connect(postern.http).await;
    wire.begin_http2().await;
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", HOST),
        ("expect", "100-continue"),
    ];
    wire.send(frames::frame(
        frames::HEADERS,
        frames::END_HEADERS,
        1,
        &frames::block(&fields),
    ))
    .await;
    let mut app = next(&mut visits).await;
    assert_eq!(app.request_head().await.get("expect"), Some("100-continue"));
    app.wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    let informed = wire.frame_of(frames::HEADERS).await;
    assert_eq!((informed.stream, informed.flags & frames::END_STREAM), (1, 0));
    wire.send(frames::frame(frames::DATA, frames::END_STREAM, 1, b"body"))
        .await;
    assert_eq!(app.wire.chunk().await, Chunk::Data(b"body".to_vec()));
    app.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(wire.frame_of(frames::DATA).await.payload, b"ok");
}

#[tokio::test]
async fn streams_that_stand_still_stand_in_no_others_way() {
    // The app reads no body; the answer to the last request comes all the same.
    let (backend, mut visits) = Backend::visits().await;
    let other = Backend::saying("hello").await;
    let sites = [
        Site::new("app", HOST).to(backend.address),
        Site::new("other", "other.example.test").to(other.address),
    ];
    let postern = Postern::start(&sites).await;
    let mut client = Connection::open(&postern).await;
    let mut standing = Vec::new();
    for _ in 0..50 {
        let (response, mut send) = client.request(head(Method::POST, URI), false).await;
        send.send_data(Bytes::from(noise(MIB / 4, 1)), false).expect("sends");
        standing.push((response, send, next(&mut visits).await));
    }
    let request = head(Method::POST, "http://other.example.test/");
    let (response, mut send) = client.request(request, false).await;
    send.send_data(Bytes::from(noise(1000, 1)), true).expect("sends");
    let mut response = within("an answer", response).await.expect("an answer");
    assert_eq!(whole(response.body_mut()).await.expect("a body"), b"hello");
    drop(standing);
}

#[tokio::test]
async fn client_that_takes_its_request_back_frees_the_app() {
    let (backend, mut visits) = Backend::visits().await;
    let postern = start(&backend).await;
    let mut client = Connection::open(&postern).await;
    let (response, mut send) = client.request(head(Method::GET, URI), true).await;
    let mut app = next(&mut visits).await;
    app.request_head().await;
    send.send_reset(Reason::CANCEL);
    drop(response);
    app.wire.rest().await;
    // The connection serves on.
    let (response, _) = client.request(head(Method::GET, URI), true).await;
    let mut app = next(&mut visits).await;
    app.request_head().await;
    app.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(
        within("an answer", response)
            .await
            .expect("an answer")
            .status()
            .as_u16(),
        200
    );
}

#[tokio::test]
async fn answer_that_breaks_off_is_reset_and_not_ended() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let (backend, mut visits) = Backend::visits().await;
    let postern = start(&backend).await;
    let mut client = Connection::open(&postern).await;
    let (response, _) = client.request(head(Method::GET, URI), true).await;
    let mut app = next(&mut visits).await;
    app.request().await.expect("a request");
    app.wire.send(answer).await;
    let mut response = within("an answer", response).await.expect("an answer");
    // A reset overtakes what is still in a queue.
    drop(app);
    let error = whole(response.body_mut()).await.expect_err("cut");
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    assert!(!client.ended.is_finished());
}

#[tokio::test]
async fn response_and_idle_timeouts_hold_per_stream() {
    let (backend, mut visits) = Backend::visits().await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"timeouts": {"response": "300ms", "idle": "1s"}}));
    let postern = Postern::start(&[site]).await;
    let mut client = Connection::open(&postern).await;
    let response = client.get().await;
    assert_eq!(response.status().as_u16(), 504);
    next(&mut visits).await;
    let (response, _) = client.request(head(Method::GET, URI), true).await;
    let mut app: Visit = next(&mut visits).await;
    app.request_head().await;
    app.wire
        .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        .await;
    let mut response = within("an answer", response).await.expect("an answer");
    let error = whole(response.body_mut()).await.expect_err("cut");
    assert!(error.is_reset(), "{error}");
    assert!(!client.ended.is_finished());
}

#[tokio::test]
async fn connection_without_streams_ends_in_order_after_the_keep_alive_timeout() {
    let backend = Backend::saying("hello").await;
    let site = Site::new("app", HOST).to(backend.address);
    let postern = Postern::start_with(&[site], &["--keep-alive-timeout", "1s"]).await;
    let mut client = Connection::open(&postern).await;
    assert_eq!(client.get().await.status().as_u16(), 200);
    within("GOAWAY", client.ended)
        .await
        .expect("no panic")
        .expect("ends in order");
}

#[tokio::test]
async fn preface_without_settings_is_given_ten_seconds() {
    let postern = Postern::start(&[]).await;
    let mut wire = Wire::connect(postern.http).await;
    wire.send(frames::PREFACE).await;
    let start = Instant::now();
    wire.rest().await;
    assert!(start.elapsed() >= Duration::from_secs(9), "{:?}", start.elapsed());
}

#[tokio::test]
async fn drain_says_goaway_finishes_streams_and_ends() {
    let (backend, mut visits) = Backend::visits().await;
    let site = Site::new("app", HOST).to(backend.address);
    let flags = ["--shutdown-delay", "0s", "--drain-deadline", "20s"];
    let mut postern = Postern::start_with(&[site], &flags).await;
    let mut client = Connection::open(&postern).await;
    let (response, _) = client.request(head(Method::GET, URI), true).await;
    let mut app = next(&mut visits).await;
    app.request_head().await;
    let idle = Connection::open(&postern).await;
    postern.terminate();
    // Only the idle one ends.
    within("GOAWAY", idle.ended)
        .await
        .expect("no panic")
        .expect("ends in order");
    app.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
    let mut response = within("an answer", response).await.expect("an answer");
    assert_eq!(whole(response.body_mut()).await.expect("a body"), b"done");
    within("GOAWAY", client.ended)
        .await
        .expect("no panic")
        .expect("ends in order");
    eventually("Postern exits", || std::future::ready(postern.has_exited().is_some())).await;
}

/// Sends the frames again and again until Postern says goodbye; the error that it gives.
async fn flood(postern: &Postern, frames: &[u8]) -> u32 {
    let mut wire = Wire::connect(postern.http).await;
    wire.begin_http2().await;
    flood_on(&mut wire, frames).await
}

async fn flood_on(wire: &mut Wire, frames: &[u8]) -> u32 {
    let (mut sent, block) = (0, frames.repeat(1 + 16 * 1024 / frames.len()));
    // Reading what comes in between, so that neither side waits for the other.
    loop {
        let goes_on = wire.sends_within(Duration::from_millis(200), &block).await;
        sent += block.len();
        assert!(sent < 64 * MIB, "{sent} bytes and no end");
        while goes_on && !wire.quiet_for(Duration::from_millis(1)).await {
            if let Some(error) = goaway(wire).await {
                return error;
            }
        }
        if !goes_on {
            while let Some(frame) = wire.try_frame().await {
                if frame.kind == frames::GOAWAY {
                    return frame.error();
                }
            }
            panic!("ended without a word");
        }
    }
}

async fn goaway(wire: &mut Wire) -> Option<u32> {
    let frame = wire.try_frame().await?;
    (frame.kind == frames::GOAWAY).then(|| frame.error())
}

#[tokio::test]
async fn floods_end_the_connection_with_enhance_your_calm() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    let calm = u32::from(Reason::ENHANCE_YOUR_CALM);
    assert_eq!(
        flood(&postern, &frames::frame(frames::PING, 0, 0, &[0; 8])).await,
        calm,
        "pings"
    );
    assert_eq!(
        flood(&postern, &frames::frame(frames::SETTINGS, 0, 0, &[])).await,
        calm,
        "settings"
    );
    assert_eq!(
        flood(&postern, &frames::frame(frames::PRIORITY, 0, 1, &[0, 0, 0, 3, 1])).await,
        calm,
        "priorities"
    );
    assert_eq!(
        flood(&postern, &frames::frame(0xAA, 0, 0, &[0; 100])).await,
        calm,
        "unknown frames"
    );
    let mut wire = Wire::connect(postern.http).await;
    wire.begin_http2().await;
    let fields = [
        (":method", "POST"),
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
    assert_eq!(
        flood_on(&mut wire, &frames::frame(frames::DATA, 0, 1, &[])).await,
        calm,
        "empty data"
    );
    let mut wire = Wire::connect(postern.http).await;
    wire.begin_http2().await;
    wire.send(frames::frame(frames::HEADERS, 0, 1, &frames::get(HOST, &[])))
        .await;
    assert_eq!(
        flood_on(&mut wire, &frames::frame(frames::CONTINUATION, 0, 1, &[])).await,
        calm,
        "continuations"
    );
    // Nobody else was hurt.
    assert_eq!(get(postern.http, HOST, "/").await.text(), "hello");
}

/// Opens streams and resets each at once, with these bytes of a body in between, until Postern says goodbye: the error
/// that it gives, and how many there were.
async fn take_back(postern: &Postern, body: usize) -> (u32, u32) {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", HOST),
    ];
    let head = frames::block(&fields);
    let mut wire = Wire::connect(postern.http).await;
    wire.begin_http2().await;
    // Until then the connection's window is that of RFC 9113 section 6.9.2.
    wire.frame_of(frames::WINDOW_UPDATE).await;
    let mut resets = 0;
    loop {
        let mut all = Vec::new();
        for _ in 0..50 {
            let stream = 2 * resets + 1;
            all.extend(frames::frame(frames::HEADERS, frames::END_HEADERS, stream, &head));
            if body > 0 {
                all.extend(frames::frame(frames::DATA, 0, stream, &vec![b'x'; body]));
            }
            all.extend(frames::frame(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            resets += 1;
        }
        assert!(resets < 10_000, "no end with {body} bytes");
        wire.try_send(all).await;
        while !wire.quiet_for(Duration::from_millis(1)).await {
            match wire.try_frame().await {
                Some(frame) if frame.kind == frames::GOAWAY => return (frame.error(), resets),
                Some(_) => {}
                None => panic!("ended without a word"),
            }
        }
    }
}

#[tokio::test]
async fn requests_taken_back_at_once_end_the_connection_whatever_came_with_them() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    for body in [0, 1, 4096] {
        let (error, resets) = take_back(&postern, body).await;
        assert_eq!(error, u32::from(Reason::ENHANCE_YOUR_CALM), "{body}");
        assert!(resets >= 500, "{resets} are what a browser may do");
    }
    assert_eq!(get(postern.http, HOST, "/").await.text(), "hello");
}

#[tokio::test]
async fn client_that_wants_no_more_of_its_answers_stays() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
    let postern = start(&backend).await;
    let mut client = Connection::open(&postern).await;
    let start = Instant::now();
    let mut resets = 0;
    // More than time alone would let through.
    while f64::from(resets) < 600.0 + 40.0 * start.elapsed().as_secs_f64() {
        // Dropped with its stream, which resets it.
        assert_eq!(client.get().await.status().as_u16(), 200, "after {resets} resets");
        resets += 1;
    }
    assert!(!client.ended.is_finished());
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_alone() {
    let (backend, mut visits) = Backend::visits().await;
    let site = Site::new("app", HOST).to(backend.address);
    let postern = Postern::start_with(&[site], &["--http2-max-streams", "2"]).await;
    let mut wire = Wire::connect(postern.http).await;
    wire.begin_http2().await;
    let flags = frames::END_HEADERS | frames::END_STREAM;
    for stream in [1, 3, 5] {
        wire.send(frames::frame(frames::HEADERS, flags, stream, &frames::get(HOST, &[])))
            .await;
    }
    let refused = wire.frame_of(frames::RST_STREAM).await;
    assert_eq!(
        (refused.stream, refused.error()),
        (5, u32::from(Reason::REFUSED_STREAM))
    );
    for _ in 0..2 {
        let mut app = next(&mut visits).await;
        app.request_head().await;
        app.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    }
    for _ in 0..2 {
        assert_eq!(wire.frame_of(frames::DATA).await.payload, b"ok");
    }
}

const H2SPEC: Program = Program {
    name: "h2spec",
    folder: "tests/it/h2spec",
    package: "github.com/summerwind/h2spec/cmd/h2spec",
    linker_flags: "-s -w",
};

/// Runs all of h2spec, its strict cases too; the cases that failed, and its summary.
async fn h2spec(host: &str, to: SocketAddr, more: &'static [&str]) -> (Vec<String>, String) {
    let (host, port) = (host.to_owned(), to.port().to_string());
    let run = move || {
        let binary = H2SPEC.build().expect("builds");
        let mut command = Command::new(binary);
        command.args(["--strict", "--timeout", "10", "--host", &host, "--port", &port]);
        command.args(more).output().expect("runs")
    };
    let output = spawn_blocking(run).await.expect("no panic");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let failures = text.split("Failures:").nth(1).unwrap_or_default();
    let failed = failures.lines().filter_map(|line| line.trim().strip_prefix("× "));
    let summary = text.lines().find(|line| line.contains("tests, ")).unwrap_or(&text);
    (failed.map(str::to_owned).collect(), summary.to_owned())
}

#[tokio::test]
async fn h2spec_passes_in_plaintext_and_over_tls() {
    let backend = Backend::saying("an answer of some length").await;
    let postern = Postern::start(&[Site::new("app", "localhost").to(backend.address)]).await;
    let (failed, summary) = h2spec("localhost", postern.https, &["--tls", "--insecure"]).await;
    assert_eq!(failed, Vec::<String>::new(), "{summary}");
    assert!(summary.starts_with("146 tests, 146 passed"), "{summary}");
    let (failed, summary) = h2spec("localhost", postern.http, &[]).await;
    assert_eq!(failed, Vec::<String>::new(), "{summary}");
    assert!(summary.starts_with("146 tests, 146 passed"), "{summary}");
}
