//! Traces: what clients say of one is continued toward the app, a span of each request and socket reaches a collector, and a
//! collector that is away is nobody's concern.

use serde_json::{Value, json};

use crate::support::backend::{Backend, next};
use crate::support::collector::Collector;
use crate::support::head::Head;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Wire, ask, get};
use crate::support::{eventually, ws};

const HOST: &str = "app.example.test";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

async fn following(backend: &Backend, url: &str, more: &[&str]) -> Postern {
    let site = Site::new("app", HOST).to(backend.address);
    Postern::start_with(
        &[site],
        &[&["--otlp-endpoint", url, "--trusted-proxies", "127.0.0.1"], more].concat(),
    )
    .await
}

/// What the app saw of a request with these header lines.
async fn seen(postern: &Postern, backend: &Backend, path: &str, more: &str) -> Head {
    let answer = ask(
        postern.http,
        format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n"),
    )
    .await;
    assert_eq!(answer.status(), 200);
    backend.heads().last().expect("it reached the app").clone()
}

fn parts(head: &Head) -> Vec<String> {
    let parent = head.get("traceparent").expect("the app is told of a trace");
    parent.split('-').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_request_is_a_span_between_its_client_and_the_app() {
    let backend = Backend::saying("four").await;
    let collector = Collector::start().await;
    let postern = following(&backend, &collector.url(), &[]).await;
    let more = format!("User-Agent: ua\r\ntraceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: a=1,b=2\r\n");
    let told = parts(&seen(&postern, &backend, "/a?q=1", &more).await);
    let span = collector.span("/a").await;
    assert_eq!(told, ["00", TRACE, span["span"].as_str().unwrap_or_default(), "01"]);
    assert_eq!((&span["trace"], &span["parent"]), (&json!(TRACE), &json!(PARENT)));
    assert_eq!((&span["name"], &span["kind"]), (&json!("GET"), &json!("Server")));
    assert_eq!(span["status"], "Unset");
    assert!(span["start"].as_i64() < span["end"].as_i64(), "{span}");
    assert_eq!(span["resource"]["service.name"], "postern");
    assert!(span["resource"]["service.version"].is_string() && span["resource"]["service.instance.id"].is_string());
    let record = &postern.recorded("/a", 1).await[0];
    assert_eq!(record["traceId"], TRACE);
    assert_eq!(
        span["attributes"],
        json!({
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "http.request.body.size": 0,
            "http.response.body.size": 4,
            "url.scheme": "http",
            "url.path": "/a",
            "network.protocol.version": "1.1",
            "client.address": "127.0.0.1",
            "server.address": HOST,
            "user_agent.original": "ua",
            "postern.request_id": record["requestId"],
            "postern.namespace": "default",
            "postern.deployment": "app",
            "postern.upstream": backend.address.to_string(),
        })
    );
    assert_eq!(
        seen(&postern, &backend, "/a", &more).await.get("tracestate"),
        Some("a=1,b=2")
    );
}

#[tokio::test]
async fn a_trace_that_nobody_began_or_that_cannot_be_read_begins_here() {
    let backend = Backend::saying("ok").await;
    let collector = Collector::start().await;
    let postern = following(&backend, &collector.url(), &[]).await;
    for (path, more) in [
        ("/none", String::new()),
        (
            "/short",
            format!("traceparent: 00-{TRACE}-{PARENT}\r\ntracestate: a=1\r\n"),
        ),
        (
            "/zero",
            format!("traceparent: 00-{}-{PARENT}-01\r\ntracestate: a=1\r\n", "0".repeat(32)),
        ),
    ] {
        let head = seen(&postern, &backend, path, &more).await;
        let span = collector.span(path).await;
        let wanted = [
            "00",
            span["trace"].as_str().unwrap(),
            span["span"].as_str().unwrap(),
            "01",
        ];
        assert_eq!(parts(&head), wanted, "{path}");
        assert_ne!(span["trace"], TRACE);
        assert_eq!((&span["parent"], head.get("tracestate")), (&json!(""), None), "{path}");
    }
}

#[tokio::test]
async fn a_client_decides_neither_what_is_recorded_nor_under_which_id() {
    let backend = Backend::saying("ok").await;
    let collector = Collector::start().await;
    let site = Site::new("app", HOST).to(backend.address);
    let postern = Postern::start_with(&[site], &["--otlp-endpoint", &collector.url()]).await;
    for (path, flags) in [("/followed", "01"), ("/hidden", "00")] {
        let more = format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\ntracestate: a=1\r\n");
        let head = seen(&postern, &backend, path, &more).await;
        let span = collector.span(path).await;
        assert_eq!(
            parts(&head)[1..3],
            [span["trace"].as_str().unwrap(), span["span"].as_str().unwrap()]
        );
        assert_ne!(span["trace"], TRACE);
        assert_eq!((&span["parent"], head.get("tracestate")), (&json!(""), None), "{path}");
    }
}

#[tokio::test]
async fn a_refusal_is_a_span_too_and_an_error_where_it_is_one() {
    let backend = Backend::saying("ok").await;
    let collector = Collector::start().await;
    let lost = Site::new("lost", "lost.test").to("127.0.0.1:9".parse().expect("an address"));
    let flags = ["--otlp-endpoint", &collector.url()];
    let postern = Postern::start_with(&[Site::new("app", HOST).to(backend.address), lost], &flags).await;
    get(postern.http, "unknown.test", "/unknown").await;
    get(postern.http, "lost.test", "/lost").await;
    let unknown = collector.span("/unknown").await;
    assert_eq!(
        (&unknown["status"], &unknown["attributes"]["error.type"]),
        (&json!("Unset"), &json!("routing:host_not_found"))
    );
    let lost = collector.span("/lost").await;
    assert_eq!(
        (&lost["status"], &lost["attributes"]["error.type"]),
        (&json!("Error"), &json!("upstream:unreachable"))
    );
}

#[tokio::test]
async fn a_socket_is_a_span_from_its_handshake_to_its_end() {
    let (backend, mut sockets) = Backend::sockets().await;
    let collector = Collector::start().await;
    let postern = following(&backend, &collector.url(), &[]).await;
    let mut client = Wire::connect(postern.http).await;
    let more = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    client.send(ws::handshake(HOST, "/socket", &more)).await;
    assert_eq!(client.head().await.status(), 101);
    let mut app = next(&mut sockets).await;
    assert!(app.request.get("traceparent").is_some_and(|told| told.contains(TRACE)));
    client.send([0; 10]).await;
    app.wire.exactly(10).await;
    get(postern.http, HOST, "/later").await;
    collector.span("/later").await;
    assert_eq!(collector.spans().len(), 1, "an open socket has no span yet");
    drop(client);
    app.wire.rest().await;
    drop(app);
    let span = collector.span("/socket").await;
    assert_eq!((&span["name"], &span["parent"]), (&json!("WebSocket"), &json!(PARENT)));
    let names: Vec<_> = span["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["name"])
        .collect();
    assert_eq!(names, ["socket.open", "socket.close"]);
    assert_eq!(
        span["events"][1]["attributes"],
        json!({"postern.socket.closed_by": "client"})
    );
    assert_eq!(span["attributes"]["postern.socket.bytes_to_app"], 10);
    let times = [
        &span["start"],
        &span["events"][0]["time"],
        &span["events"][1]["time"],
        &span["end"],
    ];
    assert!(times.map(Value::as_i64).is_sorted(), "{span}");
}

#[tokio::test]
async fn who_began_a_trace_decides_whether_it_is_followed_and_else_the_ratio_which_is_hot() {
    let backend = Backend::saying("ok").await;
    let collector = Collector::start().await;
    let settings =
        |sample: f64| json!({"otlpEndpoint": collector.url(), "otlpSample": sample, "trustedProxies": ["127.0.0.1"]});
    let site = Site::new("app", HOST).to(backend.address);
    let postern = Postern::start_configured(&[site], &settings(0.0)).await;
    let own = parts(&seen(&postern, &backend, "/own", "").await);
    assert_eq!(own[3], "00");
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    let head = seen(
        &postern,
        &backend,
        "/unsampled",
        &format!("traceparent: {unsampled}\r\n"),
    )
    .await;
    assert_eq!(head.get("traceparent"), Some(&*unsampled));
    seen(
        &postern,
        &backend,
        "/sampled",
        &format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"),
    )
    .await;
    collector.span("/sampled").await;
    assert_eq!(collector.spans().len(), 1, "{:?}", collector.spans());

    postern.configure(&settings(1.0));
    let followed = async || parts(&seen(&postern, &backend, "/now", "").await)[3] == "01";
    eventually("traces that begin here are followed", followed).await;
    collector.span("/now").await;
}

#[tokio::test]
async fn without_a_collector_traces_pass_as_they_are() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let more = "traceparent: whatever it says\r\ntracestate: a=1\r\n";
    let head = seen(&postern, &backend, "/", more).await;
    assert_eq!(head.get("traceparent"), Some("whatever it says"));
    assert_eq!(head.get("tracestate"), Some("a=1"));
    assert!(!seen(&postern, &backend, "/", "").await.has("traceparent"));
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_spans_alone() {
    let backend = Backend::saying("ok").await;
    let postern = following(&backend, "http://127.0.0.1:9", &[]).await;
    seen(&postern, &backend, "/", "").await;
    let failed = async || {
        postern
            .metric("postern_trace_spans_total", &[("result", "failed")])
            .await
            >= 1.0
    };
    eventually("the span is given up", failed).await;
    seen(&postern, &backend, "/", "").await;
    let told = postern
        .log()
        .iter()
        .filter(|line| line.contains("does not accept spans"))
        .count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn a_collector_that_hangs_costs_spans_alone_and_gets_the_next_ones() {
    let backend = Backend::saying("ok").await;
    let collector = Collector::start().await;
    let postern = following(&backend, &collector.url(), &[]).await;
    seen(&postern, &backend, "/before", "").await;
    collector.span("/before").await;
    collector.pause();
    let mut client = Wire::connect(postern.http).await;
    let spans = async |result| postern.metric("postern_trace_spans_total", &[("result", result)]).await;
    let mut asked = 0;
    while spans("dropped").await == 0.0 {
        for _ in 0..100 {
            client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
            assert_eq!(client.answer().await.status(), 200);
        }
        asked += 100;
        assert!(asked < 10_000, "nothing is dropped");
    }
    collector.resume();
    let after = async || {
        seen(&postern, &backend, "/after", "").await;
        collector
            .spans()
            .iter()
            .any(|span| span["attributes"]["url.path"] == "/after")
    };
    eventually("spans arrive again", after).await;
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    let backend = Backend::saying("ok").await;
    let collector = Collector::start().await;
    let flags = ["--shutdown-delay", "0s", "--drain-deadline", "1s"];
    let postern = following(&backend, &collector.url(), &flags).await;
    seen(&postern, &backend, "/last", "").await;
    postern.terminate();
    collector.span("/last").await;
}
