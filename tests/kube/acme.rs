//! Certificates from a real ACME server through a real apiserver: ordered, served, renewed, and told about when they are not.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use crate::cluster::Cluster;
use crate::leader::replicas;
use crate::pebble::Pebble;
use crate::status::{status, until};
use crate::support::certs;
use crate::support::postern::Postern;
use crate::support::tls::{Client, shown};
use crate::support::{eventually, eventually_within};

const DAYS_90: u32 = 90 * 86_400;

fn secrets(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

/// All that Postern keeps of that type.
async fn kept(cluster: &Cluster, r#type: &str) -> Vec<Secret> {
    let params = ListParams::default()
        .labels("postern.dev/use=acme")
        .fields(&format!("type={type}"));
    secrets(cluster).list(&params).await.expect("lists").items
}

async fn certificate(cluster: &Cluster, hostname: &str) -> Option<Secret> {
    let name = format!("postern-acme-{hostname}");
    secrets(cluster).get_opt(&name).await.expect("answers")
}

fn leaf(secret: &Secret) -> CertificateDer<'static> {
    let data = secret.data.as_ref().expect("has data");
    CertificateDer::from_pem_slice(&data["tls.crt"].0).expect("a certificate")
}

/// Whether clients of that hostname are shown what the Secret holds.
async fn is_shown(postern: &Postern, hostname: &str, secret: &Secret) -> bool {
    let wire = Client::careless().connect(postern.https, hostname).await;
    *shown(&wire) == leaf(secret)
}

pub async fn challenges(cluster: &Cluster) -> usize {
    let opaque = kept(cluster, "Opaque").await;
    let is_challenge = |secret: &&Secret| secret.name_any().starts_with("postern-challenge-");
    opaque.iter().filter(is_challenge).count()
}

async fn account(cluster: &Cluster) -> Option<Secret> {
    let mut opaque = kept(cluster, "Opaque").await;
    opaque.retain(|secret| {
        secret
            .data
            .as_ref()
            .is_some_and(|data| data.contains_key("account.json"))
    });
    assert!(opaque.len() < 2, "two accounts");
    opaque.pop()
}

pub async fn want(cluster: &Cluster, name: &str, hostname: &str) {
    cluster.service("app").await;
    let spec = json!({
        "hostnames": [hostname],
        "service": {"name": "app", "port": 80},
        "tls": [{"acme": {}}],
    });
    cluster.deployment(name, spec).await;
}

pub async fn is_issued(cluster: &Cluster, hostname: &str, limit: Duration) -> Secret {
    eventually_within(limit, &format!("{hostname} has a certificate"), async || {
        certificate(cluster, hostname).await.is_some()
    })
    .await;
    certificate(cluster, hostname).await.expect("is there")
}

