//! From nothing to the first WebSocket echo, and what kubectl shows of it.

use std::time::Instant;

use serde_json::json;

use crate::support::certs::Authority;
use crate::support::eventually_within;
use crate::traffic::Sockets;
use crate::world::{APPS, HOST, LONG, NAMESPACE, World, helm, kubectl, said, tell};

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_with_defaults_echoes_over_tls_from_outside() {
    let start = Instant::now();
    let world = World::with(&[]).await;
    tell(
        "from helm install to two ready replicas, and an app with two pods",
        start,
    );
    let authority = Authority::new("cluster");
    world.apply(&authority.server(&[HOST]).secret(APPS, "app-tls")).await;
    world
        .apply(&json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "app", "namespace": APPS},
            "spec": {"hostnames": [HOST], "service": {"name": "app", "port": "http"}, "tls": [{"secretName": "app-tls"}]},
        }))
        .await;
    let folder = tempfile::tempdir().expect("makes a folder");
    let trusted = folder.path().join("ca.crt");
    std::fs::write(&trusted, authority.pem()).expect("writes");
    let to = world.address("postern", NAMESPACE, "https").await;
    // Node's `ws` in a pod answers our own client here, and every other test's by hand.
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_postern"))
        .args([
            "hello",
            &format!("wss://{HOST}/"),
            "--to",
            &to.to_string(),
            "--wait",
            "30s",
            "--ca",
        ])
        .arg(&trusted)
        .output()
        .expect("runs");
    assert!(said(&output, "postern hello").contains("echo: hello, socket"));
    tell("from helm install to the first echo over wss", start);
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_test_passes() {
    let _world = World::with(&[]).await;
    let told = helm(&["test", "postern", "--namespace", NAMESPACE, "--timeout", "120s"]);
    assert!(told.contains("Phase:          Succeeded"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_tells_what_is_served_and_what_is_not() {
    let world = World::with(&["http=serve"]).await;
    Sockets::open(world.http().await, 2).await.all_echo().await;
    let row = async |name: &str| {
        let table = kubectl(&["get", "deployments.postern.dev", name, "-n", APPS, "-o", "wide"]);
        table.lines().nth(1).unwrap_or_default().to_owned()
    };
    eventually_within(LONG, "the endpoints are counted", async || {
        row("app").await.split_whitespace().nth(3) == Some("2")
    })
    .await;
    let app = row("app").await;
    assert!(app.contains(HOST) && app.contains("True"), "{app}");

    world
        .apply(&json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "broken", "namespace": APPS},
            "spec": {"hostnames": ["broken.test"], "service": {"name": "nowhere", "port": 80}},
        }))
        .await;
    eventually_within(LONG, "the reason is shown", async || {
        row("broken").await.contains("ServiceNotFound")
    })
    .await;
    eventually_within(LONG, "an Event says so", async || {
        kubectl(&["events", "-n", APPS, "--for", "deployments.postern.dev/broken"]).contains("ServiceNotFound")
    })
    .await;
    let pod = world.replicas(NAMESPACE).await[0]
        .metadata
        .name
        .clone()
        .expect("a name");
    let why = kubectl(&["exec", "-n", NAMESPACE, &pod, "--", "/postern", "why", HOST]);
    assert!(why.contains("apps/app"), "{why}");
    kubectl(&["delete", "deployments.postern.dev", "broken", "-n", APPS]);
}
