//! The rights that the chart gives Postern, and no others: it does all its work with them.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{ListParams, PostParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::acme;
use crate::cluster::Cluster;
use crate::pebble::Pebble;
use crate::support::postern::Postern;
use crate::support::{chart, eventually};

/// Of the chart, as it is rendered with its defaults.
fn rules(kind: &str, name: &str) -> Value {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/postern.yaml");
    let objects = chart::objects(&std::fs::read_to_string(manifests).expect("reads"));
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

#[tokio::test(flavor = "multi_thread")]
async fn these_rights_suffice_to_watch_lead_tell_and_order() {
    let cluster = Cluster::shared("rights").await;
    let account = format!("system:serviceaccount:{}:postern", cluster.namespace);
    let name = format!("postern-{}", cluster.namespace);
    let client = || cluster.client.clone();
    let everywhere = rules("ClusterRole", "postern:postern-system");
    grant::<ClusterRole, ClusterRoleBinding>(Api::all(client()), Api::all(client()), &name, everywhere, &account).await;
    let at_home = rules("Role", "postern");
    let of_namespace = || cluster.namespace.as_str();
    grant::<Role, RoleBinding>(
        Api::namespaced(client(), of_namespace()),
        Api::namespaced(client(), of_namespace()),
        &name,
        at_home,
        &account,
    )
    .await;

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
