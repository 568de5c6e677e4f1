//! Which endpoint gets a request: strategies, weights, and endpoints that are not ready.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Wire, get};
use crate::support::ws;

const HOST: &str = "app.example.test";

/// Answers plain requests with its name, and takes sockets.
async fn named(name: &'static str) -> Backend {
    Backend::start(move |mut visit| async move {
        while let Some(head) = visit.head().await {
            if head.has("upgrade") {
                visit.wire.send(ws::accepted(&head)).await;
                return visit.wire.echo().await;
            }
            visit
                .wire
                .send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
                    name.len()
                ))
                .await;
        }
    })
    .await
}

async fn three() -> [Backend; 3] {
    [named("a").await, named("b").await, named("c").await]
}

fn site(backends: &[Backend], strategy: &str) -> Site {
    let site = Site::new("app", HOST).spec(json!({"balancing": {"strategy": strategy}}));
    backends.iter().fold(site, |site, backend| site.to(backend.address))
}

/// Who answers that many requests, one after the other.
async fn answers(to: SocketAddr, count: usize) -> Vec<String> {
    let mut wire = Wire::connect(to).await;
    let mut names = Vec::new();
    for _ in 0..count {
        wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        let answer = wire.answer().await;
        names.push(if answer.status() == 200 {
            answer.text()
        } else {
            answer.status().to_string()
        });
    }
    names
}

fn counted(names: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.as_str()).or_default() += 1;
    }
    counts
}

/// A Deployment that splits its traffic by weight over the Services a, b (and others named).
async fn split(backends: Value, sites: Vec<Site>) -> Postern {
    let split = Site::new("split", HOST).spec(json!({"service": null, "backends": backends}));
    let mut all = vec![split];
    all.extend(sites);
    Postern::start(&all).await
}

fn backend(service: &str, weight: u32) -> Value {
    json!({"service": {"name": service, "port": 80}, "weight": weight})
}

#[tokio::test]
async fn round_robin_goes_round() {
    let backends = three().await;
    let postern = Postern::start(&[site(&backends, "RoundRobin")]).await;
    let names = answers(postern.http, 12).await;
    assert_eq!(counted(&names), BTreeMap::from([("a", 4), ("b", 4), ("c", 4)]));
    assert!(
        names.iter().zip(&names[3..]).all(|(name, later)| name == later),
        "{names:?}"
    );
}

#[tokio::test]
async fn random_reaches_all_about_equally() {
    let backends = three().await;
    let postern = Postern::start(&[site(&backends, "Random")]).await;
    let names = answers(postern.http, 300).await;
    // 100 each, within six standard deviations.
    let counts = counted(&names);
    assert!(
        counts.len() == 3 && counts.values().all(|count| (51..=149).contains(count)),
        "{counts:?}"
    );
}

#[tokio::test]
async fn least_connections_is_the_default_and_prefers_the_idle() {
    let backends = three().await;
    let site = backends
        .iter()
        .fold(Site::new("app", HOST), |site, backend| site.to(backend.address));
    let postern = Postern::start(&[site]).await;
    let mut sockets = Vec::new();
    // Six sockets: two each. A seventh makes one busier than the rest.
    for _ in 0..6 {
        sockets.push(ws::open(postern.http, HOST, "/").await);
    }
    let open: Vec<_> = backends.iter().map(Backend::hits).collect();
    assert_eq!(open, [2, 2, 2]);
    sockets.push(ws::open(postern.http, HOST, "/").await);
    let busy = backends
        .iter()
        .position(|backend| backend.hits() == 3)
        .expect("one has three");
    let names = answers(postern.http, 60).await;
    let counts = counted(&names);
    assert!(!counts.contains_key(["a", "b", "c"][busy]), "{counts:?}");
    // Ties are broken at random: the chance that one of two gets all 60 is 2^-59.
    assert_eq!(counts.len(), 2, "{counts:?}");
}

#[tokio::test]
async fn weights_split_the_requests() {
    let (a, b) = (named("a").await, named("b").await);
    let sites = vec![
        Site::new("a", "a.test").to(a.address),
        Site::new("b", "b.test").to(b.address),
    ];
    let postern = split(json!([backend("a", 1), backend("b", 3)]), sites).await;
    let names = answers(postern.http, 400).await;
    let counts = counted(&names);
    // 100 of 400, within six standard deviations of a draw.
    assert!((48..=152).contains(&counts["a"]), "{counts:?}");
    assert_eq!(counts["a"] + counts["b"], 400);
}

#[tokio::test]
async fn weight_zero_gets_nothing() {
    let (a, b) = (named("a").await, named("b").await);
    let sites = vec![
        Site::new("a", "a.test").to(a.address),
        Site::new("b", "b.test").to(b.address),
    ];
    let postern = split(json!([backend("a", 0), backend("b", 1)]), sites).await;
    assert_eq!(counted(&answers(postern.http, 50).await), BTreeMap::from([("b", 50)]));
}

#[tokio::test]
async fn backend_without_ready_endpoint_is_skipped() {
    let a = named("a").await;
    let sites = vec![Site::new("a", "a.test").to(a.address), Site::new("b", "b.test")];
    let postern = split(json!([backend("a", 1), backend("b", 999)]), sites).await;
    assert_eq!(counted(&answers(postern.http, 50).await), BTreeMap::from([("a", 50)]));
}

#[tokio::test]
async fn share_of_a_missing_service_is_refused() {
    let a = named("a").await;
    let sites = vec![Site::new("a", "a.test").to(a.address)];
    let postern = split(json!([backend("a", 1), backend("missing", 1)]), sites).await;
    let names = answers(postern.http, 200).await;
    let counts = counted(&names);
    assert!((57..=143).contains(&counts["503"]), "{counts:?}");
    assert_eq!(counts["a"] + counts["503"], 200);
}

#[tokio::test]
async fn terminating_endpoints_serve_only_when_none_is_ready() {
    let (ready, leaving) = (named("ready").await, named("leaving").await);
    let terminating = json!({"ready": false, "serving": true, "terminating": true});
    let alone = Site::new("app", HOST).endpoint(leaving.address, terminating);
    let postern = Postern::start(std::slice::from_ref(&alone)).await;
    assert_eq!(
        counted(&answers(postern.http, 10).await),
        BTreeMap::from([("leaving", 10)])
    );
    ws::open(postern.http, HOST, "/").await;

    postern.apply(&alone.to(ready.address));
    let switched = async || get(postern.http, HOST, "/").await.text() == "ready";
    crate::support::eventually("the ready one serves", switched).await;
    assert_eq!(
        counted(&answers(postern.http, 20).await),
        BTreeMap::from([("ready", 20)])
    );
}

#[tokio::test]
async fn each_path_goes_to_its_own_service() {
    let (a, b) = (named("a").await, named("b").await);
    let paths = json!({"paths": [
        {"path": "/api", "type": "Prefix", "service": {"name": "b", "port": 80}},
        {"path": "/api/exact", "type": "Exact"},
        {"path": "/"},
    ]});
    let sites = [
        Site::new("a", HOST).to(a.address).spec(paths),
        Site::new("b", "b.test").to(b.address),
    ];
    let postern = Postern::start(&sites).await;
    let cases = [
        ("/", "a"),
        ("/apix", "a"),
        ("/api", "b"),
        ("/api/", "b"),
        ("/api/x?y", "b"),
        ("/api/exact", "a"),
        ("/api/exact/x", "b"),
        ("/API", "a"),
    ];
    for (path, name) in cases {
        assert_eq!(
            (path, get(postern.http, HOST, path).await.text().as_str()),
            (path, name)
        );
    }
}
