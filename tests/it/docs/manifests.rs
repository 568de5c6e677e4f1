//! The YAML that the documentation shows: each block compiles without a problem beside the objects that it names and does not
//! show, or is a settings file that loads.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use postern::config::{self, Flags};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::certs::Authority;
use crate::support::documentation::{blocks, pages};

#[test]
fn every_manifest_and_settings_file_is_accepted() {
    let (mut manifests, mut settings) = (0, 0);
    for (page, text) in pages() {
        for block in blocks(&text, "yaml").into_iter().chain(typed(&text)) {
            let documents: Vec<Value> = block
                .split("\n---\n")
                .map(|document| {
                    serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{page}: {error}\n{block}"))
                })
                .collect();
            let first = &documents[0];
            if !first["apiVersion"].is_null() {
                check(&page, &documents);
                manifests += 1;
            } else if !first["spec"].is_null() {
                check(&page, &[deployment("chat", &first["spec"])]);
                manifests += 1;
            } else if first["scrape_configs"].is_null() {
                load(&page, block);
                settings += 1;
            }
        }
    }
    assert!(manifests >= 9 && settings >= 4, "{manifests} {settings}");
}

/// The documents that a shell passes to `kubectl apply -f -`.
fn typed(text: &str) -> Vec<&str> {
    let shell = blocks(text, "sh").into_iter();
    let documents = shell.flat_map(|block| block.split("<<EOF\n").skip(1));
    documents
        .map(|rest| rest.split_once("\nEOF").expect("EOF ends it").0)
        .collect()
}

/// A settings file of its own.
fn load(page: &str, block: &str) {
    let folder = TempDir::new().expect("makes a folder");
    let file = folder.path().join("config.yaml");
    fs::write(&file, block).expect("writes");
    let loaded = config::load(&config::Args {
        config: Some(file),
        flags: Flags::default(),
    });
    assert!(loaded.is_ok(), "{page}: {}\n{block}", loaded.unwrap_err());
}

/// What a fragment with a spec alone belongs to.
fn deployment(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "postern.dev/v1alpha1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "acme", "labels": {"tier": "public"}},
        "spec": spec,
    })
}

/// As `postern check` says: all is fully accepted, or what is not is a certificate that only a running leader can order.
fn check(page: &str, documents: &[Value]) {
    let folder = TempDir::new().expect("makes a folder");
    let shown: BTreeSet<_> = documents.iter().map(identity).collect();
    let granted = granted(documents);
    let granted = granted.iter().filter(|object| !shown.contains(&identity(object)));
    for (at, object) in documents.iter().chain(granted).enumerate() {
        fs::write(folder.path().join(format!("{at}.json")), object.to_string()).expect("writes");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_postern"))
        .arg("check")
        .arg(folder.path())
        .output()
        .expect("runs");
    let report = String::from_utf8_lossy(&output.stdout);
    let orders = documents
        .iter()
        .any(|document| document.to_string().contains("\"acme\":{}"));
    if !orders {
        assert!(output.status.success(), "{page}:\n{report}");
        assert!(report.ends_with("all fully accepted\n"), "{page}:\n{report}");
        return;
    }
    assert!(!report.contains("problems in the files"), "{page}:\n{report}");
    for line in report.lines().map(str::trim) {
        assert!(!line.starts_with("PartiallyInvalid"), "{page}:\n{report}");
        if line.starts_with("Accepted") || line.starts_with("ResolvedRefs") {
            let good = line.contains(" True ") || line.contains("CertificatePending");
            assert!(good, "{page}:\n{report}");
            assert!(line.matches("spec.").count() <= 1, "{page}:\n{report}");
        }
    }
}

fn identity(object: &Value) -> (String, String) {
    (object["kind"].to_string(), object["metadata"]["name"].to_string())
}

/// The objects that a reader has: Services, Secrets and ConfigMaps that the documents name, and a Deployment where they show
/// policies alone.
fn granted(documents: &[Value]) -> Vec<Value> {
    let authority = Authority::new("documentation");
    let mut objects = vec![
        labelled(
            "Secret",
            "staff",
            "htpasswd",
            &json!({"auth": format!("anna:{PASSWORD}")}),
        ),
        labelled("ConfigMap", "chat-api", "openapi", &json!({"openapi.yaml": OPENAPI})),
    ];
    for document in documents {
        walk(document, &mut |key, value| match key {
            "service" => objects.push(service(value)),
            "caRef" => {
                let name = value["name"].as_str().expect("a name");
                objects.push(authority.config_map("acme", name));
            }
            "tls" => {
                let entries = value.as_array().into_iter().flatten();
                for entry in entries.filter(|entry| entry["secretName"].is_string()) {
                    let names = entry["hostnames"].as_array().expect("says for which hostnames");
                    let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
                    let name = entry["secretName"].as_str().expect("a name");
                    objects.push(authority.server(&names).secret("acme", name));
                }
            }
            _ => {}
        });
    }
    let shows_apps = documents.iter().any(|document| document["kind"] == "Deployment");
    if !shows_apps {
        let spec = json!({"hostnames": ["app.example.net"], "service": {"name": "app", "port": "http"}});
        objects.extend([service(&spec["service"]), deployment("app", &spec)]);
    }
    let mut seen = BTreeSet::new();
    objects.retain(|object| seen.insert((identity(object), object["spec"].to_string())));
    objects
}

fn walk(value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                visit(key, value);
                walk(value, visit);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}

/// With the port that is asked for, by name or number.
fn service(reference: &Value) -> Value {
    let port = match &reference["port"] {
        Value::String(name) => json!({"name": name, "port": 80}),
        number => json!({"name": "main", "port": number}),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": reference["name"], "namespace": "acme"},
        "spec": {"ports": [port]},
    })
}

fn labelled(kind: &str, name: &str, purpose: &str, data: &Value) -> Value {
    let data_key = if kind == "Secret" { "stringData" } else { "data" };
    json!({
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "acme", "labels": {"postern.dev/use": purpose}},
        data_key: data,
    })
}

/// A hash by bcrypt.
const PASSWORD: &str = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
const OPENAPI: &str = "openapi: 3.1.0\ninfo: {title: chat, version: '1'}\npaths: {/api: {get: {responses: {}}}}\n";
