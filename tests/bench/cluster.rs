//! How long an edit among 10,000 Deployments of a real apiserver takes until it is served. Prints figures; asserts only that
//! no request fails meanwhile. `cargo bench --bench cluster` (it builds the control plane as the tests do).

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench fails by a panic, and prints"
)]

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../kube/cluster.rs"]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use postern::api::deployment::Deployment;
use serde_json::json;
use tokio::sync::mpsc;

use cluster::Cluster;
use support::backend::Backend;
use support::control_plane::ControlPlane;
use support::eventually_within;
use support::wire::Wire;

const DEPLOYMENTS: usize = 10_000;
const EDITS: usize = 300;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("starts").block_on(run());
}

async fn run() {
    let control_plane = ControlPlane::start().await.expect("a control plane");
    let cluster = Cluster::of(&control_plane, "bench").await;
    let backend = Backend::start_at("10.244.9.1:8080".parse().unwrap(), |mut visit| async move {
        while visit.request().await.is_some() {
            visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    cluster.service("app").await;
    cluster.pod("app", "app", backend.address).await;
    let start = Instant::now();
    let api = cluster.deployments();
    stream::iter(0..DEPLOYMENTS)
        .for_each_concurrent(32, async |nth| {
            let created = api
                .create(&PostParams::default(), &deployment(nth, &format!("host-{nth}.test")))
                .await;
            created.expect("creates");
        })
        .await;
    println!("{DEPLOYMENTS} Deployments created in {:?}", start.elapsed());
    let start = Instant::now();
    let postern = cluster.starting_postern(&[]);
    eventually_within(Duration::from_secs(60), "Postern is ready", async || {
        postern.probe("/readyz").await == 200
    })
    .await;
    println!("ready {:?} after its start", start.elapsed());
    // Meanwhile the leader writes the first status of every Deployment, 50 in a second: the edits go on beside that.

    let (events, mut seen) = mpsc::channel(1024);
    let watched = api.clone();
    tokio::spawn(async move {
        let list = watched.list_metadata(&Default::default()).await.expect("lists");
        let version = list.metadata.resource_version.unwrap_or_default();
        let mut stream = watched
            .watch(&WatchParams::default(), &version)
            .await
            .expect("watches")
            .boxed();
        while let Ok(Some(event)) = stream.try_next().await {
            if let WatchEvent::Modified(object) = event {
                let _ = events.send((object.spec.hostnames, Instant::now())).await;
            }
        }
    });
    let mut wire = Wire::connect(postern.http).await;
    let (mut from_event, mut from_answer) = (Vec::new(), Vec::new());
    for edit in 0..EDITS {
        let nth = edit * 31 % DEPLOYMENTS;
        let host = format!("edited-{edit}.test");
        let edited = json!({"spec": {"hostnames": [host]}});
        let name = format!("app-{nth}");
        let (params, edited) = (PatchParams::default(), Patch::Merge(edited));
        let write = api.patch(&name, &params, &edited);
        let (answered, served) = tokio::join!(
            async {
                write.await.expect("patches");
                Instant::now()
            },
            async {
                loop {
                    wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
                    match wire.answer().await.status() {
                        200 => return Instant::now(),
                        404 => tokio::time::sleep(Duration::from_micros(200)).await,
                        status => panic!("{status} while the edit is under way"),
                    }
                }
            }
        );
        let event = loop {
            let (hosts, at) = seen.recv().await.expect("the watch goes on");
            if hosts == [host.clone()] {
                break at;
            }
        };
        // Our own watch may be the later one of the two.
        from_event.push(served.saturating_duration_since(event));
        from_answer.push(served.saturating_duration_since(answered));
    }
    print("from the event at a watch of ours until it is served", from_event);
    print(
        "from the apiserver's answer to the edit until it is served",
        from_answer,
    );
}

fn deployment(nth: usize, host: &str) -> Deployment {
    serde_json::from_value(json!({
        "apiVersion": "postern.dev/v1alpha1",
        "kind": "Deployment",
        "metadata": {"name": format!("app-{nth}")},
        "spec": {"hostnames": [host], "service": {"name": "app", "port": 80}},
    }))
    .expect("is a Deployment")
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let count = times.len();
    println!(
        "{what}: p50 {:?}, p99 {:?}, max {:?}, of {count}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
