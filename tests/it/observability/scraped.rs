//! A real Prometheus scrapes a real Postern that has served traffic: it takes all that is said, finds each Deployment's own
//! namespace on it, and makes something of every expression of the chart's.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

use super::{dashboards, file, rules, targets};
use crate::support::backend::{Backend, Socket, next};
use crate::support::certs::Authority;
use crate::support::chart::{objects, render};
use crate::support::guarded::policy;
use crate::support::postern::Postern;
use crate::support::prometheus::{Prometheus, selectors};
use crate::support::site::Site;
use crate::support::tls::Client;
use crate::support::wire::get;
use crate::support::{LIMIT, eventually, ws};

const HOST: &str = "app.example.test";
/// Of Postern's pods.
const NAMESPACE: &str = "postern-system";

/// They begin with an apiserver, which a folder of manifests has not.
const OF_A_CLUSTER: [&str; 4] = [
    "postern_state_saves_total",
    "postern_status_writes_total",
    "postern_undecodable_total",
    "postern_watch_restarts_total",
];

/// The scrape configuration that the operator makes of the chart's monitors, as far as they say anything.
fn honor_labels() -> Vec<Value> {
    let monitors = &["metrics.podMonitor.enabled=true", "metrics.serviceMonitor.enabled=true"];
    let rendered = objects(&render(monitors).unwrap());
    let lists = rendered
        .iter()
        .flat_map(|object| [&object["spec"]["podMetricsEndpoints"], &object["spec"]["endpoints"]]);
    lists
        .filter_map(|list| Some(list.get(0)?["honorLabels"].clone()))
        .collect()
}

async fn prometheus(postern: &Postern) -> Prometheus {
    let honor_labels = honor_labels();
    assert_eq!(honor_labels, [json!(true), json!(true)]);
    let config = json!({
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [{
            "job_name": "postern",
            "honor_labels": honor_labels[0],
            "static_configs": [{
                "targets": [postern.admin.to_string()],
                "labels": {"namespace": NAMESPACE, "pod": "postern-0"},
            }],
        }],
    });
    Prometheus::start(&config, &[("alerts.yaml", &file("alerts.yaml"))]).await
}

/// A Deployment that serves, behind rules; one whose endpoint refuses, and one that has none that is ready.
async fn world() -> (Postern, Traffic) {
    let (backend, sockets) = Backend::sockets().await;
    let authority = Authority::new("authority");
    let deny = |path: &str| json!([{"path": {"prefix": path}}]);
    let guard = policy(
        "guard",
        json!([
            {"name": "no-admin", "match": deny("/admin"), "firewall": {"action": "Deny"}},
            {"name": "dark", "mode": "Shadow", "match": deny("/dark"), "firewall": {"action": "Deny"}},
        ]),
    );
    let nowhere = "127.0.0.1:9".parse().expect("an address");
    let sites = [
        Site::new("app", HOST)
            .to(backend.address)
            .with(guard)
            .tls(&authority.server(&[HOST])),
        Site::new("refusing", "refusing.test").to(nowhere),
        sick(),
    ];
    let postern = Postern::start(&sites).await;
    let traffic = Traffic {
        _backend: backend,
        client: Client::of(&authority),
        sockets,
        rounds: 0,
    };
    (postern, traffic)
}

fn sick() -> Site {
    let nowhere = "127.0.0.1:9".parse().expect("an address");
    Site::new("sick", "sick.test").endpoint(nowhere, json!({"ready": false}))
}

struct Traffic {
    _backend: Backend,
    client: Client,
    sockets: Receiver<Socket>,
    rounds: usize,
}

impl Traffic {
    /// One of each, a change of configuration included.
    async fn round(&mut self, postern: &Postern) {
        self.rounds += 1;
        postern.apply(&sick().spec(json!({"deploymentId": format!("{}", self.rounds)})));
        for (host, path, status) in [
            (HOST, "/", 200),
            (HOST, "/dark", 200),
            (HOST, "/admin", 403),
            ("refusing.test", "/", 503),
            ("sick.test", "/", 503),
            ("nobody.test", "/", 404),
        ] {
            assert_eq!(get(postern.http, host, path).await.status(), status, "{host}{path}");
        }
        drop(self.client.connect(postern.https, HOST).await);
        for ends in [true, false] {
            let mut client = ws::open(postern.http, HOST, "/").await;
            let mut app = next(&mut self.sockets).await.wire;
            client.send([0; 100]).await;
            app.exactly(100).await;
            app.send([0; 100]).await;
            client.exactly(100).await;
            let (first, mut second) = if ends { (client, app) } else { (app, client) };
            drop(first);
            second.rest().await;
        }
    }
}

