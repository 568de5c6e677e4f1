//! The rights that Postern needs, and no others: it does all its work with them.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::acme;
use crate::cluster::Cluster;
use crate::pebble::Pebble;
use crate::support::eventually;
use crate::support::postern::Postern;

fn rule(group: &str, resource: &str, verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": verbs})
}

#[tokio::test(flavor = "multi_thread")]
async fn these_rights_suffice_to_watch_lead_tell_and_order() {
    let cluster = Cluster::shared("rights").await;
    let account = format!("system:serviceaccount:{}:postern", cluster.namespace);
    let name = format!("postern-{}", cluster.namespace);
    let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": name}, "rules": [
        rule("postern.dev", "deployments", &["list", "watch"]),
        rule("postern.dev", "deployments/status", &["patch"]),
        rule("postern.dev", "sentinelpolicies", &["list", "watch"]),
        rule("postern.dev", "sentinelpolicies/status", &["patch"]),
        rule("", "services", &["list", "watch"]),
        rule("", "configmaps", &["list", "watch"]),
        // The leader's ACME client reads, creates, patches and deletes those that it keeps.
        rule("", "secrets", &["get", "list", "watch", "create", "patch", "delete"]),
        rule("discovery.k8s.io", "endpointslices", &["list", "watch"]),
        rule("events.k8s.io", "events", &["create", "patch"]),
        rule("coordination.k8s.io", "leases", &["get", "create", "update"]),
    ]}))
    .expect("a role");
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": account}],
    }))
    .expect("a binding");
    let params = PostParams::default();
    Api::all(cluster.client.clone())
        .create(&params, &role)
        .await
        .expect("creates the role");
    Api::all(cluster.client.clone())
        .create(&params, &binding)
        .await
        .expect("creates the binding");

    // The administrator's kubeconfig, but as that account.
    let text = std::fs::read_to_string(&cluster.kubeconfig).expect("a kubeconfig");
    let mut kubeconfig: Value = serde_json::from_str(&text).expect("JSON");
    kubeconfig["users"][0]["user"]["as"] = account.into();
    let folder = tempfile::tempdir().expect("makes a folder");
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).expect("writes");

    let namespace = cluster.namespace.as_str();
    let pebble = Pebble::start(90 * 86_400).await;
    let mut flags = vec!["--watch-namespaces", namespace, "--lease-namespace", namespace];
    flags.extend(pebble.flags());
    let postern = Postern::in_cluster(&path, &flags);
    postern.is_ready().await;
    pebble.balancer.to(&[&postern]);
    acme::want(&cluster, "ordered", "rights.acme.test").await;
    acme::is_issued(&cluster, "rights.acme.test", Duration::from_secs(60)).await;
    eventually("its challenge is gone", async || acme::challenges(&cluster).await == 0).await;
    let spec = json!({"hostnames": ["rights.test"], "service": {"name": "nowhere", "port": 80}});
    cluster.deployment("app", spec).await;
    eventually("the status is written", async || {
        let status = cluster.deployments().get("app").await.expect("is there").status;
        status.is_some_and(|status| status.conditions.len() >= 3)
    })
    .await;
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    eventually("an Event is published", async || {
        let events = events.list(&ListParams::default()).await.expect("lists").items;
        events
            .iter()
            .any(|event| event.reason.as_deref() == Some("ServiceNotFound"))
    })
    .await;
    assert_eq!(
        postern
            .metric("postern_status_writes_total", &[("result", "failed")])
            .await,
        0.0
    );
    assert_eq!(postern.metric("postern_watch_restarts_total", &[]).await, 0.0);
}
