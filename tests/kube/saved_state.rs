//! Postern starts while the apiserver is away, and serves what it saved.

use std::time::Instant;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::status::until;
use crate::support::control_plane::ControlPlane;
use crate::support::eventually;
use crate::support::postern::Postern;
use crate::support::wire::ask;
use crate::traffic::{app, pod_address};

async fn status(postern: &Postern, host: &str, path: &str, key: &str) -> u16 {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}.test\r\nAuthorization: Bearer {key}\r\n\r\n");
    ask(postern.http, request).await.status()
}

async fn stale_since(postern: &Postern) -> Value {
    postern.ask_admin("/debug/snapshot").await.json()["staleSince"].clone()
}

/// Everything that is said of keyed.test and walled.test below, by whichever Postern.
async fn serves_as_before(postern: &Postern) {
    assert_eq!(status(postern, "keyed", "/", "valid").await, 200);
    assert_eq!(status(postern, "keyed", "/", "revoked").await, 401, "stays revoked");
    assert_eq!(status(postern, "walled", "/", "").await, 200);
    assert_eq!(
        status(postern, "walled", "/no", "").await,
        403,
        "the last good version of a policy whose edit is broken stays in force"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_the_apiserver_serves_the_saved_state_until_the_apiserver_is_back() {
    let mut control_plane = ControlPlane::start().await.expect("a control plane");
    let cluster = Cluster::of(&control_plane, "saved").await;
    let backend = app(pod_address(6, 1, 8080), "ok").await;
    cluster.service("app").await;
    cluster.pod("app", "app", backend.address).await;
    for name in ["keyed", "walled", "gone"] {
        let spec = json!({"hostnames": [format!("{name}.test")], "service": {"name": "app", "port": 80}});
        cluster.deployment(name, spec).await;
    }
    for key in ["valid", "revoked"] {
        cluster.secret(key, Some("api-key"), json!({"key": key})).await;
    }
    let before = |target: &str, rules: Value| json!({"targetRefs": [{"name": target}], "rules": rules});
    let keys = json!([{"name": "keys", "apiKey": {"secretSelector": {}}}]);
    cluster.policy("keys", before("keyed", keys)).await;
    let deny = json!([{"name": "no", "match": [{"path": {"prefix": "/no"}}], "firewall": {"action": "Deny"}}]);
    cluster.policy("wall", before("walled", deny)).await;

    let folder = TempDir::new().expect("makes a folder");
    let state = folder.path().join("state").display().to_string();
    let flags = ["--state-dir", &state, "--shutdown-delay", "0s"];
    let mut first = cluster.postern(&flags).await;
    first.serves("gone.test").await;
    first.answers("walled.test", 200).await;
    eventually("the key is accepted", async || {
        status(&first, "keyed", "/", "revoked").await == 200
    })
    .await;
    let broken = json!([{"name": "users", "basicAuth": {"secretRef": {"name": "nowhere"}}}]);
    cluster.policy("wall", before("walled", broken)).await;
    until_broken(&cluster).await;
    cluster.delete_secret("revoked").await;
    eventually("the key is revoked", async || {
        status(&first, "keyed", "/", "revoked").await == 401
    })
    .await;
    assert_eq!(first.metric("postern_state_stale", &[]).await, 0.0);
    // Whatever was saved by then, the end saves the rest.
    first.terminate();
    eventually("Postern has ended", || std::future::ready(first.has_exited().is_some())).await;

    control_plane.stop_apiserver();
    let started = Instant::now();
    let second = cluster.starting_postern(&flags);
    second.serves("walled.test").await;
    println!("the first answer after {:?}", started.elapsed());
    assert_eq!(second.probe("/readyz").await, 200);
    serves_as_before(&second).await;
    assert_eq!(status(&second, "gone", "/", "").await, 200);
    assert_eq!(second.metric("postern_state_stale", &[]).await, 1.0);
    assert!(stale_since(&second).await.is_string());
    second.tells("serving the saved state").await;
    assert_eq!(
        second.metric("postern_state_saves_total", &[]).await,
        0.0,
        "what is stale is not saved"
    );

    // What is saved is there after a crash too.
    second.kill();
    let third = cluster.starting_postern(&flags);
    third.serves("walled.test").await;
    serves_as_before(&third).await;

    // It does not see what happens meanwhile.
    third.pause();
    control_plane.start_apiserver().await.expect("comes back");
    cluster.delete_deployment("gone").await;
    let nothing = Patch::Merge(json!({"status": null}));
    let deployments = cluster.deployments();
    let taken = deployments
        .patch_status("keyed", &PatchParams::default(), &nothing)
        .await;
    taken.expect("takes the status away");
    third.resume();
    third.answers("gone.test", 404).await;
    third.tells("the saved state is no longer served").await;
    serves_as_before(&third).await;
    assert_eq!(third.metric("postern_state_stale", &[]).await, 0.0);
    assert!(stale_since(&third).await.is_null());
    // The leader hears of objects that are as they were saved, too.
    until(&cluster, "keyed", "Programmed", "True Programmed").await;
    eventually("what is served now is saved", async || {
        let saved = [("result", "saved")];
        third.metric("postern_state_saves_total", &saved).await > 0.0
    })
    .await;

    // Another class is another installation.
    let other = cluster.starting_postern(&["--state-dir", &state, "--class", "other"]);
    other.tells("the saved state is ignored").await;
}

/// The edit has been looked at, and what it refers to is not there.
async fn until_broken(cluster: &Cluster) {
    let policies = cluster.policies();
    eventually("the policy is served by its last good version", async || {
        let policy = policies.get("wall").await.expect("is there");
        let conditions = policy.data["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition["reason"] == "ServingLastGood")
    })
    .await;
}
