//! Plain requests and their bodies: streamed both ways as they come, whole or visibly cut. Headers are in headers.rs,
//! malformed input in hygiene.rs.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::mpsc;

use crate::support::apps::curl;
use crate::support::backend::{Backend, Visit};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Chunk, Wire, ask, get};
use crate::support::{noise, within};

const HOST: &str = "app.example.test";
const MIB: usize = 1 << 20;
const GET: &str = "GET / HTTP/1.1\r\nHost: app.example.test\r\n\r\n";
const EMPTY_POST: &str = "POST / HTTP/1.1\r\nHost: app.example.test\r\nContent-Length: 0\r\n\r\n";

async fn in_front_of(backend: &Backend) -> Postern {
    Postern::start(&[Site::new("app", HOST).to(backend.address)]).await
}

/// An app whose connections the test plays itself.
async fn visited() -> (Backend, mpsc::Receiver<Visit>) {
    let (sender, visits) = mpsc::channel(64);
    let backend = Backend::start(move |visit| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(visit).await;
        }
    })
    .await;
    (backend, visits)
}

async fn next(visits: &mut mpsc::Receiver<Visit>) -> Visit {
    within("a connection reaches the app", visits.recv())
        .await
        .expect("the app is there")
}

async fn head(visit: &mut Visit) -> crate::support::head::Head {
    within("a request reaches the app", visit.head())
        .await
        .expect("a request")
}

/// An app that sends every body back, chunk by chunk.
async fn echoing() -> Backend {
    Backend::start(|mut visit| async move {
        while let Some((_, body)) = visit.request().await {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            visit.wire.send([head.into_bytes(), body].concat()).await;
        }
    })
    .await
}

/// Small chunks into one.
async fn data(wire: &mut Wire, length: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < length {
        match wire.chunk().await {
            Chunk::Data(part) => data.extend(part),
            Chunk::Last(_) => panic!("ended after {} of {length} bytes", data.len()),
        }
    }
    data
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    client.send(GET).await;
    let mut app = next(&mut visits).await;
    head(&mut app).await;
    app.wire
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    // The head alone comes through, and then each event before the next is sent.
    assert_eq!(client.head().await.get("content-type"), Some("text/event-stream"));
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        app.wire.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert_eq!(data(&mut client, event.len()).await, event.as_bytes());
    }
    app.wire.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, Chunk::Last(Vec::new()));
}

#[tokio::test]
async fn upload_is_answered_while_it_is_sent() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ))
        .await;
    let mut app = next(&mut visits).await;
    let request = head(&mut app).await;
    assert_eq!(request.get("transfer-encoding"), Some("chunked"));
    app.wire
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 200);
    for part in ["one", "two", "three"] {
        let chunk = format!("{:x}\r\n{part}\r\n", part.len());
        client.send(&chunk).await;
        assert_eq!(data(&mut app.wire, part.len()).await, part.as_bytes());
        app.wire.send(&chunk).await;
        assert_eq!(data(&mut client, part.len()).await, part.as_bytes());
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(app.wire.chunk().await, Chunk::Last(Vec::new()));
    app.wire.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, Chunk::Last(Vec::new()));
}

