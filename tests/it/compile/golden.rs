//! Golden files: what stands in `golden/*.in.yaml` compiles to what stands in `golden/*.out.yaml`: the snapshot's hosts and
//! Deployments, and the conditions. `UPDATE_GOLDEN=1 cargo test golden` rewrites the latter; then read the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use postern::compile::acme::Order;
use postern::compile::problem::Finding;
use postern::compile::report::{Details, PolicyDetails, Report, RouteDetails};
use postern::compile::tls::report::Served;
use postern::compile::{Compiled, Input, Previous, compile};
use postern::config::{EndpointRules, Routing};
use postern::hostname::HostName;
use postern::object::ObjectKey;
use postern::store::{Batch, Changes, Event, Object, Store};
use postern::watch::files;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::support::certs::Authority;

/// Keys have no place in files: a document may name a certificate that is made for the occasion, and what of it is by
/// chance is not printed.
#[derive(Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
enum Made {
    /// A kubernetes.io/tls Secret.
    #[serde(rename_all = "camelCase")]
    TestCertificate {
        namespace: String,
        name: String,
        names: Vec<String>,
        /// The value of the label postern.dev/use.
        #[serde(default)]
        purpose: Option<String>,
        /// The key is another certificate's.
        #[serde(default)]
        wrong_key: bool,
    },
    /// A ConfigMap with an authority.
    TestAuthority { namespace: String, name: String },
}

/// One document of a golden file may set the installation; it is no object.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Installation {
    kind: String,
    apex_domain: Option<String>,
    hostname_grants: Option<BTreeMap<Arc<str>, Vec<String>>>,
    selectorless_services: Option<bool>,
    default_tls_secrets: Vec<[String; 2]>,
    require_policy: bool,
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
    let (made, written): (Vec<_>, Vec<_>) = files::documents(text)
        .filter(|document| !document.text.contains("kind: Installation"))
        .partition(|document| document.text.contains("kind: Test"));
    let authority = Authority::new("golden");
    let made = made.into_iter().map(|document| {
        let made: Made = serde_saphyr::from_str(document.text).unwrap();
        made.manifest(&authority).to_string()
    });
    let written = written.into_iter().map(|document| document.text.to_owned());
    let objects = written.chain(made).flat_map(|text| files::parse(&text));
    let objects = objects.map(|object| Event::Apply(object.unwrap()));
    let mut store = Store::default();
    store.apply(Batch {
        events: objects.collect(),
        seen: Instant::now(),
    });
    assert_saved_as_they_are(&store);
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
    parts.retain(|name, part| {
        !(["default_certificates", "challenges", "policies"].contains(&&**name) && is_empty(part))
    });
    snapshot["deployments"]
        .as_object_mut()
        .unwrap()
        .values_mut()
        .for_each(leave_out_defaults);
    leave_out_chance(&mut snapshot);
    let mut reports = Map::new();
    let mut policies = Map::new();
    for report in previous.reports() {
        let id = serde_json::to_value(&report.id).unwrap();
        let key = id.as_str().unwrap().to_owned();
        match &report.details {
            Details::Routes(details) => reports.insert(key, printed(report, details)),
            Details::Policy(details) => policies.insert(report.id.key.to_string(), printed_policy(report, details)),
        };
    }
    let mut outcome = json!({"snapshot": snapshot, "reports": reports});
    if !policies.is_empty() {
        outcome["policies"] = policies.into();
    }
    outcome
}

/// Every field of every kind is the same after it was saved: the golden files have all of them.
fn assert_saved_as_they_are(store: &Store) {
    for object in store.objects() {
        let text = serde_json::to_string(&object).unwrap();
        let read: Object = serde_json::from_str(&text).unwrap();
        let id = read.id();
        let mut again = Store::default();
        again.apply(Batch {
            events: vec![Event::Apply(read)],
            seen: Instant::now(),
        });
        let (shown, shown_again) = (format!("{object:?}"), format!("{:?}", again.objects().next().unwrap()));
        assert_eq!(shown, shown_again, "{id}");
        if let (Some(holder), Some(read)) = (store.holder(&id), again.holder(&id)) {
            assert!(holder.data() == read.data(), "{id}: bytes, which are not shown");
        }
    }
}

fn printed_policy(report: &Report, details: &PolicyDetails) -> Value {
    let mut printed: Map<String, Value> = conditions(report.findings()).collect();
    printed.insert("targets".to_owned(), details.targets.into());
    printed.insert("rules".to_owned(), details.rules.into());
    if !details.ours {
        printed.insert("ours".to_owned(), false.into());
    }
    Value::Object(printed)
}

fn conditions(findings: &[Finding]) -> impl Iterator<Item = (String, Value)> {
    findings.iter().map(|finding| {
        let status = if finding.status { "True" } else { "False" };
        (
            finding.r#type.to_string(),
            format!("{status} {}: {}", finding.reason, finding.message).into(),
        )
    })
}

fn printed(report: &Report, details: &RouteDetails) -> Value {
    let mut printed: Map<String, Value> = conditions(report.findings()).collect();
    let served = |served: &Served| format!("{} for {}", served.secret, served.hostnames.join(", "));
    let certificates: Vec<_> = details.certificates.iter().map(served).collect();
    let order = |order: &Order| {
        let current = order.current.as_ref().map_or("", |_| ", which is there");
        format!("{} in {}{current}", order.hostname, order.secret)
    };
    let orders: Vec<_> = details.orders.iter().map(order).collect();
    for (name, list) in [("certificates", certificates), ("orders", orders)] {
        if !list.is_empty() {
            printed.insert(name.to_owned(), json!(list));
        }
    }
    printed.insert("hostnames".to_owned(), json!(details.hostnames));
    let counts = details.endpoints;
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
            "connect": 2.0, "dial_budget": 5.0, "response": 900.0, "idle": 300.0, "total": null, "handshake": 60.0,
        },
        "strategy": "LeastConnections",
        "state": "Running",
        "ambiguous_paths": "Reject",
    });
    let deployment = deployment.as_object_mut().unwrap();
    deployment.retain(|field, value| defaults.get(field) != Some(value));
    deployment.remove("key");
    deployment.remove("uid");
}

/// Fingerprints and times of certificates.
fn leave_out_chance(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "fingerprint" && name != "notAfter");
            fields.values_mut().for_each(leave_out_chance);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_chance),
        _ => {}
    }
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

impl Made {
    fn manifest(&self, authority: &Authority) -> Value {
        match self {
            Self::TestAuthority { namespace, name } => authority.config_map(namespace, name),
            Self::TestCertificate {
                namespace,
                name,
                names,
                purpose,
                wrong_key,
            } => {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let mut leaf = authority.server(&names);
                if *wrong_key {
                    leaf.key = authority.server(&names).key;
                }
                let mut secret = leaf.secret(namespace, name);
                if let Some(purpose) = purpose {
                    secret["metadata"]["labels"] = json!({"postern.dev/use": purpose});
                }
                secret
            }
        }
    }
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
            default_tls_secrets: self
                .default_tls_secrets
                .iter()
                .map(|[namespace, name]| ObjectKey::new(namespace, name))
                .collect(),
            selectorless_services: self.selectorless_services.unwrap_or(true),
            shared_store: false,
            require_policy: self.require_policy,
            endpoints: EndpointRules {
                refuse_local: !self.allow_local,
                own: self.own.clone(),
            },
        }
    }
}
