//! Plain requests and their bodies: streamed both ways as they come, whole or visibly cut. Headers are in headers.rs,
//! malformed requests in hygiene.rs, connections to apps in upstream.rs, timeouts in timeouts.rs.

use std::time::Duration;

use crate::support::apps::curl;
use crate::support::backend::{Backend, echoing_bodies};
use crate::support::exchange::{GET, HOST, exchange, in_front_of};
use crate::support::noise;
use crate::support::wire::{Chunk, Wire};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    let (mut app, _) = exchange(&mut client, &mut visits, GET).await;
    app.wire
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    // The head alone comes through, and then each event before the next is sent.
    assert_eq!(client.head().await.get("content-type"), Some("text/event-stream"));
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        app.wire.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert_eq!(client.chunks(event.len()).await, event.as_bytes());
    }
    app.wire.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, Chunk::Last(Vec::new()));
}

#[tokio::test]
async fn upload_is_answered_while_it_is_sent() {
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    let (mut app, request) = exchange(
        &mut client,
        &mut visits,
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"),
    )
    .await;
    assert_eq!(request.get("transfer-encoding"), Some("chunked"));
    app.wire
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 200);
    for part in ["one", "two", "three"] {
        let chunk = format!("{:x}\r\n{part}\r\n", part.len());
        client.send(&chunk).await;
        assert_eq!(app.wire.chunks(part.len()).await, part.as_bytes());
        app.wire.send(&chunk).await;
        assert_eq!(client.chunks(part.len()).await, part.as_bytes());
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(app.wire.chunk().await, Chunk::Last(Vec::new()));
    app.wire.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, Chunk::Last(Vec::new()));
}

#[tokio::test]
async fn big_bodies_arrive_intact_both_ways() {
    let backend = echoing_bodies().await;
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
    let backend = echoing_bodies().await;
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
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    let lines = "TE: trailers\r\nTrailer: X-Sum, Content-Length, X-Deployment-Id\r\nTransfer-Encoding: chunked\r\n";
    // A trailer may not change what the head has said (RFC 9110 section 6.5.1).
    let body = "3\r\nabc\r\n0\r\nX-Sum: up\r\nContent-Length: 99\r\nX-Deployment-Id: forged\r\n\r\n";
    let (mut app, request) = exchange(
        &mut client,
        &mut visits,
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n{body}"),
    )
    .await;
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
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    let (mut app, request) = exchange(
        &mut client,
        &mut visits,
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"),
    )
    .await;
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
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    let (mut app, _) = exchange(
        &mut client,
        &mut visits,
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"),
    )
    .await;
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
async fn pipelined_requests_are_answered_in_order() {
    let backend = echoing_bodies().await;
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
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    for (framing, body) in [
        ("Content-Length: 10", "short"),
        ("Transfer-Encoding: chunked", "5\r\nshort\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nshort\r\nxyz\r\n"),
    ] {
        let mut client = Wire::connect(postern.http).await;
        let (mut app, _) = exchange(
            &mut client,
            &mut visits,
            format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n{body}"),
        )
        .await;
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
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    let (mut app, _) = exchange(&mut client, &mut visits, GET).await;
    client.reset();
    // The app sees it, long before any timeout.
    app.wire.rest().await;
}

#[tokio::test]
async fn early_answer_reaches_a_client_that_still_sends() {
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    let (mut app, _) = exchange(
        &mut client,
        &mut visits,
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000000\r\n\r\nsome"),
    )
    .await;
    app.wire
        .send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
}

#[tokio::test]
async fn client_that_does_not_read_slows_the_app_down() {
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect_narrow(postern.http).await;
    let (mut app, _) = exchange(&mut client, &mut visits, GET).await;
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
