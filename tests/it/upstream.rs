//! Connections to apps: reused, left in time, never shared by two answers; and answers of apps that are not what they should
//! be. Dialling is in dial.rs.

use std::time::{Duration, Instant};

use crate::support::backend::{Backend, echoing_bodies};
use crate::support::exchange::{GET, HOST, exchange, in_front_of};
use crate::support::wire::{Wire, ask, get};

const EMPTY_POST: &str = "POST / HTTP/1.1\r\nHost: app.example.test\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn http10_answer_of_the_app_keeps_an_http11_client() {
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    for _ in 0..2 {
        let (mut app, _) = exchange(&mut client, &mut visits, GET).await;
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
    let backend = echoing_bodies().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    for request in [GET, EMPTY_POST, GET] {
        client.send(request).await;
        assert_eq!(client.answer().await.status(), 200);
    }
    assert_eq!((backend.hits(), backend.connections()), (3, 1));
}

#[tokio::test]
async fn close_of_the_app_is_its_own_affair() {
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    // The client's connection stays; the next request, one that must not be repeated, goes over a new one.
    for _ in 0..3 {
        let (mut app, _) = exchange(&mut client, &mut visits, EMPTY_POST).await;
        app.wire
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(client.answer().await.text(), "ok");
    }
    assert_eq!(backend.connections(), 3);
}

#[tokio::test]
async fn body_without_length_goes_to_the_end_of_the_connection() {
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    for _ in 0..2 {
        let (mut app, _) = exchange(&mut client, &mut visits, GET).await;
        app.wire.send("HTTP/1.1 200 OK\r\n\r\nall there is").await;
        drop(app);
        assert_eq!(client.answer().await.text(), "all there is");
    }
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
    let (backend, mut visits) = Backend::visits().await;
    let postern = in_front_of(&backend).await;
    let mut client = Wire::connect(postern.http).await;
    let (mut app, _) = exchange(&mut client, &mut visits, GET).await;
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
