//! The CRDs of group postern.dev: types, schema and CEL rules. No logic.

#![allow(
    rustdoc::bare_urls,
    rustdoc::invalid_html_tags,
    reason = "kubectl explain prints these comments as they are"
)]

pub mod deployment;
pub mod duration;
pub mod policy;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

pub const GROUP: &str = "postern.dev";
pub const VERSION: &str = "v1alpha1";

/// All CRDs, in the order in which `postern crds` prints them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        finish(deployment::Deployment::crd()),
        finish(policy::SentinelPolicy::crd()),
    ]
}

/// What `kubectl apply -f -` takes; each of the files in crds/ holds one document of it.
pub fn crds_yaml() -> String {
    crds().iter().map(|crd| format!("---\n{}", yaml(crd))).collect()
}

/// One CRD as a document.
pub fn yaml(crd: &CustomResourceDefinition) -> String {
    // A CRD is plain maps, lists and scalars: there is nothing in it that YAML could not say.
    #[expect(clippy::expect_used, reason = "the line above")]
    let text = serde_saphyr::to_string(crd).expect("a CRD is plain data");
    text
}

/// Comments are wrapped lines, descriptions are paragraphs; OpenAPI knows no unsigned formats; and a structural schema
/// does not refuse unknown fields (the apiserver prunes them), though our own decoding does.
fn finish(crd: CustomResourceDefinition) -> CustomResourceDefinition {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(map) => {
                if map.get("additionalProperties") == Some(&Value::Bool(false)) {
                    map.remove("additionalProperties");
                }
                for (key, value) in map {
                    match value {
                        Value::String(text) if key == "description" => *text = text.replace('\n', " "),
                        Value::String(text) if key == "format" && text == "uint32" => *text = "int32".to_owned(),
                        _ => walk(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    let finished = serde_json::to_value(&crd).and_then(|mut value| {
        walk(&mut value);
        serde_json::from_value(value)
    });
    finished.unwrap_or(crd)
}
