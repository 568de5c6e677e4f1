//! The admin port's figures: what each one counts, in a form that Prometheus reads, without a host, path or client in it.

use std::collections::BTreeSet;

use postern::metrics::family;
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

#[tokio::test]
async fn the_series_of_a_deployment_go_with_it_and_its_last_socket() {
    let (backend, mut sockets) = Backend::sockets().await;
    let policy = json!({
        "apiVersion": "postern.dev/v1alpha1", "kind": "SentinelPolicy",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {"targetRefs": [{"name": "app"}], "rules": [{"name": "open", "firewall": {"action": "Allow"}}]},
    });
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address).with(policy)]).await;
    let client = ws::open(postern.http, HOST, "/").await;
    let mut app = next(&mut sockets).await.wire;
    let series = async |labels: &'static str| {
        let text = postern.ask_admin("/metrics").await.text();
        text.lines().filter(|line| line.contains(labels)).count()
    };
    assert!(series("deployment=\"app\"").await > 5);
    assert!(series("policy=\"app\"").await > 0);

    postern.remove("app");
    postern.refuses(HOST, "routing:host_not_found").await;
    assert_eq!(
        postern.metric("postern_websockets_open", &[APP]).await,
        1.0,
        "a socket that is open is told of"
    );
    drop(client);
    app.rest().await;
    drop(app);
    eventually("no series is left", async || {
        series("deployment=\"app\"").await == 0 && series("policy=\"app\"").await == 0
    })
    .await;
}

#[tokio::test]
async fn what_clients_send_makes_no_series() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let ask = async |nth: usize| {
        for (host, line) in [
            (HOST.to_owned(), format!("GET /{nth}?q={nth}")),
            (HOST.to_owned(), format!("X{nth} /")),
            (format!("h{nth}.test"), "GET /".to_owned()),
        ] {
            let mut client = Wire::connect(postern.http).await;
            client
                .send(format!("{line} HTTP/1.1\r\nHost: {host}\r\nX-N{nth}: {nth}\r\n\r\n"))
                .await;
            client.answer().await;
        }
    };
    let series = async || {
        let text = postern.ask_admin("/metrics").await.text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let names = lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()));
        // Gauges of connections come and go with time.
        let names = names.filter(|name| !name.starts_with("postern_upstream_connections"));
        names.collect::<BTreeSet<_>>()
    };
    ask(0).await;
    let before = series().await;
    for nth in 1..50 {
        ask(nth).await;
    }
    assert_eq!(series().await, before);
}

#[tokio::test]
async fn every_sample_has_the_labels_that_its_family_is_said_to_have() {
    let (backend, mut sockets) = Backend::sockets().await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let client = ws::open(postern.http, HOST, "/").await;
    let app = next(&mut sockets).await.wire;
    get(postern.http, "unknown.test", "/").await;
    drop((client, app));
    let closed = async || postern.metric("postern_websockets_closed_total", &[APP]).await == 1.0;
    eventually("the socket is closed", closed).await;
    let text = postern.ask_admin("/metrics").await.text();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a sample");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels
            .trim_end_matches('}')
            .split("\",")
            .filter(|label| !label.is_empty());
        let labels: Vec<_> = labels.filter_map(|label| Some(label.split_once('=')?.0)).collect();
        let family = family::ALL.iter().find(|family| {
            let full = family.full_name();
            name.strip_prefix(&full)
                .is_some_and(|end| ["", "_bucket", "_sum", "_count"].contains(&end))
        });
        let family = family.unwrap_or_else(|| panic!("{line} is of no family"));
        let le = name.ends_with("_bucket").then_some("le");
        let said: Vec<_> = le.into_iter().chain(family.labels.iter().copied()).collect();
        assert_eq!(labels, said, "{line}");
    }
}
