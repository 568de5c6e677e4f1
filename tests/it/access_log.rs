//! The access log: one record for every request, whoever answered it; one at a socket's opening and one at its end; no more
//! than the operator wants, and nobody waits for whoever reads it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::backend::{Backend, next};
use crate::support::guarded::{policy, policy_with, secret};
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Wire, get};
use crate::support::{eventually, ws};

const HOST: &str = "app.example.test";

fn strings<const N: usize>(record: &Value, fields: [&str; N]) -> [String; N] {
    fields.map(|field| match &record[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

/// The record of the end of the socket whose opening is told of by another.
async fn closed(postern: &Postern, opened: &Value) -> Value {
    let end = || {
        let mut records = postern.records().into_iter();
        records.find(|record| record["event"] == "socketClosed" && record["requestId"] == opened["requestId"])
    };
    eventually("the end of the socket is told of", async || end().is_some()).await;
    end().expect("is there")
}

#[tokio::test]
async fn every_request_is_told_of_once_whoever_answers_it() {
    let backend = Backend::saying("four").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!(
            "POST /a?secret=1 HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: ua\r\nContent-Length: 10\r\n\r\n0123456789"
        ))
        .await;
    let answer = client.answer().await;
    client.send("GET /b HTTP/1.1\r\nHost: nobody.test\r\n\r\n").await;
    let refused = client.answer().await;
    Http2::plain(postern.http).await.get(HOST, "/c").await;

    let served = &postern.recorded("/a", 1).await[0];
    let upstream = backend.address.to_string();
    assert_eq!(
        strings(
            served,
            ["event", "method", "host", "protocol", "scheme", "status", "remoteIp"]
        ),
        ["request", "POST", HOST, "HTTP/1.1", "http", "200", "127.0.0.1"]
    );
    assert_eq!(
        strings(
            served,
            [
                "namespace",
                "deployment",
                "upstream",
                "userAgent",
                "bytesIn",
                "bytesOut",
                "code"
            ]
        ),
        ["default", "app", &upstream, "ua", "10", "4", "null"]
    );
    assert_eq!(served["requestId"].as_str(), answer.head.get("x-request-id"));
    assert_eq!(served["query"], Value::Null, "a query may hold anything");
    assert!(
        served["durationMs"].as_f64().is_some_and(|millis| millis > 0.0),
        "{served}"
    );
    assert_eq!(served["complete"], Value::Null, "said only where it is not");
    let time = served["time"].as_str().unwrap_or_default();
    assert!(
        time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'),
        "{time}"
    );

    let unknown = &postern.recorded("/b", 1).await[0];
    assert_eq!(
        strings(unknown, ["status", "code", "host", "deployment", "upstream"]),
        ["404", "routing:host_not_found", "nobody.test", "null", "null"]
    );
    assert_eq!(unknown["bytesOut"].as_u64(), Some(refused.body.len() as u64));
    let over_http2 = &postern.recorded("/c", 1).await[0];
    assert_eq!(
        strings(over_http2, ["protocol", "host", "status"]),
        ["HTTP/2", HOST, "200"]
    );
    assert_eq!(postern.records().len(), 3);
}

#[tokio::test]
async fn a_socket_is_told_of_when_it_opens_and_when_it_closes() {
    let (backend, mut sockets) = Backend::sockets().await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    for (path, by) in [("/client", "client"), ("/app", "app")] {
        let mut client = ws::open(postern.http, HOST, path).await;
        let mut app = next(&mut sockets).await.wire;
        client.send([0; 1000]).await;
        app.exactly(1000).await;
        app.send([0; 30]).await;
        client.exactly(30).await;
        let opened = &postern.recorded(path, 1).await[0];
        assert_eq!(
            strings(opened, ["event", "status", "bytesIn", "closedBy"]),
            ["socketOpened", "101", "null", "null"]
        );
        if by == "client" {
            client.finish().await;
            app.rest().await;
        } else {
            app.finish().await;
            client.rest().await;
        }
        drop((client, app));
        let closed = &closed(&postern, opened).await;
        assert_eq!(
            strings(
                closed,
                ["bytesIn", "bytesOut", "closedBy", "remoteIp", "namespace", "deployment"]
            ),
            ["1000", "30", by, "127.0.0.1", "default", "app"]
        );
        assert_eq!(closed["path"], Value::Null, "told at its opening");
        assert!(
            closed["durationMs"].as_f64() > opened["durationMs"].as_f64(),
            "{closed}"
        );
    }
    assert_eq!(postern.records().len(), 4);
}

#[tokio::test]
async fn requests_that_come_to_no_good_end_are_told_of_too() {
    let (backend, mut visits) = Backend::visits().await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let ask = async |path: &str| {
        let mut client = Wire::connect(postern.http).await;
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
            .await;
        client
    };
    let client = ask("/left").await;
    let mut visit = next(&mut visits).await;
    visit.request().await.expect("a request");
    drop(client);
    let left = &postern.recorded("/left", 1).await[0];
    assert_eq!(
        strings(left, ["status", "code", "complete"]),
        ["499", "client:closed_request", "false"]
    );

    let mut client = ask("/cut").await;
    let mut visit = next(&mut visits).await;
    visit.request().await.expect("a request");
    visit
        .wire
        .send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        .await;
    client.through(b"half").await;
    drop(visit);
    let cut = &postern.recorded("/cut", 1).await[0];
    assert_eq!(strings(cut, ["status", "bytesOut", "complete"]), ["200", "4", "false"]);
}

#[tokio::test]
async fn it_changes_while_running_to_what_rules_want_and_to_nothing() {
    let backend = Backend::saying("ok").await;
    let rules = json!([{"name": "log", "match": [{"path": {"prefix": "/told"}}], "logging": {}}]);
    let site = Site::new("app", HOST).to(backend.address).with(policy("app", rules));
    let postern = Postern::start_configured(&[site], &json!({"accessLog": "rules"})).await;
    let ask = async |path: &str| get(postern.http, HOST, path).await.status();
    ask("/silent").await;
    ask("/told").await;
    postern.recorded("/told", 1).await;

    postern.configure(&json!({"accessLog": "off"}));
    postern.tells("settings changed").await;
    let off = async || {
        let before = postern.records().len();
        ask("/told/then").await;
        ask("/silent").await;
        postern.configure(&json!({"accessLog": "off"}));
        postern.records().len() == before
    };
    eventually("nothing is told of", off).await;

    postern.configure(&json!({"accessLog": "all"}));
    let on = async || {
        ask("/now").await;
        postern.records().iter().any(|record| record["path"] == "/now")
    };
    eventually("all is told of", on).await;
    assert!(postern.records().iter().all(|record| record["path"] != "/silent"));
}

#[tokio::test]
async fn a_stdout_that_nobody_reads_costs_records_and_delays_nobody() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start_unread(&[Site::new("app", HOST).to(backend.address)]).await;
    let mut client = Wire::connect(postern.http).await;
    let path = "x".repeat(2000);
    let dropped = async || postern.metric("postern_access_log_dropped_total", &[]).await;
    let mut asked = 0;
    while dropped().await == 0.0 {
        for _ in 0..100 {
            client
                .send(format!("GET /{path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
                .await;
            assert_eq!(client.answer().await.status(), 200);
        }
        asked += 100;
        assert!(asked < 10_000, "nothing is dropped");
    }
}

#[tokio::test]
async fn the_last_records_are_written_before_the_end() {
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST).to(backend.address);
    let flags = ["--shutdown-delay", "0s", "--drain-deadline", "1s"];
    let mut postern = Postern::start_with(&[site], &flags).await;
    for _ in 0..50 {
        get(postern.http, HOST, "/last").await;
    }
    postern.terminate();
    let mut ended = || postern.has_exited().is_some();
    eventually("it ends", || std::future::ready(ended())).await;
    assert_eq!(postern.recorded("/last", 50).await.len(), 50);
}

/// Of one run that has them all.
#[tokio::test]
async fn the_documentation_lists_the_fields_that_records_have() {
    let (backend, mut visits) = Backend::visits().await;
    let rules = json!([
        {"name": "keys", "apiKey": {"secretSelector": {"matchLabels": {"app": "app"}}}},
        {"name": "log", "logging": {"requestHeaders": ["Accept"], "responseHeaders": ["Upgrade"], "query": true}},
    ]);
    let site = Site::new("app", HOST)
        .to(backend.address)
        .with(policy_with("app", json!({"rules": rules})))
        .with(secret("api-key", "one", json!({"key": "sesame"})));
    let postern = Postern::start_with(&[site], &["--trusted-proxies", "127.0.0.1"]).await;
    let more = "Authorization: Bearer sesame\r\nUser-Agent: ua\r\nAccept: */*\r\n\
                traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let mut client = Wire::connect(postern.http).await;
    client.send(ws::handshake(HOST, "/all?q=1", more)).await;
    let mut app = next(&mut visits).await;
    let (request, _) = app.request().await.expect("a handshake");
    app.wire.send(ws::accepted(&request)).await;
    assert_eq!(client.head().await.status(), 101);
    drop((client, app));
    let mut client = Wire::connect(postern.http).await;
    client
        .send(format!("GET /left HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n"))
        .await;
    // The app stays, so that it is the client who leaves first.
    let mut left = next(&mut visits).await;
    left.request().await.expect("a request");
    drop(client);
    postern.recorded("/left", 1).await;
    get(postern.http, "nobody.test", "/refused").await;
    closed(&postern, &postern.recorded("/all", 1).await[0]).await;
    postern.recorded("/refused", 1).await;
    let found: BTreeSet<_> = postern
        .records()
        .iter()
        .flat_map(|record| record.as_object().cloned().unwrap_or_default())
        .map(|(field, _)| field)
        .collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/postern/docs/observability.md");
    let text = fs::read_to_string(file).expect("reads");
    let (_, rest) = text.split_once("<!-- begin fields -->").expect("the table begins");
    let (table, _) = rest.split_once("<!-- end fields -->").expect("the table ends");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: BTreeSet<_> = rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect();
    assert_eq!(found, told);
}
