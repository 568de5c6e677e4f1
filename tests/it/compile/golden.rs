//! Golden files: what stands in `golden/*.in.yaml` compiles to what stands in `golden/*.out.yaml`: the snapshot's hosts and
//! Deployments, and the conditions. `UPDATE_GOLDEN=1 cargo test golden` rewrites the latter; then read the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use postern::compile::{Compiled, Input, Previous, compile, report::Report};
use postern::config::{EndpointRules, Routing};
use postern::snapshot::HostName;
use postern::store::{Batch, Changes, Event, Store};
use postern::watch::files;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// One document of a golden file may set the installation; it is no object.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Installation {
    kind: String,
    apex_domain: Option<String>,
    hostname_grants: Option<BTreeMap<Arc<str>, Vec<String>>>,
    selectorless_services: Option<bool>,
    /// As with `--manifests`.
    allow_local: bool,
    own: BTreeSet<std::net::SocketAddr>,
}

#[test]
fn every_golden_file_compiles_to_what_stands_beside_it() {
    let inputs = inputs();
    assert!(inputs.len() > 30, "golden files are missing: {inputs:?}");
    let mut wrong = Vec::new();
    for input in inputs {
        let output = PathBuf::from(input.to_str().unwrap().replace(".in.yaml", ".out.yaml"));
        let compiled = serde_saphyr::to_string(&outcome(&std::fs::read_to_string(&input).unwrap())).unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&output, &compiled).unwrap();
        }
        let wanted = std::fs::read_to_string(&output).unwrap_or_default();
        if compiled != wanted {
            wrong.push(format!("{}:\n{}", output.display(), difference(&wanted, &compiled)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn inputs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> = entries
        .filter(|path| path.to_str().unwrap().ends_with(".in.yaml"))
        .collect();
    inputs.sort();
    inputs
}

fn outcome(text: &str) -> Value {
    let installation = files::documents(text)
        .filter(|document| document.text.contains("kind: Installation"))
        .map(|document| serde_saphyr::from_str(document.text).unwrap())
        .next()
        .unwrap_or_else(Installation::default);
    let objects = files::parse(text)
        .into_iter()
        .map(|object| Event::Apply(object.unwrap()));
    let mut store = Store::default();
    store.apply(Batch {
        events: objects.collect(),
        seen: Instant::now(),
    });
    let input = Input {
        store: &store,
        // A first compile looks at everything.
        changes: &Changes::default(),
        listener: &Arc::default(),
    };
    let Compiled { snapshot, previous, .. } = compile(&input, &installation.routing(), Previous::default());
    let mut snapshot = serde_json::to_value(&snapshot).unwrap();
    let parts = snapshot.as_object_mut().unwrap();
    // No part of what is compiled.
    parts.remove("listener");
    let is_empty = |part: &Value| part.as_array().is_some_and(Vec::is_empty) || *part == json!({});
    parts.retain(|name, part| !(["default_certificates", "challenges"].contains(&&**name) && is_empty(part)));
    snapshot["deployments"]
        .as_object_mut()
        .unwrap()
        .values_mut()
        .for_each(leave_out_defaults);
    let reports: Map<_, _> = previous
        .reports()
        .map(|report| (report.key.to_string(), printed(report)))
        .collect();
    json!({"snapshot": snapshot, "reports": reports})
}

fn printed(report: &Report) -> Value {
    let conditions = report.conditions.iter().map(|finding| {
        let status = if finding.status { "True" } else { "False" };
        (
            finding.r#type.to_string(),
            format!("{status} {}: {}", finding.reason, finding.message).into(),
        )
    });
    let mut printed: Map<String, Value> = conditions.collect();
    printed.insert("hostnames".to_owned(), json!(report.hostnames));
    let counts = report.endpoints;
    printed.insert(
        "endpoints".to_owned(),
        format!("{} of {}", counts.ready, counts.total).into(),
    );
    Value::Object(printed)
}

/// So that a golden file shows what it is about.
fn leave_out_defaults(deployment: &mut Value) {
    let defaults = json!({
        "timeouts": {
            "connect": 2.0, "dial_budget": 5.0, "response": 900.0, "idle": 300.0, "total": null, "handshake": 10.0,
        },
        "strategy": "LeastConnections",
        "state": "Running",
    });
    let deployment = deployment.as_object_mut().unwrap();
    deployment.retain(|field, value| defaults.get(field) != Some(value));
    deployment.remove("key");
    deployment.remove("uid");
}

fn difference(wanted: &str, found: &str) -> String {
    let only = |a: &str, b: &str, sign: char| -> Vec<String> {
        let b: BTreeSet<_> = b.lines().collect();
        a.lines()
            .filter(|line| !b.contains(line))
            .map(|line| format!("  {sign} {line}"))
            .collect()
    };
    [only(wanted, found, '-'), only(found, wanted, '+')].concat().join("\n")
}

impl Installation {
    fn routing(&self) -> Routing {
        let name = |text: &String| text.parse::<HostName>().unwrap();
        let patterns = |patterns: &Vec<String>| patterns.iter().map(name).collect();
        Routing {
            class: "postern".into(),
            apex_domain: self.apex_domain.as_ref().map(name),
            hostname_grants: self.hostname_grants.as_ref().map(|grants| {
                grants
                    .iter()
                    .map(|(namespace, list)| (namespace.clone(), patterns(list)))
                    .collect()
            }),
            default_tls_secrets: Box::default(),
            selectorless_services: self.selectorless_services.unwrap_or(true),
            endpoints: EndpointRules {
                refuse_local: !self.allow_local,
                own: self.own.clone(),
            },
        }
    }
}
