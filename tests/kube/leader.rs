//! Two replicas, one leader: both serve, one writes, and the office moves when its holder goes.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;

use crate::cluster::Cluster;
use crate::support::postern::Postern;
use crate::support::{eventually, eventually_within};
use crate::traffic::{Load, app, pod_address};

pub async fn leads(postern: &Postern) -> bool {
    postern.metric("postern_leader", &[]).await == 1.0
}

async fn holder(cluster: &Cluster) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    leases.get("postern-postern").await.ok()?.spec?.holder_identity
}

async fn programmed(cluster: &Cluster, name: &str) -> bool {
    let status = cluster
        .deployments()
        .get(name)
        .await
        .expect("is there")
        .status
        .unwrap_or_default();
    status
        .conditions
        .iter()
        .any(|condition| condition.type_ == "Programmed" && condition.status == "True")
}

/// Both replicas, the leader first.
pub async fn replicas(cluster: &Cluster, flags: &[&str]) -> (Postern, Postern) {
    let (one, other) = (cluster.postern(flags).await, cluster.postern(flags).await);
    eventually("one of them leads", async || leads(&one).await || leads(&other).await).await;
    if leads(&one).await { (one, other) } else { (other, one) }
}

async fn serve(cluster: &Cluster, address: std::net::SocketAddr) {
    cluster.service("app").await;
    cluster.pod("app", "app", address).await;
    let spec = json!({"hostnames": ["app.test"], "service": {"name": "app", "port": 80}});
    cluster.deployment("app", spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_leader_moves_the_lease_and_disturbs_no_traffic() {
    let cluster = Cluster::shared("killed").await;
    let backend = app(pod_address(40, 1, 8080), "ok").await;
    serve(&cluster, backend.address).await;
    let (first, second) = replicas(&cluster, &[]).await;
    for replica in [&first, &second] {
        replica.says("app.test", "ok").await;
    }
    eventually("the leader writes the status", async || {
        programmed(&cluster, "app").await
    })
    .await;
    assert!(!leads(&second).await, "two lead");
    assert_eq!(
        second
            .metric("postern_status_writes_total", &[("result", "written")])
            .await,
        0.0
    );
    let before = holder(&cluster).await;

    let load = Load::start(&second, "app.test", 50);
    first.kill();
    // It has to wait until nobody has renewed for 15 s.
    eventually_within(Duration::from_secs(45), "the other one leads", async || {
        leads(&second).await
    })
    .await;
    assert_ne!(holder(&cluster).await, before);
    let spec = json!({"hostnames": ["late.test"], "service": {"name": "app", "port": 80}});
    cluster.deployment("late", spec).await;
    eventually("the new leader writes the status", async || {
        programmed(&cluster, "late").await
    })
    .await;
    let (answered, failed) = load.stop().await;
    assert_eq!(failed, Vec::<String>::new(), "of {answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_stop_hands_over_at_once() {
    let cluster = Cluster::shared("stopped").await;
    let (first, second) = replicas(&cluster, &["--shutdown-delay", "30s"]).await;
    let start = Instant::now();
    first.terminate();
    eventually("the other one leads", async || leads(&second).await).await;
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "after {:?}: it has waited for the lease to expire",
        start.elapsed()
    );
    assert!(!leads(&first).await, "two lead");
}
