//! What Postern says on the objects: conditions, counts, Events; and how seldom it says it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use postern::api::deployment::{Deployment, DeploymentStatus};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::control_plane::ControlPlane;
use crate::support::{eventually, eventually_within};
use crate::traffic::pod_address;

fn spec(host: &str, service: &str) -> Value {
    json!({"hostnames": [host], "service": {"name": service, "port": 80}})
}

async fn get(cluster: &Cluster, name: &str) -> Deployment {
    cluster.deployments().get(name).await.expect("is there")
}

pub async fn status(cluster: &Cluster, name: &str) -> DeploymentStatus {
    get(cluster, name).await.status.unwrap_or_default()
}

fn condition<'a>(status: &'a DeploymentStatus, name: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == name)
}

/// "True Accepted", or nothing.
fn says(status: &DeploymentStatus, name: &str) -> String {
    condition(status, name)
        .map(|c| format!("{} {}", c.status, c.reason))
        .unwrap_or_default()
}

/// Waits until a condition says so, about the generation that stands there.
pub async fn until(cluster: &Cluster, name: &str, r#type: &str, expected: &str) -> DeploymentStatus {
    eventually(&format!("{name}: {type} is {expected}"), async || {
        let object = get(cluster, name).await;
        let status = object.status.unwrap_or_default();
        says(&status, r#type) == expected
            && condition(&status, r#type).and_then(|c| c.observed_generation) == object.metadata.generation
    })
    .await;
    status(cluster, name).await
}

/// When each status in a namespace was written, by object.
fn writes(control_plane: &ControlPlane, namespace: &str) -> BTreeMap<String, Vec<Timestamp>> {
    let mut writes: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
    for event in control_plane.audit_events().expect("an audit log") {
        let about = &event["objectRef"];
        let is_status = about["resource"] == "deployments" && about["subresource"] == "status";
        if is_status && about["namespace"] == namespace && event["verb"] == "patch" {
            let at = event["requestReceivedTimestamp"]
                .as_str()
                .and_then(|at| at.parse().ok())
                .expect("a time");
            writes
                .entry(about["name"].as_str().unwrap_or_default().to_owned())
                .or_default()
                .push(at);
        }
    }
    writes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_tells_what_is_served_of_which_generation() {
    let cluster = Cluster::shared("status").await;
    let _postern = cluster
        .postern(&["--apex-domain", "example.app", "--publish-address", "192.0.2.1"])
        .await;
    cluster.service("app").await;
    cluster.pod("app", "one", pod_address(30, 1, 8080)).await;
    cluster.pod("app", "two", pod_address(30, 2, 8080)).await;
    cluster.pods().set_ready("two", false).await.expect("is not ready");
    cluster.deployment("app", spec("a.test", "app")).await;

    let first = until(&cluster, "app", "Programmed", "True Programmed").await;
    assert_eq!(says(&first, "Accepted"), "True Accepted");
    assert_eq!(says(&first, "ResolvedRefs"), "True NoCertificate");
    assert_eq!(
        first.hostnames,
        ["a.test".to_owned(), format!("app-{}.example.app", cluster.namespace)]
    );
    assert_eq!(first.addresses, ["192.0.2.1"]);
    let counted = async || {
        let endpoints = status(&cluster, "app").await.endpoints.unwrap_or_default();
        (endpoints.ready, endpoints.total) == (1, 2)
    };
    eventually("one of two endpoints is counted as ready", counted).await;

    cluster.deployment("app", spec("b.test", "app")).await;
    let second = until(&cluster, "app", "Programmed", "True Programmed").await;
    assert!(second.hostnames.contains(&"b.test".to_owned()));
    for new in &second.conditions {
        assert_eq!(new.observed_generation, Some(2), "{}", new.type_);
        let old = condition(&first, &new.type_).expect("was there");
        assert_eq!(
            new.last_transition_time, old.last_transition_time,
            "{}: it did not change",
            new.type_
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_without_a_change() {
    let cluster = Cluster::shared("quiet").await;
    let control_plane = ControlPlane::shared().await.expect("a control plane");
    let _postern = cluster.postern(&[]).await;
    cluster.service("app").await;
    cluster.pod("app", "one", pod_address(31, 1, 8080)).await;
    cluster.deployment("marker", spec("marker.test", "app")).await;
    let counted = async || {
        status(&cluster, "marker")
            .await
            .endpoints
            .is_some_and(|endpoints| endpoints.ready == 1)
    };
    eventually("the endpoint is known", counted).await;

    cluster.deployment("app", spec("app.test", "app")).await;
    until(&cluster, "app", "Programmed", "True Programmed").await;
    for round in 0..5 {
        // What reaches Postern and means nothing to it; then something that does, to know when it has seen both.
        let annotation = Patch::Merge(json!({"metadata": {"annotations": {"round": round.to_string()}}}));
        cluster
            .deployments()
            .patch("app", &PatchParams::default(), &annotation)
            .await
            .expect("annotates");
        cluster
            .services()
            .patch("app", &PatchParams::default(), &annotation)
            .await
            .expect("annotates");
        cluster
            .deployment("marker", spec(&format!("marker-{round}.test"), "app"))
            .await;
        until(&cluster, "marker", "Programmed", "True Programmed").await;
    }
    let before = get(&cluster, "app").await.metadata.resource_version;
    let writes = writes(control_plane, &cluster.namespace);
    assert_eq!(writes["app"].len(), 1, "{writes:?}");
    assert!(writes["marker"].len() >= 6, "{writes:?}");

    // A new leader looks at everything, and finds nothing to write.
    drop(_postern);
    let second = cluster.postern(&[]).await;
    let leads = async || second.metric("postern_leader", &[]).await == 1.0;
    eventually_within(Duration::from_secs(60), "the second one leads", leads).await;
    cluster.deployment("marker", spec("marker-last.test", "app")).await;
    until(&cluster, "marker", "Programmed", "True Programmed").await;
    assert_eq!(get(&cluster, "app").await.metadata.resource_version, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_references_and_conflicts_are_told_by_conditions_and_events() {
    let cluster = Cluster::shared("told").await;
    let _postern = cluster.postern(&[]).await;
    cluster.service("app").await;
    cluster.deployment("first", spec("a.test", "app")).await;
    until(&cluster, "first", "Programmed", "True Programmed").await;
    cluster.deployment("lost", spec("lost.test", "nowhere")).await;
    cluster.deployment("second", spec("a.test", "app")).await;

    let lost = until(&cluster, "lost", "ResolvedRefs", "False ServiceNotFound").await;
    assert!(
        condition(&lost, "ResolvedRefs")
            .expect("is there")
            .message
            .contains("nowhere")
    );
    let second = until(&cluster, "second", "Accepted", "False RouteConflict").await;
    assert!(
        condition(&second, "Accepted")
            .expect("is there")
            .message
            .contains("first")
    );
    assert_eq!(says(&second, "Programmed"), "False Invalid");

    cluster.service("nowhere").await;
    until(&cluster, "lost", "ResolvedRefs", "True NoCertificate").await;
    cluster.delete_deployment("first").await;
    until(&cluster, "second", "Programmed", "True Programmed").await;

    let events: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let told = async |name: &str| -> Vec<String> {
        let events = events.list(&ListParams::default()).await.expect("lists Events").items;
        let about = events.iter().filter(|event| {
            event
                .regarding
                .as_ref()
                .is_some_and(|about| about.name.as_deref() == Some(name))
        });
        let text = |event: &Event| {
            format!(
                "{} {}",
                event.type_.as_deref().unwrap_or(""),
                event.reason.as_deref().unwrap_or("")
            )
        };
        let mut told: Vec<_> = about.map(text).collect();
        told.sort();
        told
    };
    for (name, expected) in [
        (
            "lost",
            &["Normal NoCertificate", "Normal Programmed", "Warning ServiceNotFound"][..],
        ),
        (
            "second",
            &["Normal Accepted", "Normal Programmed", "Warning RouteConflict"][..],
        ),
    ] {
        eventually(&format!("Events about {name}: {expected:?}"), async || {
            told(name).await == expected
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_of_somebody_else_stays() {
    let cluster = Cluster::shared("foreign").await;
    let _postern = cluster.postern(&[]).await;
    cluster.service("app").await;
    cluster.deployment("app", spec("a.test", "app")).await;
    until(&cluster, "app", "Programmed", "True Programmed").await;
    let theirs = json!({
        "apiVersion": "postern.dev/v1alpha1",
        "kind": "Deployment",
        "status": {"conditions": [{
            "type": "example.com/Theirs", "status": "True", "reason": "Theirs", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    });
    cluster
        .deployments()
        .patch_status("app", &PatchParams::apply("them"), &Patch::Apply(theirs))
        .await
        .expect("writes theirs");
    cluster.deployment("app", spec("b.test", "app")).await;
    let after = until(&cluster, "app", "Programmed", "True Programmed").await;
    assert_eq!(says(&after, "example.com/Theirs"), "True Theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_overwrites_is_put_right() {
    let cluster = Cluster::shared("overwritten").await;
    let _postern = cluster.postern(&[]).await;
    cluster.service("app").await;
    cluster.deployment("app", spec("a.test", "app")).await;
    until(&cluster, "app", "Programmed", "True Programmed").await;
    let wrong = Patch::Merge(json!({"status": {"hostnames": ["wrong.test"]}}));
    cluster
        .deployments()
        .patch_status("app", &PatchParams::default(), &wrong)
        .await
        .expect("overwrites");
    // For half a minute after a write of its own Postern takes a difference for its watch's lag.
    eventually_within(Duration::from_secs(60), "the status is right again", async || {
        status(&cluster, "app").await.hostnames == ["a.test"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_object_gets_a_status_of_its_own() {
    let cluster = Cluster::shared("recreated").await;
    let _postern = cluster.postern(&[]).await;
    cluster.service("app").await;
    for round in 0..20 {
        // Objects come and go while their statuses are on their way: each has a generation 1 of its own.
        cluster.deployment("app", spec(&format!("h{round}.test"), "app")).await;
        if round < 19 {
            cluster.delete_deployment("app").await;
        }
    }
    let own = async || status(&cluster, "app").await.hostnames == ["h19.test"];
    eventually("the last one has a status of its own", own).await;
    until(&cluster, "app", "Programmed", "True Programmed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_another_class_are_left_to_their_own_installation() {
    let cluster = Cluster::shared("class").await;
    let ours = cluster.postern(&[]).await;
    cluster.service("app").await;
    let mut theirs = spec("theirs.test", "app");
    theirs["className"] = "internal".into();
    cluster.deployment("theirs", theirs).await;
    cluster.deployment("ours", spec("ours.test", "app")).await;
    until(&cluster, "ours", "Programmed", "True Programmed").await;
    assert!(get(&cluster, "theirs").await.status.is_none());
    ours.answers("theirs.test", 404).await;

    let internal = cluster.postern(&["--class", "internal"]).await;
    until(&cluster, "theirs", "Programmed", "True Programmed").await;
    internal.answers("ours.test", 404).await;
    ours.answers("theirs.test", 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_written_at_a_bounded_pace_and_completely() {
    let cluster = Cluster::shared("burst").await;
    let control_plane = ControlPlane::shared().await.expect("a control plane");
    cluster.service("app").await;
    for index in 0..150 {
        cluster
            .deployment(&format!("app-{index}"), spec(&format!("h{index}.test"), "app"))
            .await;
    }
    let _postern = cluster.postern(&[]).await;
    eventually_within(Duration::from_secs(60), "all have a status", async || {
        let all = cluster
            .deployments()
            .list(&ListParams::default())
            .await
            .expect("lists")
            .items;
        all.iter().all(|object| {
            object
                .status
                .as_ref()
                .is_some_and(|status| says(status, "Programmed") == "True Programmed")
        })
    })
    .await;
    let writes = writes(control_plane, &cluster.namespace);
    assert_eq!(writes.len(), 150);
    assert!(writes.values().all(|writes| writes.len() == 1), "{writes:?}");
    let mut times: Vec<_> = writes.into_values().flatten().collect();
    times.sort();
    let span = times[149].duration_since(times[0]);
    assert!(span.as_millis() >= 2800, "150 writes in {span:?}, at 50 a second");
    let _ = cluster
        .deployments()
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await;
}
