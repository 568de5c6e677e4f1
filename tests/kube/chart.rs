//! What Helm renders, and the examples, as the apiserver takes them: each field known, each value valid.

use std::fs;
use std::path::Path;

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::chart::{self, COMBINATIONS, objects, render};

async fn is_taken(cluster: &Cluster, object: &Value, what: &str) {
    let text = |field: &str| object[field].as_str().expect("a text");
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
    // A namespace that is not there yet takes nothing, not even on trial.
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(_) => Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource),
        None => Api::all_with(cluster.client.clone(), &resource),
    };
    let mut object = object.clone();
    if object["metadata"]["namespace"].is_string() {
        object["metadata"]["namespace"] = json!(cluster.namespace);
    }
    let params = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("test").force()
    }
    .dry_run();
    let name = object["metadata"]["name"].as_str().expect("a name");
    let taken = api.patch(name, &params, &Patch::Apply(&object)).await;
    taken.unwrap_or_else(|error| panic!("{what}: {} {name}: {error}", object["kind"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rendered_combination_is_taken() {
    // Before the network is left behind: Helm may have to be built.
    if !crate::support::netns::inside() {
        chart::helm(&["version"]);
    }
    let cluster = Cluster::shared("chart").await;
    for (name, values) in COMBINATIONS {
        for object in objects(&render(values).expect("renders")) {
            is_taken(&cluster, &object, name).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_taken() {
    let cluster = Cluster::shared("examples").await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/examples");
    for entry in fs::read_dir(folder).expect("is there") {
        let path = entry.expect("is there").path();
        for object in objects(&fs::read_to_string(&path).expect("reads")) {
            is_taken(&cluster, &object, &path.display().to_string()).await;
        }
    }
}
