//! The admin port's figures: what each one counts, in a form that Prometheus reads, without a host, path or client in it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::backend::{Backend, next};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Wire, get};
use crate::support::{eventually, ws};

const HOST: &str = "app.example.test";
const APP: (&str, &str) = ("deployment", "app");

#[tokio::test]
async fn sockets_are_counted_with_their_bytes_and_their_time() {
    let (backend, mut sockets) = Backend::sockets().await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let metric = async |name: &str, label: (&str, &str)| postern.metric(name, &[APP, label]).await;
    let namespace = ("namespace", "default");
    for opened in 1..=3 {
        let mut client = ws::open(postern.http, HOST, "/").await;
        let mut app = next(&mut sockets).await.wire;
        assert_eq!(metric("postern_websockets_open", namespace).await, 1.0);
        assert_eq!(
            metric("postern_websockets_opened_total", namespace).await,
            f64::from(opened)
        );
        client.send([0; 1000]).await;
        app.exactly(1000).await;
        app.send([0; 30]).await;
        client.exactly(30).await;
        drop(client);
        app.rest().await;
        drop(app);
        let closed = async || metric("postern_websockets_open", namespace).await == 0.0;
        eventually("the socket is closed", closed).await;
    }
    assert_eq!(
        metric("postern_websocket_bytes_total", ("direction", "to_app")).await,
        3000.0
    );
    assert_eq!(
        metric("postern_websocket_bytes_total", ("direction", "to_client")).await,
        90.0
    );
    assert_eq!(
        metric("postern_websockets_closed_total", ("closed_by", "client")).await,
        3.0
    );
    assert_eq!(metric("postern_websocket_duration_seconds_count", namespace).await, 3.0);
    // An upgrade is a request; how long its socket lived is not how long a request took.
    assert_eq!(metric("postern_requests_total", ("code", "1xx")).await, 3.0);
    assert_eq!(metric("postern_request_duration_seconds_count", namespace).await, 0.0);
}

#[tokio::test]
async fn requests_are_counted_with_their_time_and_their_connections() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let mut client = Wire::connect(postern.http).await;
    for _ in 0..5 {
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        client.answer().await;
    }
    let metric = async |name: &str, labels: &[(&str, &str)]| postern.metric(name, &[&[APP], labels].concat()).await;
    assert_eq!(
        metric("postern_requests_total", &[("code", "2xx"), ("reason", "")]).await,
        5.0
    );
    assert_eq!(metric("postern_request_duration_seconds_count", &[]).await, 5.0);
    assert_eq!(metric("postern_dial_attempts_total", &[]).await, 1.0);
    let idle = async || metric("postern_upstream_connections", &[("state", "idle")]).await == 1.0;
    eventually("the connection is idle", idle).await;
    let closed = async || metric("postern_upstream_connections", &[]).await == 0.0;
    eventually("the idle connection is closed", closed).await;
}

#[tokio::test]
async fn requests_that_no_deployment_gets_are_counted_too() {
    let postern = Postern::start(&[]).await;
    for _ in 0..3 {
        get(postern.http, "unknown.test", "/").await;
    }
    let labels = [("reason", "routing:host_not_found"), ("code", "4xx")];
    assert_eq!(postern.metric("postern_requests_total", &labels).await, 3.0);
}

#[tokio::test]
async fn endpoints_and_objects_are_counted_by_state() {
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .endpoint("127.0.0.1:9".parse().expect("an address"), json!({"ready": false}));
    let postern = Postern::start(&[site]).await;
    assert_eq!(
        postern.metric("postern_endpoints", &[APP, ("state", "ready")]).await,
        1.0
    );
    assert_eq!(
        postern
            .metric("postern_endpoints", &[APP, ("state", "not_ready")])
            .await,
        1.0
    );
    assert_eq!(
        postern
            .metric("postern_objects", &[("kind", "Deployment"), ("state", "accepted")])
            .await,
        1.0
    );
    assert_eq!(postern.metric("postern_objects", &[("kind", "Service")]).await, 1.0);
    assert_eq!(
        postern.metric("postern_objects", &[("kind", "EndpointSlice")]).await,
        2.0
    );
}

#[tokio::test]
async fn counts_outlive_a_change_of_configuration() {
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST).to(backend.address);
    let postern = Postern::start(std::slice::from_ref(&site)).await;
    get(postern.http, HOST, "/").await;
    postern.apply(&site.spec(json!({"hostnames": ["moved.test"], "deploymentId": "new"})));
    postern.answers("moved.test", 200).await;
    let answered = postern.metric("postern_requests_total", &[APP, ("code", "2xx")]).await;
    assert!(answered >= 2.0, "{answered}");
    assert!(postern.metric("postern_snapshot_version", &[]).await >= 2.0);
}

#[tokio::test]
async fn equal_manifests_give_equal_hashes() {
    let sites = [
        Site::new("app", HOST).to("127.0.0.1:9".parse().expect("an address")),
        Site::new("b", "b.test"),
    ];
    let hash = async |sites: &[Site]| {
        let postern = Postern::start(sites).await;
        let text = postern.ask_admin("/metrics").await.text();
        let line = text
            .lines()
            .find(|line| line.starts_with("postern_snapshot_info{"))
            .map(str::to_owned);
        line.expect("the hash is told")
    };
    let [one, two] = [hash(&sites).await, hash(&sites).await];
    assert_eq!(one, two);
    assert_ne!(one, hash(&sites[..1]).await);
}

#[tokio::test]
async fn text_is_openmetrics_and_names_no_host_path_or_client() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    get(postern.http, HOST, "/some/path").await;
    get(postern.http, "other.example.test", "/some/path").await;
    let answer = postern.ask_admin("/metrics").await;
    let kind = answer.head.get("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"));
    for word in ["example.test", "some/path", "127.0.0.1"] {
        assert!(!text.contains(word), "{word} is in {text}");
    }
    // Every sample belongs to a family with a type and a help, and no sample is there twice.
    let families: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let helped: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(families, helped);
    let mut series = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a sample");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(series.insert(name), "{name} is there twice");
        let name = name.split('{').next().unwrap_or_default();
        let known = ["", "_total", "_bucket", "_sum", "_count", "_info"]
            .iter()
            .any(|end| name.strip_suffix(end).is_some_and(|name| families.contains(name)));
        assert!(known, "{line} belongs to no family");
    }
}
