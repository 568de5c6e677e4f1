//! What a change of the release costs those who are connected.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::support::eventually_within;
use crate::support::wire::get;
use crate::traffic::{Load, Sockets};
use crate::world::{HOST, LONG, NAMESPACE, World, kubectl, logs, release, restarts, rolled_out, tell};

const SOCKETS: usize = 200;
const RATE: u32 = 200;

fn names(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().map(ResourceExt::name_any).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_hot_value_applies_and_restarts_no_pod() {
    let world = World::with(&["http=serve"]).await;
    world.settled().await;
    let to = world.http().await;
    let mut sockets = Sockets::open(to, 20).await;
    let before = world.replicas(NAMESPACE).await;
    let start = Instant::now();
    release(
        "postern",
        NAMESPACE,
        &["http=serve", "config.forwarded=true", "config.log=debug"],
    );
    // The kubelet writes a changed ConfigMap into a pod within a minute or so.
    eventually_within(LONG, "every replica has it", async || {
        logs().matches("settings changed").count() >= 2
    })
    .await;
    tell(
        "from helm upgrade with a hot value to every replica going by it (the kubelet's sync)",
        start,
    );
    sockets.all_echo().await;
    let after = world.replicas(NAMESPACE).await;
    assert_eq!(names(&before), names(&after));
    assert_eq!(
        after.iter().map(restarts).sum::<i32>(),
        before.iter().map(restarts).sum::<i32>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_fails_no_request_and_ends_sockets_by_the_drain_alone() {
    let values = ["http=serve", "config.drainDeadline=10s"];
    let world = World::with(&values).await;
    world.settled().await;
    let to = world.http().await;
    let before = names(&world.replicas(NAMESPACE).await);
    let sockets = Sockets::open(to, SOCKETS).await;
    let load = Load::start(to, RATE);
    let start = Instant::now();
    let ends = tokio::spawn(sockets.ends_within(LONG));
    // Once by another image, once by a restart.
    release(
        "postern",
        NAMESPACE,
        &[&values[..], &["image.repository=localhost/postern-again"]].concat(),
    );
    kubectl(&["rollout", "restart", "-n", NAMESPACE, "deployment/postern"]);
    rolled_out();
    world.settled().await;
    tell("two rollouts of two replicas under load", start);
    let seen = load.stop().await;
    println!(
        "measured: {} requests answered, longest gap {:?}",
        seen.answered, seen.gap
    );
    assert!(seen.failed.is_empty(), "{:?} of {}", seen.failed, seen.answered);
    assert!(seen.answered > 1_000, "{seen:?}");
    let after = names(&world.replicas(NAMESPACE).await);
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");
    // Each by a FIN after its pod had to leave, never by a reset.
    let (ends, first) = ends.await.expect("no panic");
    println!("measured: {SOCKETS} sockets ended so: {ends:?}, the first {first:?} after the upgrade began");
    assert_eq!(ends.keys().collect::<Vec<_>>(), ["Fin"], "{ends:?}");
    // The pod's delay and its deadline.
    assert!(first >= Duration::from_secs(15), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lingering_replicas_are_replaced_without_cutting_a_socket() {
    let values = [
        "http=serve",
        "config.drainMode=linger",
        "config.linger=10m",
        "config.drainDeadline=5s",
    ];
    let world = World::with(&values).await;
    world.settled().await;
    let to = world.http().await;
    let before = names(&world.replicas(NAMESPACE).await);
    let mut sockets = Sockets::open(to, SOCKETS).await;
    let load = Load::start(to, RATE);
    let start = Instant::now();
    kubectl(&["rollout", "restart", "-n", NAMESPACE, "deployment/postern"]);
    rolled_out();
    eventually_within(LONG, "both replicas are new", async || {
        let after = names(&world.replicas(NAMESPACE).await);
        after.len() == 2 && before.is_disjoint(&after)
    })
    .await;
    // Past the delay and the deadline: only lingering keeps them.
    eventually_within(LONG, "the old replicas have stopped to listen for long", async || {
        start.elapsed() > Duration::from_secs(20)
    })
    .await;
    sockets.all_echo().await;
    let seen = load.stop().await;
    assert!(seen.failed.is_empty(), "{:?} of {}", seen.failed, seen.answered);
    println!(
        "measured: {SOCKETS} of {SOCKETS} sockets echo after both replicas were replaced; {} requests, none failed",
        seen.answered
    );
    let left = Instant::now();
    drop(sockets);
    world.settled().await;
    tell("from the last socket's end to the lingering pods' end", left);
    // And those who are connected now are served by the new ones.
    assert_eq!(get(to, HOST, "/").await.status(), 200);
}
