//! What the chart makes for the Prometheus operator, by the operator's own CRDs: each field known, each value valid.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::chart::{objects, render};

/// Its sources, as tests/it/operator pins them. Fetched the first time.
fn sources() -> PathBuf {
    let mut go = Command::new("go");
    go.arg("-C")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/operator"));
    go.args([
        "mod",
        "download",
        "-json",
        "github.com/prometheus-operator/prometheus-operator",
    ]);
    let output = go.output().expect("go is installed");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    told["Dir"].as_str().unwrap_or_else(|| panic!("{told}")).into()
}

/// The schema of a kind, in which no field but its own may stand.
fn schema(sources: &Path, plural: &str) -> Value {
    let name = format!("example/prometheus-operator-crd/monitoring.coreos.com_{plural}.yaml");
    let text = fs::read_to_string(sources.join(name)).unwrap();
    let mut crd: Value = serde_saphyr::from_str(&text).unwrap();
    let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take();
    close(&mut schema);
    // The apiserver's own.
    schema["properties"]["metadata"] = json!({"type": "object"});
    schema
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("x-kubernetes-int-or-string") == Some(&json!(true)) {
                fields.remove("type");
            }
            if fields.contains_key("properties") && fields.get("type") == Some(&json!("object")) {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn monitors_and_rules_are_the_operators() {
    let sources = sources();
    let more = ["labels.a=b", "relabelings[0].action=drop"].map(|value| {
        let monitors = ["podMonitor", "serviceMonitor"];
        monitors.map(|monitor| format!("metrics.{monitor}.{value}"))
    });
    let enabled = ["podMonitor", "serviceMonitor", "prometheusRule"].map(|name| format!("metrics.{name}.enabled=true"));
    let values: Vec<_> = more.iter().flatten().chain(&enabled).map(String::as_str).collect();
    let rendered = objects(&render(&values).unwrap());
    for (kind, plural) in [
        ("PodMonitor", "podmonitors"),
        ("ServiceMonitor", "servicemonitors"),
        ("PrometheusRule", "prometheusrules"),
    ] {
        let validator = jsonschema::validator_for(&schema(&sources, plural)).unwrap();
        let object = rendered.iter().find(|object| object["kind"] == kind).expect(kind);
        let errors: Vec<_> = validator.iter_errors(object).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{kind}: {errors:?}");
        // That it would find a mistake.
        let mut wrong = object.clone();
        wrong["spec"]["tpyo"] = json!(true);
        assert!(!validator.is_valid(&wrong), "{kind}");
    }
}