#[tokio::test]
async fn big_bodies_arrive_intact_both_ways() {
    let backend = echoing().await;
    let postern = in_front_of(&backend).await;
    let body = noise(16 * MIB, 1);
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ))
        .await;
    client.send(&body).await;
    let answer = client.answer().await;
    assert_eq!(answer.head.get("content-length"), Some("16777216"));
    assert!(answer.body == body, "the body came back changed");
    // The same in chunks of any size, on the same connection.
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ))
        .await;
    for part in body.chunks(1_234_567) {
        client.send(format!("{:X};ext=1\r\n", part.len())).await;
        client.send(part).await;
        client.send("\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    assert!(client.answer().await.body == body, "the chunked body came back changed");
}

#[tokio::test]
async fn curl_uploads_and_gets_it_back() {
    let backend = echoing().await;
    let postern = in_front_of(&backend).await;
    let folder = tempfile::tempdir().expect("makes a folder");
    let (up, down) = (folder.path().join("up"), folder.path().join("down"));
    let body = noise(3 * MIB, 2);
    std::fs::write(&up, &body).expect("writes");
    // curl itself asks with Expect: 100-continue for a body of this size.
    let (from, to) = (format!("@{}", up.display()), down.display().to_string());
    let (resolve, url) = (
        format!("{HOST}:{}:127.0.0.1", postern.http.port()),
        format!("http://{HOST}:{}/", postern.http.port()),
    );
    let code = curl(&[
        "--resolve",
        &resolve,
        "--data-binary",
        &from,
        "-o",
        &to,
        "-w",
        "%{http_code}",
        &url,
    ])
    .await;
    assert_eq!(code, "200");
    assert!(
        std::fs::read(down).expect("reads") == body,
        "the body came back changed"
    );
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    let lines = "TE: trailers\r\nTrailer: X-Sum, Content-Length, X-Deployment-Id\r\nTransfer-Encoding: chunked\r\n";
    // A trailer may not change what the head has said (RFC 9110 section 6.5.1).
    let body = "3\r\nabc\r\n0\r\nX-Sum: up\r\nContent-Length: 99\r\nX-Deployment-Id: forged\r\n\r\n";
    client
        .send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n{body}"))
        .await;
    let mut app = next(&mut visits).await;
    let request = head(&mut app).await;
    assert_eq!(request.get("te"), Some("trailers"));
    let (body, trailers) = app.wire.body(&request).await;
    assert_eq!(body, b"abc");
    let names: Vec<_> = trailers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .collect();
    assert_eq!(names, [("x-sum".to_owned(), "up")]);
    app.wire.send("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: down\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "ok");
    let names: Vec<_> = answer
        .trailers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .collect();
    assert_eq!(names, [("x-sum".to_owned(), "down")]);
}

#[tokio::test]
async fn expect_continue_is_answered_once_the_app_wants_the_body() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        ))
        .await;
    let mut app = next(&mut visits).await;
    let request = head(&mut app).await;
    assert_eq!(request.get("expect"), Some("100-continue"));
    assert!(
        client.quiet_for(Duration::from_millis(100)).await,
        "nobody has agreed yet"
    );
    app.wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 100);
    client.send("hello").await;
    assert_eq!(app.wire.body(&request).await.0, b"hello");
    app.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn refused_expectation_reaches_the_client_before_the_body() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        ))
        .await;
    let mut app = next(&mut visits).await;
    head(&mut app).await;
    app.wire
        .send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (417, "no"),
        "no 100 comes before it"
    );
}

#[tokio::test]
async fn unasked_informational_answers_do_not_disturb() {
    let sent = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let backend = Backend::answering(sent).await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    for _ in 0..2 {
        client.send(GET).await;
        let mut answer = client.answer().await;
        while answer.status() < 200 {
            answer = client.answer().await;
        }
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    }
}

#[tokio::test]
async fn head_keeps_the_length_and_has_no_body() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    for _ in 0..2 {
        client.send(format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!(client.answer_to_head().await.head.get("content-length"), Some("1000"));
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn no_content_and_not_modified_have_no_body() {
    for (status, lines) in [(204, ""), (304, "ETag: \"x\"\r\n")] {
        let backend = Backend::answering(format!("HTTP/1.1 {status} x\r\n{lines}\r\n")).await;
        let postern = in_front_of(&backend).await;
        let mut client = Wire::connect(postern.http).await;
        for _ in 0..2 {
            client.send(GET).await;
            let answer = client.answer().await;
            assert_eq!(answer.status(), status);
            assert!(!answer.head.has("transfer-encoding"));
            assert_eq!(answer.head.get("etag"), (status == 304).then_some("\"x\""));
        }
    }
}

#[tokio::test]
async fn http10_client_is_served_and_let_go() {
    // Chunks, which it does not know, are not passed on.
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    client.send(format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await;
    let answer = client.answer().await;
    assert!(!answer.head.has("transfer-encoding"), "{answer:?}");
    assert_eq!(answer.text(), "ok");
    assert_eq!(client.rest().await.0, b"");
    assert_eq!(backend.request().await.line, "GET / HTTP/1.1");
}

#[tokio::test]
async fn http10_answer_of_the_app_keeps_an_http11_client() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    for _ in 0..2 {
        client.send(GET).await;
        let mut app = next(&mut visits).await;
        head(&mut app).await;
        app.wire.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.head.line.as_str(), answer.text().as_str()),
            ("HTTP/1.1 200 OK", "ok")
        );
    }
}

#[tokio::test]
async fn connections_are_reused_on_both_sides() {
    let backend = echoing().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    for request in [GET, EMPTY_POST, GET] {
        client.send(request).await;
        assert_eq!(client.answer().await.status(), 200);
    }
    assert_eq!((backend.hits(), backend.connections()), (3, 1));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = echoing().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    let post = |body: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    client
        .send([post("one"), post(""), GET.to_owned(), post("four")].concat())
        .await;
    for body in ["one", "", "", "four"] {
        assert_eq!(client.answer().await.text(), body);
    }
}

#[tokio::test]
async fn close_of_the_client_is_kept() {
    let backend = Backend::saying("ok").await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"))
        .await;
    assert_eq!(client.answer().await.text(), "ok");
    assert_eq!(client.rest().await.0, b"");
}

