//! Malformed and ambiguous requests, as bytes: which are refused, in which state they leave the connection, and that no
//! app ever sees a request that another reader would see differently.

use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Answer, End, Wire, ask};

const HOST: &str = "app.example.test";
const GET: &str = "GET /next HTTP/1.1\r\nHost: app.example.test\r\n\r\n";

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// A next request is answered.
    Open,
    /// Nothing more is read from it.
    Closed,
}
use Then::{Closed, Open};

/// An app that answers 200 to all.
async fn app() -> (Backend, Postern) {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    (backend, postern)
}

/// Sends the bytes and a good request behind them; the first answer, and whether the good request was read as one.
async fn send(postern: &Postern, bytes: &[u8]) -> (Answer, Then) {
    let mut wire = Wire::connect(postern.http).await;
    wire.try_send(bytes).await;
    let answer = wire.answer().await;
    if !wire.try_send(GET).await {
        return (answer, Closed);
    }
    let then = match wire.try_head().await {
        Ok(_) => Open,
        Err(_) => Closed,
    };
    (answer, then)
}

/// Each row: what it is, the bytes, the status. All are refused before the app, and the connection ends.
async fn all_refused(rows: &[(&str, &str, u16)]) {
    let (backend, postern) = app().await;
    let mut wrong = Vec::new();
    for &(what, bytes, status) in rows {
        let (answer, then) = send(&postern, bytes.as_bytes()).await;
        if (answer.status(), then) != (status, Closed) {
            wrong.push(format!(
                "{what}: {} and {then:?} instead of {status} and Closed",
                answer.status()
            ));
        }
    }
    let seen = backend.heads().into_iter().filter(|head| head.target() != "/next");
    wrong.extend(seen.map(|head| format!("reached the app: {head:?}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn unclear_hosts_are_refused() {
    let rows = [
        ("no Host", "GET / HTTP/1.1\r\n\r\n", 400),
        ("no Host on 1.0", "GET / HTTP/1.0\r\n\r\n", 400),
        (
            "two Hosts",
            "GET / HTTP/1.1\r\nHost: app.example.test\r\nHost: b.test\r\n\r\n",
            400,
        ),
        (
            "the same Host twice",
            "GET / HTTP/1.1\r\nHost: app.example.test\r\nHost: app.example.test\r\n\r\n",
            400,
        ),
        (
            "a path in Host",
            "GET / HTTP/1.1\r\nHost: app.example.test/x\r\n\r\n",
            400,
        ),
        (
            "a user in Host",
            "GET / HTTP/1.1\r\nHost: user@app.example.test\r\n\r\n",
            400,
        ),
        (
            "a blank in Host",
            "GET / HTTP/1.1\r\nHost: app.example.test b.test\r\n\r\n",
            400,
        ),
        (
            "a list in Host",
            "GET / HTTP/1.1\r\nHost: app.example.test, b.test\r\n\r\n",
            400,
        ),
        (
            "a port that is none",
            "GET / HTTP/1.1\r\nHost: app.example.test:x\r\n\r\n",
            400,
        ),
        ("an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ];
    all_refused(&rows).await;
}

#[tokio::test]
async fn unclear_targets_are_refused() {
    let rows = [
        (
            "authority-form",
            "GET foo HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            400,
        ),
        (
            "authority-form with port",
            "GET b:80 HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            400,
        ),
        (
            "asterisk on GET",
            "GET * HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            400,
        ),
        (
            "a user in an absolute target",
            "GET http://u@app.example.test/ HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            400,
        ),
        (
            "CONNECT",
            "CONNECT app.example.test:80 HTTP/1.1\r\nHost: app.example.test:80\r\n\r\n",
            405,
        ),
        (
            "CONNECT with a path",
            "CONNECT /x HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            405,
        ),
        (
            "a blank in the target",
            "GET /a b HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            400,
        ),
        ("two blanks", "GET  / HTTP/1.1\r\nHost: app.example.test\r\n\r\n", 400),
        ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: app.example.test\r\n\r\n", 400),
        ("no version", "GET /\r\nHost: app.example.test\r\n\r\n", 400),
    ];
    all_refused(&rows).await;
}

#[tokio::test]
async fn unclear_framing_is_refused() {
    let post = |lines: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: app.example.test\r\n{lines}\r\n{body}");
    let chunked = "2\r\nab\r\n0\r\n\r\n";
    let rows = [
        (
            "gzip, chunked",
            post("Transfer-Encoding: gzip, chunked\r\n", chunked),
            400,
        ),
        (
            "identity, chunked",
            post("Transfer-Encoding: identity, chunked\r\n", chunked),
            400,
        ),
        (
            "chunked, chunked",
            post("Transfer-Encoding: chunked, chunked\r\n", chunked),
            400,
        ),
        (
            "chunked twice",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked),
            400,
        ),
        (
            "identity and chunked",
            post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", chunked),
            400,
        ),
        (
            "chunked, identity",
            post("Transfer-Encoding: chunked, identity\r\n", chunked),
            400,
        ),
        ("identity", post("Transfer-Encoding: identity\r\n", chunked), 400),
        ("xchunked", post("Transfer-Encoding: xchunked\r\n", chunked), 400),
        (
            "a vertical tab before chunked",
            post("Transfer-Encoding: \x0bchunked\r\n", chunked),
            400,
        ),
        (
            "Transfer-Encoding on 1.0",
            post("Transfer-Encoding: chunked\r\n", chunked).replace("HTTP/1.1", "HTTP/1.0"),
            400,
        ),
        (
            "lengths that differ",
            post("Content-Length: 2\r\nContent-Length: 3\r\n", "abc"),
            400,
        ),
        ("a list of lengths", post("Content-Length: 3, 3\r\n", "abc"), 400),
        ("a length with a sign", post("Content-Length: +3\r\n", "abc"), 400),
        ("a hexadecimal length", post("Content-Length: 0x3\r\n", "abc"), 400),
        ("an empty length", post("Content-Length:\r\n", ""), 400),
        (
            "a length beyond 64 bits",
            post("Content-Length: 18446744073709551616\r\n", ""),
            400,
        ),
        ("a negative length", post("Content-Length: -1\r\n", ""), 400),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(what, bytes, status)| (*what, bytes.as_str(), *status))
        .collect();
    all_refused(&rows).await;
}

#[tokio::test]
async fn malformed_header_lines_are_refused() {
    let get = |lines: &str| format!("GET / HTTP/1.1\r\nHost: app.example.test\r\n{lines}\r\n");
    let rows = [
        ("obs-fold", get("X-Folded: a\r\n b\r\n"), 400),
        ("a blank before the colon", get("X-Blank : a\r\n"), 400),
        ("no name", get(": a\r\n"), 400),
        ("no colon", get("X-Nothing\r\n"), 400),
        ("NUL in a value", get("X-Nul: a\0b\r\n"), 400),
        ("bare CR in a value", get("X-Cr: a\rb\r\n"), 400),
        ("a control in a value", get("X-Bell: a\x07b\r\n"), 400),
        (
            "a blank before the first header",
            "GET / HTTP/1.1\r\n Host: app.example.test\r\n\r\n".to_owned(),
            400,
        ),
        ("over 100 headers", get(&"X-Many: x\r\n".repeat(150)), 431),
        (
            "a head over 64 KiB",
            get(&format!("X-Big: {}\r\n", "x".repeat(100_000))),
            431,
        ),
        (
            "TLS",
            "\x16\x03\x01\x02\x00\x01\x00\x01\x02\x03\r\n\r\n".to_owned(),
            400,
        ),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(what, bytes, status)| (*what, bytes.as_str(), *status))
        .collect();
    all_refused(&rows).await;
}

#[tokio::test]
async fn target_too_long_is_refused() {
    let (backend, postern) = app().await;
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
        "x".repeat(100_000)
    );
    let (answer, then) = send(&postern, long.as_bytes()).await;
    // As a target or as a head, whichever limit is met first.
    assert!(
        [414, 431].contains(&answer.status()) && then == Closed,
        "{answer:?} {then:?}"
    );
    assert_eq!(backend.hits(), 0);
}

#[tokio::test]
async fn refusals_of_ours_are_problems_with_the_code() {
    let (_backend, postern) = app().await;
    let rows = [
        (
            "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
            400,
            "client:bad_request",
        ),
        (
            "POST / HTTP/1.1\r\nHost: app.example.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            400,
            "client:bad_request",
        ),
        (
            "GET foo HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            400,
            "client:bad_request",
        ),
        (
            "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
            405,
            "client:method_not_allowed",
        ),
    ];
    for (request, status, code) in rows {
        let answer = ask(postern.http, request).await;
        assert_eq!((request, answer.status()), (request, status));
        assert_eq!(answer.head.get("x-postern-error"), Some(code));
        assert_eq!(answer.json()["code"], code);
        assert!(answer.head.has("x-request-id"));
    }
}

#[tokio::test]
async fn unusual_but_clear_requests_pass_in_one_plain_form() {
    // What it is, the bytes, the request line and the Host that the app sees.
    let rows = [
        (
            "absolute-form",
            "GET http://app.example.test/a?b HTTP/1.1\r\nHost: other.test\r\n\r\n",
            "GET /a?b HTTP/1.1",
            HOST,
        ),
        (
            "absolute-form without a path",
            "GET http://app.example.test HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            "GET / HTTP/1.1",
            HOST,
        ),
        (
            "absolute-form with only a query",
            "GET http://app.example.test?q HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            "GET /?q HTTP/1.1",
            HOST,
        ),
        (
            "asterisk on OPTIONS",
            "OPTIONS * HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            "OPTIONS * HTTP/1.1",
            HOST,
        ),
        (
            "an unknown method",
            "FOO-BAR / HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            "FOO-BAR / HTTP/1.1",
            HOST,
        ),
        (
            "a method in small letters",
            "get / HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            "get / HTTP/1.1",
            HOST,
        ),
        (
            "empty lines first",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            "GET / HTTP/1.1",
            HOST,
        ),
        (
            "lines that end in LF alone",
            "GET / HTTP/1.1\nHost: app.example.test\n\n",
            "GET / HTTP/1.1",
            HOST,
        ),
        (
            "a fragment",
            "GET /a#b HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            "GET /a HTTP/1.1",
            HOST,
        ),
        (
            "an empty header",
            "GET / HTTP/1.1\r\nHost: app.example.test\r\nX-Empty:\r\n\r\n",
            "GET / HTTP/1.1",
            HOST,
        ),
    ];
    let (backend, postern) = app().await;
    for (what, bytes, line, host) in rows {
        let before = backend.hits();
        let (answer, then) = send(&postern, bytes.as_bytes()).await;
        assert_eq!((what, answer.status(), then), (what, 200, Open));
        let seen = &backend.heads()[before];
        assert_eq!((what, seen.line.as_str(), seen.get("host")), (what, line, Some(host)));
        let text = String::from_utf8_lossy(&seen.raw);
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{what}: {text:?}");
    }
}

#[tokio::test]
async fn length_beside_chunks_smuggles_nothing() {
    let (backend, postern) = app().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: app.example.test\r\n\r\n";
    for lines in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    ] {
        let bytes = format!("POST /outer HTTP/1.1\r\nHost: app.example.test\r\n{lines}\r\n0\r\n\r\n{smuggled}");
        let (answer, then) = send(&postern, bytes.as_bytes()).await;
        // hyper hides the length from us: it may pass as chunked alone, but the connection ends (RFC 9112 section 6.1).
        assert!([200, 400].contains(&answer.status()), "{answer:?}");
        assert_eq!(then, Closed);
    }
    for head in backend.heads() {
        assert_eq!(head.target(), "/outer");
        assert!(
            !(head.has("content-length") && head.has("transfer-encoding")),
            "{head:?}"
        );
    }
}

#[tokio::test]
async fn equal_lengths_reach_the_app_as_one() {
    let (backend, postern) = app().await;
    let bytes = "POST / HTTP/1.1\r\nHost: app.example.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc";
    let answer = ask(postern.http, bytes).await;
    if answer.status() == 200 {
        assert_eq!(backend.request().await.all("content-length"), ["3"]);
    } else {
        assert_eq!((answer.status(), backend.hits()), (400, 0));
    }
}

#[tokio::test]
async fn chunk_extensions_stay_behind() {
    let (sender, mut bodies) = tokio::sync::mpsc::channel(4);
    let backend = Backend::start(move |mut visit| {
        let sender = sender.clone();
        async move {
            while let Some(head) = visit.head().await {
                let raw = visit.wire.through(b"0\r\n\r\n").await;
                let _ = sender.send((head, raw)).await;
                visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let body = "3;a=\"b\"\r\nabc\r\n2 \r\nde\r\n0;last\r\n\r\n";
    let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    assert_eq!(ask(postern.http, request).await.status(), 200);
    let (head, raw) = bodies.recv().await.expect("a body");
    assert_eq!(head.all("transfer-encoding"), ["chunked"]);
    assert!(
        !raw.contains(&b';') && !raw.contains(&b' '),
        "{:?}",
        String::from_utf8_lossy(&raw)
    );
}

#[tokio::test]
async fn bad_chunks_never_reach_the_app_as_a_whole_body() {
    let broken = [
        "xyz\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabcdef\r\n0\r\n\r\n",
        "-1\r\n\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "3\r\nabc0\r\n\r\n",
    ];
    for body in broken {
        let (sender, mut ends) = tokio::sync::mpsc::channel(4);
        let backend = Backend::start(move |mut visit| {
            let sender = sender.clone();
            async move {
                visit.head().await;
                let _ = sender.send(visit.wire.rest().await.0).await;
            }
        })
        .await;
        let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
        let mut wire = Wire::connect(postern.http).await;
        wire.send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        ))
        .await;
        // An answer that blames the client, or none: the connection ends in either case.
        let (answer, _) = wire.rest().await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{body:?}: {answer}"
        );
        let seen = match tokio::time::timeout(Duration::from_millis(500), ends.recv()).await {
            Ok(Some(seen)) => seen,
            _ => Vec::new(),
        };
        assert!(
            !seen.ends_with(b"0\r\n\r\n"),
            "{body:?} reached the app as {:?}",
            String::from_utf8_lossy(&seen)
        );
    }
}

#[tokio::test]
async fn body_that_nobody_read_is_never_taken_for_a_request() {
    let (backend, postern) = app().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: app.example.test\r\n\r\n";
    // Refused by us before the body is read: unknown host, broken handshake, and one that the app answers unread.
    for head in [
        "POST / HTTP/1.1\r\nHost: unknown.test",
        "GET / HTTP/1.1\r\nHost: app.example.test\r\nConnection: Upgrade\r\nUpgrade: websocket",
    ] {
        let mut wire = Wire::connect(postern.http).await;
        wire.send(format!(
            "{head}\r\nContent-Length: {}\r\n\r\n{smuggled}{GET}",
            smuggled.len()
        ))
        .await;
        assert!((400..500).contains(&wire.answer().await.status()));
        if let Ok(next) = wire.try_head().await {
            assert_eq!(next.status(), 200, "the request behind the body");
        }
    }
    assert!(
        backend.heads().iter().all(|head| head.target() == "/next"),
        "{:?}",
        backend.heads()
    );
}

#[tokio::test]
async fn head_that_does_not_come_ends_the_connection() {
    let (backend, postern) = app().await;
    let start = Instant::now();
    let mut silent = Wire::connect(postern.http).await;
    let mut slow = Wire::connect(postern.http).await;
    slow.send("GET / HTTP/1.1\r\nHost: app.exa").await;
    let (silent, slow) = tokio::join!(silent.rest(), slow.rest());
    // 10 s, and never at once.
    assert!((8..18).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(silent, (Vec::new(), End::Fin));
    assert!(
        slow.0.is_empty() || slow.0.starts_with(b"HTTP/1.1 408"),
        "{:?}",
        String::from_utf8_lossy(&slow.0)
    );
    assert_eq!(backend.connections(), 0);
}
