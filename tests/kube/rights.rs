//! The rights that the chart gives Postern, and no others: it does all its work with them.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{ListParams, PostParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::acme;
use crate::cluster::Cluster;
use crate::pebble::Pebble;
use crate::support::postern::Postern;
use crate::support::{chart, eventually};

/// The rules of a role of the chart.
fn rules(objects: &[Value], kind: &str, name: &str) -> Value {
    let role = objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    role.expect("is there")["rules"].clone()
}

/// Makes a role of that kind, and gives it to the account.
async fn grant<R, B>(roles: Api<R>, bindings: Api<B>, name: &str, rules: Value, account: &str)
where
    R: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
    B: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
{
    let role = json!({"metadata": {"name": name}, "rules": rules});
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": R::kind(&()), "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": account}],
    });
    let params = PostParams::default();
    let role = serde_json::from_value(role).expect("a role");
    roles.create(&params, &role).await.expect("creates the role");
    let binding = serde_json::from_value(binding).expect("a binding");
    bindings.create(&params, &binding).await.expect("creates the binding");
}

/// Grants an account what the chart does with these values, in the cluster's own namespace as the release's. Returns a folder
/// with the administrator's kubeconfig, but as that account.
async fn installed(cluster: &Cluster, values: &[&str]) -> TempDir {
    let objects = chart::objects(&chart::render(values).expect("is rendered"));
    let account = format!("system:serviceaccount:{}:postern", cluster.namespace);
    let name = format!("postern-{}", cluster.namespace);
    let client = || cluster.client.clone();
    let everywhere = rules(&objects, "ClusterRole", "postern:postern-system");
    grant::<ClusterRole, ClusterRoleBinding>(Api::all(client()), Api::all(client()), &name, everywhere, &account).await;
    let mut here = vec![(name.clone(), rules(&objects, "Role", "postern"))];
    if values.iter().any(|value| value.starts_with("acme.namespaces=")) {
        let orders = rules(&objects, "Role", "postern:postern-system:acme");
        here.push((format!("{name}-acme"), orders));
    }
    for (name, rules) in here {
        let roles = Api::namespaced(client(), &cluster.namespace);
        let bindings = Api::namespaced(client(), &cluster.namespace);
        grant::<Role, RoleBinding>(roles, bindings, &name, rules, &account).await;
    }
    let text = std::fs::read_to_string(&cluster.kubeconfig).expect("a kubeconfig");
    let mut kubeconfig: Value = serde_json::from_str(&text).expect("JSON");
    kubeconfig["users"][0]["user"]["as"] = account.into();
    let folder = tempfile::tempdir().expect("makes a folder");
    std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).expect("writes");
    folder
}

/// Orders there, as far as it may.
async fn started(cluster: &Cluster, folder: &TempDir, pebble: &Pebble) -> Postern {
    let namespace = cluster.namespace.as_str();
    let mut flags = vec!["--watch-namespaces", namespace, "--lease-namespace", namespace];
    flags.extend(pebble.flags());
    let postern = Postern::in_cluster(&folder.path().join("kubeconfig"), &flags);
    postern.is_ready().await;
    pebble.balancer.to(&[&postern]);
    postern
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_order_the_status_says_which_value_gives_it() {
    let cluster = Cluster::shared("no-right").await;
    let folder = installed(&cluster, &[]).await;
    let pebble = Pebble::start(90 * 86_400).await;
    let _postern = started(&cluster, &folder, &pebble).await;
    acme::want(&cluster, "ordered", "no-right.acme.test").await;
    eventually("the status tells it", async || {
        let status = cluster.deployments().get("ordered").await.expect("is there").status;
        let conditions = status.map(|status| status.conditions).unwrap_or_default();
        let told = conditions
            .iter()
            .find(|condition| condition.reason == "CertificateFailed");
        told.is_some_and(|told| told.message.contains("acme.namespaces") && told.message.contains("forbidden"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn these_rights_suffice_to_watch_lead_tell_and_order() {
    let cluster = Cluster::shared("rights").await;
    let pebble = Pebble::start(90 * 86_400).await;
    let orders = format!("acme.namespaces={{{}}}", cluster.namespace);
    let directory = format!("acme.directory={}", pebble.flags()[1]);
    let folder = installed(&cluster, &[&orders, &directory]).await;
    let postern = started(&cluster, &folder, &pebble).await;
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