#[tokio::test]
async fn close_of_the_app_is_its_own_affair() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    // The client's connection stays; the next request, one that must not be repeated, goes over a new one.
    for _ in 0..3 {
        client.send(EMPTY_POST).await;
        let mut app = next(&mut visits).await;
        head(&mut app).await;
        app.wire
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(client.answer().await.text(), "ok");
    }
    assert_eq!(backend.connections(), 3);
}

#[tokio::test]
async fn body_without_length_goes_to_the_end_of_the_connection() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    for _ in 0..2 {
        client.send(GET).await;
        let mut app = next(&mut visits).await;
        head(&mut app).await;
        app.wire.send("HTTP/1.1 200 OK\r\n\r\nall there is").await;
        drop(app);
        assert_eq!(client.answer().await.text(), "all there is");
    }
}

#[tokio::test]
async fn short_body_is_never_a_clean_end() {
    let cut = [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nxyz\r\n",
    ];
    for sent in cut {
        let backend = Backend::start(move |mut visit| async move {
            visit.head().await;
            visit.wire.send(sent).await;
        })
        .await;
        let postern = in_front_of(&backend).await;
        let mut client = Wire::connect(postern.http).await;
        client.send(GET).await;
        let head = client.head().await;
        assert_eq!(head.status(), 200);
        let (rest, _) = client.rest().await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.contains("short"), "what came is passed on: {rest:?}");
        assert!(!rest.contains("0\r\n\r\n"), "{sent:?} was given a clean end: {rest:?}");
        assert!(
            head.has("transfer-encoding") || head.get("content-length") == Some("10"),
            "{head:?}"
        );
    }
}

#[tokio::test]
async fn cut_upload_is_never_a_clean_end() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    for (framing, body) in [
        ("Content-Length: 10", "short"),
        ("Transfer-Encoding: chunked", "5\r\nshort\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nshort\r\nxyz\r\n"),
    ] {
        let mut client = Wire::connect(postern.http).await;
        client
            .send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n{body}"))
            .await;
        let mut app = next(&mut visits).await;
        head(&mut app).await;
        client.finish().await;
        let (rest, _) = app.wire.rest().await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(
            rest.len() < 20 && !rest.contains("0\r\n\r\n"),
            "{framing} was given a clean end: {rest:?}"
        );
    }
}

#[tokio::test]
async fn client_that_leaves_cancels_its_request() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    client.send(GET).await;
    let mut app = next(&mut visits).await;
    head(&mut app).await;
    client.reset();
    // The app sees it, long before any timeout.
    app.wire.rest().await;
}

#[tokio::test]
async fn early_answer_reaches_a_client_that_still_sends() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000000\r\n\r\nsome"
        ))
        .await;
    let mut app = next(&mut visits).await;
    head(&mut app).await;
    app.wire
        .send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
}

#[tokio::test]
async fn client_that_does_not_read_slows_the_app_down() {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect_narrow(postern.http).await;
    client.send(GET).await;
    let mut app = next(&mut visits).await;
    head(&mut app).await;
    app.wire
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        .await;
    let block = noise(MIB, 3);
    let mut taken = 0;
    while app.wire.sends_within(Duration::from_millis(500), &block).await {
        taken += 1;
        assert!(
            taken < 64,
            "the app could send {taken} MiB to a client that reads nothing"
        );
    }
    client.head().await;
    let received = client.exactly(taken * MIB).await;
    assert!(
        received.chunks(MIB).all(|part| part == block),
        "the bytes arrived changed"
    );
}

#[tokio::test]
async fn ambiguous_length_of_the_app_is_resolved_or_refused() {
    let backend = Backend::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    )
    .await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    for _ in 0..2 {
        client.send(GET).await;
        let answer = client.answer().await;
        assert!(
            !(answer.head.has("content-length") && answer.head.has("transfer-encoding")),
            "{answer:?}"
        );
        assert!(answer.status() == 502 || answer.text() == "ok", "{answer:?}");
    }
}

