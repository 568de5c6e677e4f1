//! From nothing to the first WebSocket echo, and what kubectl shows of it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use tempfile::NamedTempFile;

use crate::support::certs::Authority;
use crate::support::eventually_within;
use crate::traffic::Sockets;
use crate::world::{APPS, HOST, LONG, NAMESPACE, World, helm, kubectl, rolled_out, said, tell};

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
    fs::write(&trusted, authority.pem()).expect("writes");
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

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_are_applied_by_kubectl_as_they_are() {
    let _world = World::with(&[]).await;
    helm(&["uninstall", "postern", "--namespace", NAMESPACE, "--wait"]);
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let rendered = fs::read_to_string(manifests.join("postern.yaml")).expect("reads");
    let image = "image: postern:0.1.0";
    assert!(rendered.contains(image), "whose image is its own");
    let mut file = NamedTempFile::new().expect("makes a file");
    write!(file, "{}", rendered.replace(image, "image: localhost/postern:test")).expect("writes");
    let file = file.path().to_str().expect("UTF-8");
    kubectl(&["apply", "-f", file]);
    rolled_out();
    let examples = manifests.join("examples");
    // The first holds the namespace.
    for path in [&examples.join("route.yaml"), &examples] {
        kubectl(&["apply", "-f", path.to_str().expect("UTF-8")]);
    }
    let programmed = |kind: &str| {
        let path = "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Programmed\")].status} {end}";
        let told = kubectl(&["get", kind, "-n", "acme", "-o", path]);
        told.split_whitespace().filter(|status| *status == "True").count()
    };
    eventually_within(LONG, "the examples are served", async || {
        programmed("deployments.postern.dev") == 7 && programmed("sentinelpolicies.postern.dev") == 3
    })
    .await;
    kubectl(&["delete", "namespace", "acme"]);
    kubectl(&["delete", "-f", file]);
}
