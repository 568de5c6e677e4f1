//! Certificates as objects: what happens to Secrets and ConfigMaps shows on the Deployments that name them.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch};
use postern::api::deployment::DeploymentStatus;
use serde_json::{Value, json};

use crate::cluster::{Cluster, applying};
use crate::support::certs::{self, Authority};
use crate::support::eventually;
use crate::support::postern::Postern;

fn spec(host: &str, tls: Value) -> Value {
    let mut spec = json!({"hostnames": [host], "service": {"name": "app", "port": 80}});
    let (Some(fields), Value::Object(tls)) = (spec.as_object_mut(), tls) else {
        panic!("not maps")
    };
    fields.extend(tls);
    spec
}

async fn apply(cluster: &Cluster, secret: &Value) {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let name = secret["metadata"]["name"].as_str().expect("a name");
    secrets
        .patch(name, &applying(), &Patch::Apply(secret))
        .await
        .expect("applies the Secret");
}

async fn apply_map(cluster: &Cluster, map: &Value) {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let name = map["metadata"]["name"].as_str().expect("a name");
    maps.patch(name, &applying(), &Patch::Apply(map))
        .await
        .expect("applies the ConfigMap");
}

async fn delete(cluster: &Cluster, secret: &str) {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    secrets
        .delete(secret, &DeleteParams::default())
        .await
        .expect("deletes the Secret");
}

async fn until(cluster: &Cluster, r#type: &str, expected: &str) -> DeploymentStatus {
    let status = async || {
        let object = cluster.deployments().get("app").await.expect("is there");
        object.status.unwrap_or_default()
    };
    eventually(&format!("{type} is {expected:?}"), async || {
        let status = status().await;
        let found = status.conditions.iter().find(|c| c.type_ == r#type);
        found.map(|c| format!("{} {}", c.status, c.reason)).unwrap_or_default() == expected
    })
    .await;
    status().await
}

/// The Secrets that a hostname's certificates are of, by `/debug/why`.
async fn shown(postern: &Postern, host: &str) -> Value {
    let answer = postern.ask_admin(&format!("/debug/why?host={host}&path=/")).await;
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let certificates = answer["certificates"].as_array().expect("a list");
    certificates
        .iter()
        .map(|certificate| certificate["secret"].clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_served_rotated_broken_repaired_and_deleted() {
    let cluster = Cluster::shared("certificates").await;
    let postern = cluster.postern(&[]).await;
    cluster.service("app").await;
    cluster
        .deployment("app", spec("a.test", json!({"tls": [{"secretName": "one"}]})))
        .await;
    until(&cluster, "ResolvedRefs", "False SecretNotFound").await;

    let authority = Authority::new("test");
    let namespace = &*cluster.namespace;
    let key = format!("{namespace}/one");
    apply(&cluster, &authority.server(&["a.test"]).secret(namespace, "one")).await;
    until(&cluster, "ResolvedRefs", "True ResolvedRefs").await;
    assert_eq!(shown(&postern, "a.test").await, json!([key]));
    let expiry = async || {
        let labels = [("namespace", namespace), ("secret", "one")];
        postern
            .metric("postern_certificate_expiry_timestamp_seconds", &labels)
            .await
    };
    let first = expiry().await;
    assert!(first > 1e9, "{first}");

    // Soon to expire, which the status tells and the metric shows.
    apply(
        &cluster,
        &authority.server_until(&["a.test"], 10).secret(namespace, "one"),
    )
    .await;
    let status = until(&cluster, "CertificateExpiring", "True CertificateExpiring").await;
    assert_eq!(status.hostnames, ["a.test"]);
    assert!(expiry().await < first);
    apply(&cluster, &authority.server(&["a.test"]).secret(namespace, "one")).await;
    until(&cluster, "CertificateExpiring", "").await;

    apply(&cluster, &certs::secret(namespace, "one", "half a certifi", "hush")).await;
    let status = until(&cluster, "ResolvedRefs", "False ServingLastGood").await;
    let resolved = status.conditions.iter().find(|c| c.type_ == "ResolvedRefs");
    assert!(!resolved.expect("is there").message.contains("hush"));
    assert_eq!(shown(&postern, "a.test").await, json!([key]));
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), namespace);
    eventually("a warning is published", async || {
        let events = events.list(&ListParams::default()).await.expect("lists Events").items;
        events.iter().any(|event| {
            event.reason.as_deref() == Some("ServingLastGood") && event.type_.as_deref() == Some("Warning")
        })
    })
    .await;

    apply(&cluster, &authority.server(&["a.test"]).secret(namespace, "one")).await;
    until(&cluster, "ResolvedRefs", "True ResolvedRefs").await;
    delete(&cluster, "one").await;
    until(&cluster, "ResolvedRefs", "False SecretNotFound").await;
    assert_eq!(shown(&postern, "a.test").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_made_anew_with_another_type_is_seen_as_that() {
    let cluster = Cluster::shared("types").await;
    let _postern = cluster.postern(&[]).await;
    cluster.service("app").await;
    cluster
        .deployment("app", spec("a.test", json!({"tls": [{"secretName": "one"}]})))
        .await;
    let tls = Authority::new("test")
        .server(&["a.test"])
        .secret(&cluster.namespace, "one");
    let opaque = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "one", "labels": {"postern.dev/use": "ca"}},
        "stringData": {"ca.crt": "hush"},
    });
    for _ in 0..3 {
        apply(&cluster, &tls).await;
        until(&cluster, "ResolvedRefs", "True ResolvedRefs").await;
        delete(&cluster, "one").await;
        apply(&cluster, &opaque).await;
        until(&cluster, "ResolvedRefs", "False InvalidCertificate").await;
        delete(&cluster, "one").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_counts_while_its_label_says_so() {
    let cluster = Cluster::shared("authorities").await;
    let _postern = cluster.postern(&[]).await;
    cluster.service("app").await;
    let client_tls = json!({"clientTls": {"caRef": {"kind": "ConfigMap", "name": "ca"}}});
    cluster.deployment("app", spec("a.test", client_tls)).await;
    let mut map = Authority::new("test").config_map(&cluster.namespace, "ca");
    for _ in 0..2 {
        map["metadata"]["labels"] = json!({"postern.dev/use": "ca"});
        apply_map(&cluster, &map).await;
        until(&cluster, "ResolvedRefs", "True NoCertificate").await;
        map["metadata"]["labels"] = json!({"postern.dev/use": "openapi"});
        apply_map(&cluster, &map).await;
        until(&cluster, "ResolvedRefs", "False ConfigMapNotLabelled").await;
        // Without any label it is not watched.
        map["metadata"]["labels"] = json!({});
        apply_map(&cluster, &map).await;
        until(&cluster, "ResolvedRefs", "False ConfigMapNotFound").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_certificate_covers_the_assigned_hostnames() {
    let cluster = Cluster::shared("defaults-tls").await;
    let default = format!("{}/apex", cluster.namespace);
    let postern = cluster
        .postern(&["--apex-domain", "apex.test", "--default-tls-secret", &default])
        .await;
    cluster.service("app").await;
    cluster
        .deployment("app", json!({"service": {"name": "app", "port": 80}}))
        .await;
    until(&cluster, "ResolvedRefs", "True NoCertificate").await;
    let wildcard = Authority::new("test").server(&["*.apex.test"]);
    apply(&cluster, &wildcard.secret(&cluster.namespace, "apex")).await;
    until(&cluster, "ResolvedRefs", "True ResolvedRefs").await;
    let host = format!("app-{}.apex.test", cluster.namespace);
    assert_eq!(shown(&postern, &host).await, json!([default]));
}
