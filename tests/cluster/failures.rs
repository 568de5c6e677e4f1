//! What breaks when something is killed, and for how long.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::support::eventually_within;
use crate::support::wire::get;
use crate::traffic::{Load, Sockets};
use crate::world::{
    APPS, HOST, LONG, NAMESPACE, World, container_id, control, helm, is_ready, kubectl, release, restarts, tell,
};

const RATE: u32 = 100;

fn row(what: &str, failed: &std::collections::BTreeMap<String, usize>, answered: usize, gap: Duration) {
    let failed: usize = failed.values().sum();
    println!(
        "measured: {what}: {failed} of {} requests failed, longest gap of a client {gap:?}",
        answered + failed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_costs_its_connections_and_another_writes_status_soon() {
    let world = World::with(&["http=serve"]).await;
    world.settled().await;
    let to = world.http().await;
    eventually_within(LONG, "somebody leads", async || world.leader().await.is_some()).await;
    let leader = world.leader().await.expect("leads");
    let mut sockets = Sockets::open(to, 40).await;
    let load = Load::start(to, RATE);
    let pods = world.replicas(NAMESPACE).await;
    let pod = pods
        .iter()
        .find(|pod| pod.name_any() == leader)
        .expect("the leader is a replica");
    let start = Instant::now();
    control(&format!("kill_container {}", container_id(pod)));
    eventually_within(LONG, "it runs again", async || {
        let pods = world.replicas(NAMESPACE).await;
        pods.iter()
            .any(|pod| pod.name_any() == leader && restarts(pod) > 0 && is_ready(pod))
    })
    .await;
    tell("kill -9 of the leader to its container's being ready again", start);
    // Who leads writes what is new.
    let spec = json!({"hostnames": ["late.test"], "service": {"name": "app", "port": "http"}});
    world
        .apply(&json!({"apiVersion": "postern.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "late", "namespace": APPS}, "spec": spec}))
        .await;
    eventually_within(LONG, "status is written", async || {
        let path = "jsonpath={.status.conditions[?(@.type==\"Programmed\")].status}";
        kubectl(&["get", "deployments.postern.dev", "late", "-n", APPS, "-o", path]) == "True"
    })
    .await;
    tell("kill -9 of the leader to the next status", start);
    kubectl(&["delete", "deployments.postern.dev", "late", "-n", APPS]);
    let open = sockets.still_open().await;
    println!("measured: kill -9 of one of two replicas: {open} of 40 sockets live on");
    assert!(open > 0, "those of the other replica");
    let seen = load.stop().await;
    row("kill -9 of one of two replicas", &seen.failed, seen.answered, seen.gap);
    // The other one serves; its share of the clients had a connection cut, or a dial refused until kube-proxy knew.
    assert!(seen.answered > 300, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_apiserver_costs_nobody_anything() {
    let world = World::with(&["http=serve"]).await;
    world.settled().await;
    let to = world.http().await;
    let mut sockets = Sockets::open(to, 40).await;
    let load = Load::start(to, RATE);
    let start = Instant::now();
    control("kill_apiserver");
    eventually_within(LONG, "it answers again", async || {
        world.client.apiserver_version().await.is_ok()
    })
    .await;
    tell("kill -9 of the apiserver to its next answer", start);
    // What changes then is seen.
    world
        .apply(&json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "after", "namespace": APPS},
            "spec": {"hostnames": ["after.test"], "service": {"name": "app", "port": "http"}},
        }))
        .await;
    eventually_within(LONG, "a new route is served", async || {
        get(to, "after.test", "/").await.status() == 200
    })
    .await;
    tell("kill -9 of the apiserver to a new route's being served", start);
    sockets.all_echo().await;
    let seen = load.stop().await;
    row("kill -9 of the apiserver", &seen.failed, seen.answered, seen.gap);
    assert!(seen.failed.is_empty(), "{seen:?}");
    kubectl(&["delete", "deployments.postern.dev", "after", "-n", APPS]);
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_app_costs_its_own_sockets_and_the_requests_in_it() {
    let world = World::with(&["http=serve"]).await;
    let to = world.http().await;
    let mut sockets = Sockets::open(to, 40).await;
    let load = Load::start(to, RATE);
    let pods = world.pods(APPS, "app=app").await;
    let pod = pods.iter().find(|pod| is_ready(pod)).expect("one is ready");
    let start = Instant::now();
    control(&format!("kill_container {}", container_id(pod)));
    eventually_within(LONG, "it is ready again", async || {
        let pods = world.pods(APPS, "app=app").await;
        pods.iter().filter(|pod| is_ready(pod)).count() == 2 && pods.iter().any(|now| restarts(now) > restarts(pod))
    })
    .await;
    tell("kill -9 of an app's container to its being ready again", start);
    let open = sockets.still_open().await;
    println!("measured: kill -9 of one of two app pods: {open} of 40 sockets live on");
    assert!((1..40).contains(&open), "those of the other pod");
    let seen = load.stop().await;
    row("kill -9 of one of two app pods", &seen.failed, seen.answered, seen.gap);
    // At most what was in the app at that moment: a dial that is refused goes to the other pod.
    assert!(seen.failed.values().sum::<usize>() <= 20, "{seen:?}");
    assert!(seen.failed.keys().all(|reason| reason == "502"), "{seen:?}");
}

/// What the apiserver says to it, once: kube's own client would ask until it is allowed.
fn evict(pod: &Pod) -> String {
    let name = pod.name_any();
    let mut file = NamedTempFile::new().expect("makes a file");
    let metadata = json!({"name": name, "namespace": NAMESPACE});
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
    write!(file, "{eviction}").expect("writes");
    let output = Command::new("kubectl")
        .args(["create", "--raw"])
        .arg(format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"))
        .arg("-f")
        .arg(file.path())
        .output()
        .expect("kubectl runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_replica_fails_no_request_and_a_second_eviction_waits() {
    let world = World::with(&["http=serve", "config.drainDeadline=5s"]).await;
    world.settled().await;
    let to = world.http().await;
    let load = Load::start(to, RATE);
    let pods = world.replicas(NAMESPACE).await;
    let start = Instant::now();
    let first = evict(&pods[0]);
    assert!(first.contains("Success"), "{first}");
    let second = evict(&pods[1]);
    assert!(second.contains("violate the pod's disruption budget"), "{second}");
    world.settled().await;
    tell("eviction of a replica to two ready ones", start);
    let seen = load.stop().await;
    row("eviction of one of two replicas", &seen.failed, seen.answered, seen.gap);
    assert!(seen.failed.is_empty(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_installations_serve_a_class_each() {
    let world = World::with(&["http=serve"]).await;
    let values = ["http=serve", "class=other", "crds.install=false", "replicas=1"];
    release("other", "other", &values);
    world
        .apply(&json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "other", "namespace": APPS},
            "spec": {"className": "other", "hostnames": ["other.test"], "service": {"name": "app", "port": "http"}},
        }))
        .await;
    let (ours, theirs) = (
        world.http().await,
        world.address("other-postern", "other", "http").await,
    );
    eventually_within(LONG, "the other serves its own", async || {
        get(theirs, "other.test", "/").await.status() == 200
    })
    .await;
    assert_eq!(get(ours, HOST, "/").await.status(), 200);
    assert_eq!(get(ours, "other.test", "/").await.status(), 404);
    assert_eq!(get(theirs, HOST, "/").await.status(), 404);
    // The end of one is nothing to the other.
    let mut sockets = Sockets::open(ours, 10).await;
    helm(&["uninstall", "other", "--namespace", "other", "--wait"]);
    sockets.all_echo().await;
    assert_eq!(get(ours, HOST, "/").await.status(), 200);
    kubectl(&["delete", "deployments.postern.dev", "other", "-n", APPS]);
    kubectl(&["delete", "namespace", "other"]);
}
