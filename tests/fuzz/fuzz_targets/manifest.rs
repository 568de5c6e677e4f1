//! Manifests: whatever a file holds, each document is an object or an error with its line, and says the same in JSON.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use postern::store::Object;
use postern::watch::files::{documents, parse};
use serde_json::{Value, json};

/// Its spec is written and read again.
fn written_again(object: &Object) -> Option<(Value, &'static str)> {
    match object {
        Object::Deployment(deployment) => {
            let spec = deployment.spec.as_ref().ok()?;
            Some((serde_json::to_value(&**spec).unwrap(), "Deployment"))
        }
        Object::SentinelPolicy(policy) => {
            let spec = policy.spec.as_ref().ok()?;
            Some((serde_json::to_value(&**spec).unwrap(), "SentinelPolicy"))
        }
        _ => None,
    }
}

/// CR LF, LF, or CR alone.
fn line_breaks(text: &str) -> usize {
    text.replace("\r\n", "\n").matches(['\n', '\r']).count()
}

fn spec_of(object: Object) -> Result<Value, Arc<str>> {
    match object {
        Object::Deployment(deployment) => {
            let spec = deployment.spec.map_err(|undecoded| undecoded.error)?;
            Ok(serde_json::to_value(&*spec).unwrap())
        }
        Object::SentinelPolicy(policy) => Ok(serde_json::to_value(&*policy.spec?).unwrap()),
        _ => Err("another kind".into()),
    }
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let line = |at: usize| line_breaks(&text[..at]) + 1;
    let lines = line(text.len());
    let all = parse(text);
    for error in all.iter().filter_map(|parsed| parsed.as_ref().err()) {
        assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
    }
    let mut parsed = all.iter();
    for document in documents(text) {
        let offset = document.text.as_ptr().addr() - text.as_ptr().addr();
        assert_eq!(document.line, line(offset));
        let apart = document.parse();
        assert_eq!(apart, parsed.by_ref().take(apart.len()).cloned().collect::<Vec<_>>());

        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let Ok(value) = serde_saphyr::from_str_with_options::<Value>(document.text, options) else {
            continue;
        };
        let in_json = parse(&value.to_string());
        let objects = |all: &[Result<Object, _>]| all.iter().flatten().cloned().collect::<Vec<_>>();
        assert_eq!(objects(&in_json), objects(&apart), "in JSON");
    }
    assert_eq!(parsed.next(), None);

    for object in all.into_iter().flatten() {
        let Some((spec, kind)) = written_again(&object) else {
            continue;
        };
        let manifest = json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec,
        });
        let again = parse(&manifest.to_string()).remove(0).unwrap();
        assert_eq!(spec_of(again), Ok(spec));
    }
});