fn orders(postern: &Postern) -> usize {
    let log = postern.log();
    log.iter()
        .filter(|line| line.contains("ordering a certificate"))
        .count()
}

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_hostname_gets_a_certificate_and_the_account_survives_a_restart() {
    let cluster = Cluster::shared("acme").await;
    let pebble = Pebble::start(DAYS_90).await;
    let postern = cluster.postern(&pebble.flags()).await;
    pebble.balancer.to(&[&postern]);
    want(&cluster, "app", "a.acme.test").await;
    let first = is_issued(&cluster, "a.acme.test", SOON).await;
    assert_eq!(first.type_.as_deref(), Some("kubernetes.io/tls"));
    assert_eq!(first.labels()["postern.dev/use"], "acme");
    eventually("it is shown to clients", async || {
        is_shown(&postern, "a.acme.test", &first).await
    })
    .await;
    until(&cluster, "app", "ResolvedRefs", "True ResolvedRefs").await;
    eventually("the challenge is gone", async || challenges(&cluster).await == 0).await;
    let registered = account(&cluster).await.expect("an account");
    assert_eq!(
        registered.data.as_ref().expect("has data")["contact"].0,
        b"mailto:ops@example.com"
    );

    drop(postern);
    let postern = cluster.postern(&pebble.flags()).await;
    pebble.balancer.to(&[&postern]);
    want(&cluster, "other", "b.acme.test").await;
    is_issued(&cluster, "b.acme.test", SOON).await;
    let now = account(&cluster).await.expect("an account");
    assert_eq!(now.resource_version(), registered.resource_version());
    let again = certificate(&cluster, "a.acme.test").await.expect("is there");
    assert_eq!(again.resource_version(), first.resource_version(), "ordered once");
    assert_eq!(orders(&postern), 1);
    let log = postern.log().join("\n");
    assert!(!log.contains("PRIVATE KEY"), "a key is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_orders_and_every_replica_answers() {
    let cluster = Cluster::shared("acme-replicas").await;
    let pebble = Pebble::start(DAYS_90).await;
    let (leader, other) = replicas(&cluster, &pebble.flags()).await;
    pebble.balancer.to(&[&leader, &other]);
    want(&cluster, "app", "replicas.acme.test").await;
    let secret = is_issued(&cluster, "replicas.acme.test", SOON).await;
    // Pebble looks several times, and takes it amiss if one look fails.
    assert!(pebble.balancer.has_reached(&leader) && pebble.balancer.has_reached(&other));
    for replica in [&leader, &other] {
        eventually("it is shown to clients", async || {
            is_shown(replica, "replicas.acme.test", &secret).await
        })
        .await;
    }
    assert_eq!((orders(&leader), orders(&other)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_finishes_what_a_killed_one_began() {
    let cluster = Cluster::shared("acme-killed").await;
    let pebble = Pebble::start(DAYS_90).await;
    let (leader, other) = replicas(&cluster, &pebble.flags()).await;
    want(&cluster, "app", "killed.acme.test").await;
    eventually("the server looks for the challenge", async || {
        pebble.balancer.connections() > 0
    })
    .await;
    leader.kill();
    assert_eq!(challenges(&cluster).await, 1, "left behind");
    pebble.balancer.to(&[&other]);
    // The lease has to expire first.
    let secret = is_issued(&cluster, "killed.acme.test", Duration::from_secs(120)).await;
    eventually("it is shown to clients", async || {
        is_shown(&other, "killed.acme.test", &secret).await
    })
    .await;
    eventually("no challenge is left", async || challenges(&cluster).await == 0).await;
    assert!(account(&cluster).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_leader_left_behind_is_removed_though_nobody_orders_again() {
    let cluster = Cluster::shared("acme-left").await;
    let left = |name: &str, class: &str| {
        json!({
            "metadata": {
                "name": name,
                "labels": {"postern.dev/use": "acme"},
                "annotations": {"postern.dev/class": class},
            },
            "type": "Opaque",
            "stringData": {"hostname": "left.test", "token": "t", "keyAuthorization": "t.k"},
        })
    };
    for secret in [left("ours", "postern"), left("theirs", "other")] {
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        let params = PostParams::default();
        secrets(&cluster).create(&params, &secret).await.expect("creates");
    }
    let _postern = cluster.postern(&[]).await;
    eventually("ours is gone", async || {
        secrets(&cluster).get_opt("ours").await.expect("answers").is_none()
    })
    .await;
    let theirs = secrets(&cluster).get_opt("theirs").await.expect("answers");
    assert!(theirs.is_some(), "another installation's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_that_fails_is_told_and_tried_again_after_a_minute() {
    let cluster = Cluster::shared("acme-fails").await;
    let pebble = Pebble::start(DAYS_90).await;
    let postern = cluster.postern(&pebble.flags()).await;
    // Nobody listens there.
    pebble
        .balancer
        .to_addresses(vec!["127.0.0.1:1".parse().expect("an address")]);
    want(&cluster, "app", "fails.acme.test").await;
    eventually_within(SOON, "the failure is told", async || {
        let status = status(&cluster, "app").await;
        let told = status.conditions.iter().find(|c| c.type_ == "ResolvedRefs");
        told.is_some_and(|c| {
            c.status == "False"
                && c.reason == "CertificateFailed"
                && c.message.contains("fails.acme.test")
                && c.message.contains("urn:ietf:params:acme:error:")
        })
    })
    .await;
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    eventually("an Event tells it", async || {
        let events = events.list(&ListParams::default()).await.expect("lists").items;
        events
            .iter()
            .any(|event| event.reason.as_deref() == Some("CertificateFailed"))
    })
    .await;
    eventually("the challenge is gone", async || challenges(&cluster).await == 0).await;
    assert!(certificate(&cluster, "fails.acme.test").await.is_none());
    assert_eq!(orders(&postern), 1, "not at once");

    pebble.balancer.to(&[&postern]);
    is_issued(&cluster, "fails.acme.test", Duration::from_secs(120)).await;
    assert_eq!(orders(&postern), 2);
    until(&cluster, "app", "ResolvedRefs", "True ResolvedRefs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_while_the_old_one_is_still_good() {
    let cluster = Cluster::shared("acme-renewal").await;
    let pebble = Pebble::start(45).await;
    let postern = cluster.postern(&pebble.flags()).await;
    pebble.balancer.to(&[&postern]);
    want(&cluster, "app", "renewed.acme.test").await;
    let first = is_issued(&cluster, "renewed.acme.test", SOON).await;
    eventually_within(Duration::from_secs(44), "another one is there in time", async || {
        let now = certificate(&cluster, "renewed.acme.test").await.expect("is there");
        leaf(&now) != leaf(&first) && is_shown(&postern, "renewed.acme.test", &now).await
    })
    .await;
    cluster.delete_deployment("app").await;
    assert!(certificate(&cluster, "renewed.acme.test").await.is_some(), "it stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_is_never_overwritten() {
    let cluster = Cluster::shared("acme-foreign").await;
    let pebble = Pebble::start(DAYS_90).await;
    let mine = certs::secret(&cluster.namespace, "postern-acme-mine.acme.test", "mine", "mine");
    let mut mine: Secret = serde_json::from_value(mine).expect("a Secret");
    mine.type_ = Some("Opaque".to_owned());
    let created = secrets(&cluster).create(&PostParams::default(), &mine).await;
    let created = created.expect("creates");
    let postern = cluster.postern(&pebble.flags()).await;
    pebble.balancer.to(&[&postern]);
    want(&cluster, "app", "mine.acme.test").await;
    let told = until(&cluster, "app", "ResolvedRefs", "False CertificateFailed").await;
    let message = &told
        .conditions
        .iter()
        .find(|c| c.type_ == "ResolvedRefs")
        .expect("is there")
        .message;
    assert!(message.contains("without the label"), "{message}");
    let now = certificate(&cluster, "mine.acme.test").await.expect("is there");
    assert_eq!(now.resource_version(), created.resource_version());
    assert_eq!(pebble.balancer.connections(), 0, "nothing was ordered in vain");
}
