//! Alerts: what they say, and when they fire, by Prometheus' own tool.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{assert_exists, file, rules};
use crate::support::chart::{folder, objects, render};
use crate::support::prometheus::promtool;

/// What the chart installs.
fn installed() -> Value {
    let rendered = objects(&render(&["metrics.prometheusRule.enabled=true"]).unwrap());
    let rule = rendered.into_iter().find(|object| object["kind"] == "PrometheusRule");
    rule.expect("is installed")["spec"].take()
}

#[test]
fn the_chart_installs_the_rules_as_they_are_written() {
    let written: Value = serde_saphyr::from_str(&file("alerts.yaml")).unwrap();
    assert_eq!(installed(), written);
}

#[test]
fn every_alert_says_what_to_do_and_has_cases() {
    let cases =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/observability/cases.yaml")).unwrap();
    let page = fs::read_to_string(folder().join("docs/troubleshooting.md")).unwrap();
    let headings: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let rules = rules();
    for rule in &rules {
        let text = |pointer: &str| rule.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let name = text("/alert");
        assert_exists(text("/expr"));
        assert!(
            ["critical", "warning", "info"].contains(&text("/labels/severity")),
            "{name}"
        );
        for annotation in ["/annotations/summary", "/annotations/description"] {
            assert!(!text(annotation).is_empty(), "{name}{annotation}");
        }
        let runbook = format!("docs/troubleshooting.md#{}", name.to_lowercase());
        assert_eq!(text("/annotations/runbook"), runbook);
        assert!(headings.contains(name), "{name}");
        assert!(cases.contains(name), "{name} has no case");
    }
    let alerts: BTreeSet<_> = rules.iter().filter_map(|rule| rule["alert"].as_str()).collect();
    let told = headings.iter().filter(|heading| heading.starts_with("Postern"));
    assert_eq!(told.copied().collect::<BTreeSet<_>>(), alerts);
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let work = tempfile::tempdir().unwrap();
    // JSON is YAML.
    fs::write(work.path().join("alerts.yaml"), installed().to_string()).unwrap();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/observability/cases.yaml");
    fs::copy(cases, work.path().join("cases.yaml")).unwrap();
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "cases.yaml"]] {
        passes(work.path(), &arguments);
    }
}

#[test]
fn the_configuration_without_the_operator_is_one() {
    let page = fs::read_to_string(folder().join("docs/observability.md")).unwrap();
    let mut blocks = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```"));
    let (config, _) = blocks.find(|(block, _)| block.contains("scrape_configs")).unwrap();
    // Debian's Prometheus is built without that discovery.
    let (before, discovery) = config.split_once("kubernetes_sd_configs:").unwrap();
    let (_, after) = discovery.split_once('\n').unwrap();
    let config = format!("{before}static_configs: [{{targets: [localhost]}}]\n{after}");
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("prometheus.yml"), config).unwrap();
    fs::write(work.path().join("alerts.yaml"), file("alerts.yaml")).unwrap();
    passes(work.path(), &["check", "config", "prometheus.yml"]);
}

fn passes(folder: &Path, arguments: &[&str]) {
    let output = promtool(folder, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let told = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
}
