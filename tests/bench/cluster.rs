//! How long an edit among 10,000 Deployments of a real apiserver takes until it is served, and how long a revoked key until it
//! is refused. Prints figures; asserts only that no request fails meanwhile. `cargo bench --bench cluster` (it builds the control
//! plane as the tests do).

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

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use postern::api::deployment::Deployment;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc::{self, Receiver};

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

    edits(&cluster, postern.http).await;
    revocations(&cluster, postern.http).await;
}

async fn edits(cluster: &Cluster, http: SocketAddr) {
    let api = cluster.deployments();
    let mut seen = watched(api.clone(), |event| match event {
        WatchEvent::Modified(object) => object.spec.hostnames.first().cloned(),
        _ => None,
    })
    .await;
    let mut wire = Wire::connect(http).await;
    let mut delays = Delays::default();
    for edit in 0..EDITS {
        let nth = edit * 31 % DEPLOYMENTS;
        let host = format!("edited-{edit}.test");
        let edited = Patch::Merge(json!({"spec": {"hostnames": [host]}}));
        let (name, params) = (format!("app-{nth}"), PatchParams::default());
        let write = async { drop(api.patch(&name, &params, &edited).await.expect("patches")) };
        let served = until(&mut wire, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), (404, 200));
        delays.note(write, served, &mut seen, &host).await;
    }
    delays.print("an edit, until it is served");
}

async fn revocations(cluster: &Cluster, http: SocketAddr) {
    let rules = json!([{"name": "keys", "apiKey": {"secretSelector": {}}}]);
    let spec = json!({"targetRefs": [{"name": "app-1"}], "rules": rules});
    cluster.policy("keys", spec).await;
    let secrets = cluster.secrets();
    let mut seen = watched(secrets.clone(), |event| match event {
        WatchEvent::Deleted(secret) => secret.metadata.name.clone(),
        _ => None,
    })
    .await;
    let mut wire = Wire::connect(http).await;
    let mut delays = Delays::default();
    for nth in 0..EDITS {
        let name = format!("key-{nth}");
        cluster.secret(&name, Some("api-key"), json!({"key": name})).await;
        let request = format!("GET / HTTP/1.1\r\nHost: host-1.test\r\nAuthorization: Bearer {name}\r\n\r\n");
        until(&mut wire, request.clone(), (401, 200)).await;
        let params = DeleteParams::default();
        let write = async { drop(secrets.delete(&name, &params).await.expect("deletes")) };
        let refused = until(&mut wire, request, (200, 401));
        delays.note(write, refused, &mut seen, &name).await;
    }
    delays.print("a revocation, until it is refused");
}

/// When a watch of our own hears of what; `what` says of which event that is.
async fn watched<K>(
    api: Api<K>,
    what: impl Fn(&WatchEvent<K>) -> Option<String> + Send + 'static,
) -> Receiver<(String, Instant)>
where
    K: Clone + Debug + DeserializeOwned + Send + 'static,
{
    let (events, seen) = mpsc::channel(1024);
    let list = api.list_metadata(&Default::default()).await.expect("lists");
    let version = list.metadata.resource_version.unwrap_or_default();
    tokio::spawn(async move {
        let stream = api.watch(&WatchParams::default(), &version).await;
        let mut stream = stream.expect("watches").boxed();
        while let Ok(Some(event)) = stream.try_next().await {
            if let Some(name) = what(&event) {
                let _ = events.send((name, Instant::now())).await;
            }
        }
    });
    seen
}

/// When the answer's status has turned from one to the other.
async fn until(wire: &mut Wire, request: String, (from, to): (u16, u16)) -> Instant {
    loop {
        wire.send(request.clone()).await;
        match wire.answer().await.status() {
            status if status == to => return Instant::now(),
            status if status == from => tokio::time::sleep(Duration::from_micros(200)).await,
            status => panic!("{status} while the edit is under way"),
        }
    }
}

#[derive(Default)]
struct Delays {
    from_event: Vec<Duration>,
    from_answer: Vec<Duration>,
}

impl Delays {
    async fn note(
        &mut self,
        write: impl Future<Output = ()>,
        effect: impl Future<Output = Instant>,
        seen: &mut Receiver<(String, Instant)>,
        name: &str,
    ) {
        let answered = async {
            write.await;
            Instant::now()
        };
        let (answered, effective) = tokio::join!(answered, effect);
        let event = loop {
            let (what, at) = seen.recv().await.expect("the watch goes on");
            if what == name {
                break at;
            }
        };
        // Our own watch may be the later one of the two.
        self.from_event.push(effective.saturating_duration_since(event));
        self.from_answer.push(effective.saturating_duration_since(answered));
    }

    fn print(self, what: &str) {
        print(&format!("{what}, from the event at a watch of ours"), self.from_event);
        print(&format!("{what}, from the apiserver's answer"), self.from_answer);
    }
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
