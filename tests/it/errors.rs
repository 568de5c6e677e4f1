//! Postern's own answers: their shape, by what the client accepts, and that an upgrade gets what a plain request gets.

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::black_hole::refusing;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Wire, ask, get};
use crate::support::ws::handshake;

#[tokio::test]
async fn problem_json_says_what_happened() {
    let postern = Postern::start(&[]).await;
    let answer = get(postern.http, "unknown.test", "/x").await;
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.head.get("content-type"), Some("application/problem+json"));
    assert_eq!(answer.head.get("x-postern-error"), Some("routing:host_not_found"));
    assert_eq!(
        answer.head.get("content-length"),
        Some(answer.body.len().to_string().as_str())
    );
    let problem = answer.json();
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["code"], "routing:host_not_found");
    assert_eq!(problem["requestId"].as_str(), answer.head.get("x-request-id"));
    for text in ["type", "title", "detail"] {
        assert!(problem[text].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
}

#[tokio::test]
async fn accept_decides_between_json_and_html() {
    let postern = Postern::start(&[]).await;
    let cases = [
        ("", "application/problem+json"),
        ("Accept: */*\r\n", "application/problem+json"),
        ("Accept: application/json\r\n", "application/problem+json"),
        ("Accept: text/html\r\n", "text/html"),
        ("Accept: TEXT/HTML; charset=utf-8\r\n", "text/html"),
        (
            "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n",
            "text/html",
        ),
        (
            "Accept: text/html;q=0.5, application/json\r\n",
            "application/problem+json",
        ),
        ("Accept: application/json;q=0.5, text/html;q=0.6\r\n", "text/html"),
        ("Accept: application/problem+json;q=0.4, text/*;q=0.9\r\n", "text/html"),
        ("Accept: text/html;q=0, */*\r\n", "application/problem+json"),
        ("Accept: application/json;q=0.1\r\nAccept: text/html\r\n", "text/html"),
        ("Accept: ;;,q=x,/\r\n", "application/problem+json"),
    ];
    for (accept, expected) in cases {
        let answer = ask(postern.http, format!("GET / HTTP/1.1\r\nHost: no.test\r\n{accept}\r\n")).await;
        let kind = answer.head.get("content-type").unwrap_or_default();
        assert_eq!((accept, kind.split(';').next()), (accept, Some(expected)));
        assert_eq!(
            (answer.status(), answer.head.get("x-postern-error")),
            (404, Some("routing:host_not_found"))
        );
    }
}

#[tokio::test]
async fn html_holds_the_status_the_code_and_the_request_id() {
    let postern = Postern::start(&[]).await;
    let answer = ask(
        postern.http,
        "GET / HTTP/1.1\r\nHost: no.test\r\nAccept: text/html\r\n\r\n",
    )
    .await;
    let id = answer.head.get("x-request-id").expect("an id");
    let page = answer.text();
    assert!(page.to_ascii_lowercase().starts_with("<!doctype html>"), "{page}");
    for text in ["404", "routing:host_not_found", id] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
}

#[tokio::test]
async fn nothing_that_a_client_sends_comes_back_in_a_page() {
    let postern = Postern::start(&[]).await;
    let request = "GET /<script>alert(1)</script> HTTP/1.1\r\nHost: no.test\r\nAccept: text/html\r\nX-Request-Id: <script>\r\n\r\n";
    let page = String::from_utf8_lossy(&ask(postern.http, request).await.body).into_owned();
    assert!(!page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn head_gets_the_error_without_its_body() {
    let postern = Postern::start(&[]).await;
    let mut wire = Wire::connect(postern.http).await;
    wire.send("HEAD / HTTP/1.1\r\nHost: no.test\r\n\r\nGET / HTTP/1.1\r\nHost: no.test\r\n\r\n")
        .await;
    let head = wire.answer_to_head().await.head;
    assert_eq!(
        (head.status(), head.get("x-postern-error")),
        (404, Some("routing:host_not_found"))
    );
    // A body would stand where the next answer's head is.
    assert_eq!(wire.answer().await.status(), 404);
}

#[tokio::test]
async fn refused_upgrades_get_the_status_of_a_plain_request() {
    let (refused, _port) = refusing();
    let sites = [
        Site::new("empty", "empty.test"),
        Site::new("stopped", "stopped.test")
            .to(refused)
            .spec(json!({"state": "Stopped"})),
        Site::new("refused", "refused.test").to(refused),
        Site::new("astray", "astray.test").spec(json!({"service": {"name": "nowhere", "port": 80}})),
        Site::new("paths", "paths.test")
            .to(refused)
            .spec(json!({"paths": [{"path": "/only"}]})),
    ];
    let postern = Postern::start(&sites).await;
    // Host, status, code, the seconds in Retry-After.
    let cases = [
        ("unknown.test", 404, "routing:host_not_found", None),
        ("paths.test", 404, "routing:path_not_found", None),
        ("empty.test", 503, "capacity:no_ready_endpoint", Some(1..=5)),
        ("stopped.test", 503, "capacity:deployment_offline", Some(60..=60)),
        ("refused.test", 503, "upstream:unreachable", Some(1..=60)),
        ("astray.test", 503, "config:backend_not_found", Some(1..=60)),
    ];
    for (host, status, code, retry_after) in cases {
        for request in [
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            handshake(host, "/", ""),
        ] {
            let answer = ask(postern.http, request).await;
            assert_eq!((host, answer.status()), (host, status));
            assert_eq!((host, answer.head.get("x-postern-error")), (host, Some(code)));
            assert_eq!(answer.json()["code"], code);
            assert!(answer.head.has("x-request-id"));
            let told = answer
                .head
                .get("retry-after")
                .map(|seconds| seconds.parse::<u32>().expect("seconds"));
            match &retry_after {
                None => assert_eq!((host, told), (host, None)),
                Some(range) => assert!(
                    told.is_some_and(|told| range.contains(&told)),
                    "{host}: Retry-After {told:?}"
                ),
            }
        }
    }
}

/// A newer Postern's field, or a typo, takes no app away; what cannot be decoded at all says so.
#[tokio::test]
async fn a_host_that_is_claimed_is_never_not_found() {
    let backend = Backend::saying("hello").await;
    let site = |name: &str, spec: Value| {
        let site = Site::new(name, &format!("{name}.test")).to(backend.address);
        site.spec(spec)
    };
    let sites = [
        site("newer", json!({"retries": {"count": 3}})),
        site(
            "protecting",
            json!({"clientTls": {"caRef": {"kind": "ConfigMap", "name": "ca"}, "pins": []}}),
        ),
        site("mistyped", json!({"timeouts": {"idle": "soon"}})),
    ];
    let postern = Postern::start_with(&sites, &["--lenient"]).await;
    assert_eq!(get(postern.http, "newer.test", "/").await.text(), "hello");
    for host in ["protecting.test", "mistyped.test"] {
        for request in [
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            handshake(host, "/", ""),
        ] {
            let answer = ask(postern.http, request).await;
            assert_eq!((host, answer.status()), (host, 503));
            assert_eq!(answer.head.get("x-postern-error"), Some("config:deployment_invalid"));
        }
    }
    // While it runs, the last good version stays.
    postern.apply(&Site::new("app", "app.test").to(backend.address));
    postern.says("app.test", "hello").await;
    postern.apply(&site("app", json!({"retries": {"count": 3}, "state": "Stopped"})));
    postern.tells("unknown fields: spec.retries").await;
    assert_eq!(get(postern.http, "app.test", "/").await.text(), "hello");
}

#[tokio::test]
async fn retry_after_of_an_empty_deployment_is_spread() {
    let postern = Postern::start(&[Site::new("empty", "empty.test")]).await;
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let answer = get(postern.http, "empty.test", "/").await;
        told.insert(answer.head.get("retry-after").expect("a Retry-After").to_owned());
    }
    // The chance that 60 draws out of 5 are all equal is below 10^-40.
    assert!(told.len() > 1, "{told:?}");
}

#[tokio::test]
async fn errors_tell_nothing_of_what_is_behind() {
    let (refused, _port) = refusing();
    let postern = Postern::start(&[Site::new("app", "app.test").to(refused)]).await;
    let answer = get(postern.http, "app.test", "/").await;
    let port = refused.port().to_string();
    assert_eq!(answer.status(), 503);
    assert!(!answer.text().contains(&port), "{}", answer.text());
}

#[tokio::test]
async fn answer_of_the_app_is_not_dressed_up() {
    let backend = Backend::answering("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops").await;
    let postern = Postern::start(&[Site::new("app", "app.test").to(backend.address)]).await;
    let answer = get(postern.http, "app.test", "/").await;
    assert_eq!((answer.status(), answer.text().as_str()), (500, "oops"));
    assert!(!answer.head.has("x-postern-error"));
    assert!(!answer.head.has("retry-after"));
}

#[tokio::test]
async fn every_answer_is_counted_by_class_and_reason() {
    let backend = Backend::saying("ok").await;
    let sites = [
        Site::new("app", "app.test").to(backend.address),
        Site::new("empty", "empty.test"),
    ];
    let postern = Postern::start(&sites).await;
    for _ in 0..3 {
        get(postern.http, "app.test", "/").await;
        get(postern.http, "empty.test", "/").await;
    }
    let requests = async |labels: &[(&str, &str)]| postern.metric("postern_requests_total", labels).await;
    assert_eq!(
        requests(&[("deployment", "app"), ("code", "2xx"), ("reason", "")]).await,
        3.0
    );
    let reason = ("reason", "capacity:no_ready_endpoint");
    assert_eq!(requests(&[("deployment", "empty"), ("code", "5xx"), reason]).await, 3.0);
}
