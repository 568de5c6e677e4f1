//! Every value of the chart, with its default and what stands above it in values.yaml.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::{assert_table, code};
use crate::chart::values::values;
use crate::support::chart::folder;

#[test]
fn values_are_those_of_the_chart() {
    let text = fs::read_to_string(folder().join("values.yaml")).expect("reads");
    let whole: Value = serde_saphyr::from_str(&text).expect("YAML");
    let said = descriptions(&text);
    let (leaves, _) = values();
    // In the order of the file.
    let rows = said
        .iter()
        .filter(|(path, _)| leaves.contains(path))
        .map(|(path, description)| {
            assert!(!description.is_empty(), "{path} has no description in values.yaml");
            let default = path.split('.').fold(&whole, |value, key| &value[key]);
            [code(path), code(&default.to_string()), description.replace('<', "\\<")]
        });
    let rows: Vec<_> = rows.collect();
    let known: BTreeMap<_, _> = said.iter().cloned().collect();
    for leaf in &leaves {
        assert!(known.contains_key(leaf), "{leaf} was not found in values.yaml");
    }
    assert_eq!(rows.len(), leaves.len());
    assert_table("values.md", "values", ["value", "default", "description"], rows);
}

/// Each key's dotted path, and the `# --` lines right above it.
fn descriptions(text: &str) -> Vec<(String, String)> {
    let mut above = Vec::new();
    let mut parents: Vec<(usize, &str)> = Vec::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let Some(description) = trimmed.strip_prefix("# -- ") {
            above.push(description);
            continue;
        }
        let is_key = |key: &&str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if let Some(key) = trimmed.split_once(':').map(|(key, _)| key).filter(is_key) {
            parents.retain(|(parent, _)| *parent < indent);
            parents.push((indent, key));
            let path: Vec<_> = parents.iter().map(|(_, key)| *key).collect();
            found.push((path.join("."), above.join(" ")));
        }
        above.clear();
    }
    found
}