#[tokio::test]
async fn answers_that_are_not_http_are_502() {
    let garbage = [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Space : a\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ];
    for sent in garbage {
        let backend = Backend::answering(sent).await;
        let postern = in_front_of(&backend).await;
        let answer = get(postern.http, HOST, "/").await;
        assert_eq!((sent, answer.status()), (sent, 502));
        assert_eq!(answer.head.get("x-postern-error"), Some("upstream:bad_gateway"));
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_never_answer_the_next_request() {
    let sent = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let backend = Backend::answering(sent).await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    for _ in 0..5 {
        client.send(GET).await;
        assert_eq!(client.answer().await.text(), "ok");
    }
}

#[tokio::test]
async fn app_that_does_not_answer_is_504() {
    let (backend, mut visits) = visited().await;
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
    let (backend, mut visits) = visited().await;
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
    client.send(GET).await;
    let mut app = next(&mut visits).await;
    head(&mut app).await;
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
    let (backend, mut visits) = visited().await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"timeouts": {"idle": "2s"}}));
    let postern = Postern::start(&[site]).await;
    let mut client = Wire::connect(postern.http).await;
    client.send(GET).await;
    let mut app = next(&mut visits).await;
    head(&mut app).await;
    app.wire
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    // Slow, but longer than the timeout in all.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        app.wire.send("1\r\nx\r\n").await;
    }
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(data(&mut client, 10).await, b"xxxxxxxxxx");
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
    let (backend, mut visits) = visited().await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"timeouts": {"idle": "300ms"}}));
    let postern = Postern::start(&[site]).await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nshort"
        ))
        .await;
    let mut app = next(&mut visits).await;
    head(&mut app).await;
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

/// Answers the first request of its first connection and hangs up at the second.
async fn hanging_up_on_reuse() -> Backend {
    let first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    Backend::start(move |mut visit| {
        let first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        async move {
            while visit.request().await.is_some() {
                visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                if first {
                    visit.head().await;
                    return;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn get_on_a_connection_that_the_app_closed_is_retried_once() {
    let backend = hanging_up_on_reuse().await;
    let postern = in_front_of(&backend).await;
    for _ in 0..2 {
        assert_eq!(get(postern.http, HOST, "/").await.text(), "ok");
    }
    assert_eq!((backend.hits(), backend.connections()), (3, 2));
}

#[tokio::test]
async fn post_on_a_connection_that_the_app_closed_is_not_replayed() {
    for body in ["", "x"] {
        let backend = hanging_up_on_reuse().await;
        let postern = in_front_of(&backend).await;
        assert_eq!(get(postern.http, HOST, "/").await.text(), "ok");
        let answer = ask(
            postern.http,
            format!(
                "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        )
        .await;
        assert_eq!(
            (answer.status(), answer.head.get("x-postern-error")),
            (502, Some("upstream:bad_gateway"))
        );
        assert_eq!((backend.hits(), backend.connections()), (2, 1));
    }
}

#[tokio::test]
async fn get_is_not_retried_a_second_time() {
    // Every connection is good for one answer, at most; from the second connection on for none.
    let first = std::sync::atomic::AtomicBool::new(true);
    let backend = Backend::start(move |mut visit| {
        let first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        async move {
            visit.head().await;
            if first {
                visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                visit.head().await;
            }
        }
    })
    .await;
    let postern = in_front_of(&backend).await;
    assert_eq!(get(postern.http, HOST, "/").await.text(), "ok");
    let answer = get(postern.http, HOST, "/").await;
    assert_eq!(
        (answer.status(), answer.head.get("x-postern-error")),
        (502, Some("upstream:bad_gateway"))
    );
    assert_eq!(backend.hits(), 3);
}

/// How long Postern keeps an idle connection to an app that sent this header line.
async fn kept_idle(line: &str) -> Duration {
    let (backend, mut visits) = visited().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    client.send(GET).await;
    let mut app = next(&mut visits).await;
    head(&mut app).await;
    app.wire
        .send(format!("HTTP/1.1 200 OK\r\n{line}Content-Length: 2\r\n\r\nok"))
        .await;
    assert_eq!(client.answer().await.text(), "ok");
    let start = Instant::now();
    app.wire.rest().await;
    start.elapsed()
}

#[tokio::test]
async fn idle_connections_to_apps_close_after_four_seconds() {
    let kept = kept_idle("").await;
    assert!((3..8).contains(&kept.as_secs()), "kept for {kept:?}");
}

#[tokio::test]
async fn connection_is_not_used_past_what_the_app_allows() {
    for (line, used) in [
        ("Keep-Alive: timeout=2, max=100\r\n", 2),
        ("Keep-Alive: timeout=9\r\n", 1),
        ("", 1),
    ] {
        let backend = Backend::answering(format!("HTTP/1.1 200 OK\r\n{line}Content-Length: 2\r\n\r\nok")).await;
        let postern = in_front_of(&backend).await;
        assert_eq!(get(postern.http, HOST, "/").await.text(), "ok");
        // Its last second is nobody's: the app's FIN may be on its way.
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert_eq!(get(postern.http, HOST, "/").await.text(), "ok");
        assert_eq!((line, backend.connections()), (line, used));
    }
}

#[tokio::test]
async fn idle_connection_is_not_pooled_for_an_app_that_allows_no_idling() {
    let kept = kept_idle("Keep-Alive: timeout=0\r\n").await;
    assert!(kept < Duration::from_secs(2), "kept for {kept:?}");
}