/// As the dashboard has it once everything is chosen.
fn filled(expression: &str) -> String {
    let whole = ["$job", "$namespace", "$deployment"];
    let filled = whole
        .iter()
        .fold(expression.to_owned(), |text, name| text.replace(name, ".*"));
    filled.replace("$__rate_interval", "10s")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_expression_says_something_of_a_postern_that_serves() {
    let (postern, mut traffic) = world().await;
    let prometheus = prometheus(&postern).await;
    let open = ws::open(postern.http, HOST, "/").await;
    let app = next(&mut traffic.sockets).await;

    // Drawn, once there is a second sample of everything.
    let targets: Vec<_> = dashboards().values().flat_map(targets).collect();
    let mut silent: BTreeSet<usize> = (0..targets.len()).collect();
    let begun = Instant::now();
    while !silent.is_empty() {
        traffic.round(&postern).await;
        let mut left = BTreeSet::new();
        for index in silent {
            let target = &targets[index];
            let samples = prometheus.query(&filled(&target.expression)).await;
            let samples = samples.unwrap_or_else(|error| panic!("{}: {error}", target.panel));
            let of_a_cluster = |metric: &str| OF_A_CLUSTER.contains(&metric);
            if selectors(&target.expression).iter().all(|s| of_a_cluster(&s.metric)) {
                assert!(samples.is_empty(), "{}: {samples:?}", target.panel);
                continue;
            }
            let told = |(labels, value): &(Value, f64)| {
                value.is_finite() && target.legend.iter().all(|label| labels.get(label).is_some())
            };
            if !samples.iter().any(told) {
                left.insert(index);
            }
        }
        silent = left;
        let panels: Vec<_> = silent.iter().map(|index| &targets[*index].panel).collect();
        assert!(begun.elapsed() < 3 * LIMIT, "nothing is drawn in {panels:?}");
    }

    // Without an error; on a busy machine a scrape may come too late.
    eventually("all that is said is taken", async || {
        let scraped = prometheus.ask("targets").await.unwrap();
        let target = &scraped["activeTargets"][0];
        target["health"] == "up" && target["lastError"] == ""
    })
    .await;

    // By the Deployment's namespace, and all else by that of the pods.
    for (expression, namespace) in [
        ("postern_requests_total{deployment=\"app\"}", "default"),
        ("postern_endpoints", "default"),
        ("postern_leader", NAMESPACE),
    ] {
        let samples = prometheus.query(expression).await.unwrap();
        assert!(!samples.is_empty(), "{expression}");
        for (labels, _) in samples {
            assert_eq!(labels["namespace"], namespace, "{labels}");
        }
    }
    assert_eq!(prometheus.query("{exported_namespace!=\"\"}").await.unwrap(), []);
    let opened = prometheus
        .query("sum(postern_websockets_open{deployment=\"app\"})")
        .await;
    assert_eq!(opened.unwrap(), [(json!({}), 1.0)]);
    drop((open, app));

    judged(&prometheus).await;
}

/// Every alert is evaluated without an error, and what is wrong here is noticed.
async fn judged(prometheus: &Prometheus) {
    let all = rules().len();
    let evaluated = async || {
        let groups = prometheus.ask("rules").await.unwrap();
        let groups = groups["groups"].as_array().unwrap().clone();
        let rules: Vec<_> = groups
            .iter()
            .flat_map(|g| g["rules"].as_array().unwrap())
            .cloned()
            .collect();
        assert_eq!(rules.len(), all);
        let mut errors = String::new();
        for rule in rules.iter().filter(|rule| rule["health"] == "err") {
            let _ = writeln!(errors, "{}: {}", rule["name"], rule["lastError"]);
        }
        assert_eq!(errors, "");
        rules
    };
    let pending = async || {
        let rules = evaluated().await;
        let wrong = rules.iter().filter(|rule| rule["state"] != "inactive");
        let wrong: BTreeSet<_> = wrong
            .filter_map(|rule| Some(rule["name"].as_str()?.to_owned()))
            .collect();
        rules.iter().all(|rule| rule["health"] == "ok")
            && ["PosternNobodyLeads", "PosternNoEndpoint", "PosternRequestsFailing"]
                .iter()
                .all(|name| wrong.contains(*name))
    };
    eventually("what is wrong is noticed", pending).await;
    // States that no event brings about here are told of all the same.
    for rule in rules() {
        for selector in selectors(rule["expr"].as_str().unwrap()) {
            if ["postern_objects", "postern_endpoints"].contains(&&*selector.metric) {
                let matchers: Vec<_> = selector.matchers.iter().map(|(l, v)| format!("{l}=\"{v}\"")).collect();
                let series = format!("{}{{{}}}", selector.metric, matchers.join(","));
                assert!(!prometheus.query(&series).await.unwrap().is_empty(), "{series}");
            }
        }
    }
}
