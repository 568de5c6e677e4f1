//! The chart's alerts and dashboards: they are installed as they are written, go by what there is, and a real Prometheus that
//! scrapes a real Postern makes something of every expression.

mod alerts;
mod dashboards;
mod operator;
mod scraped;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use postern::metrics::family;
use postern::metrics::family::{Family, Kind};
use postern::policy::mode::Mode;
use postern::policy::rule_state::Decision;
use postern::reason::{CLOSED_REQUEST, Reason};
use postern::runtime::handshakes::Outcome;
use postern::runtime::traffic::{ClosedBy, DialResult};
use serde_json::Value;
use strum::VariantArray;

use crate::support::chart::folder;
use crate::support::prometheus::{groupings, selectors};

/// What Prometheus itself adds to each sample: `job` and `instance` always, the rest by the chart's monitors.
const TARGET: [&str; 4] = ["job", "namespace", "pod", "instance"];

fn file(name: &str) -> String {
    fs::read_to_string(folder().join("files").join(name)).expect("reads")
}

/// The family of a metric's name as expressions have it.
fn family(name: &str) -> Option<&'static Family> {
    family::ALL.iter().copied().find(|family| {
        name.strip_prefix(&family.full_name())
            .is_some_and(|end| match family.kind {
                Kind::Histogram => ["_bucket", "_sum", "_count"].contains(&end),
                Kind::Counter | Kind::Gauge => end.is_empty(),
            })
    })
}

/// All values that a label can have, where the code lists them.
fn values(family: &Family, label: &str) -> Option<BTreeSet<&'static str>> {
    let values = match label {
        "reason" => {
            let reasons = Reason::VARIANTS.iter().map(|reason| reason.code());
            reasons.chain(["", CLOSED_REQUEST]).collect()
        }
        "code" => BTreeSet::from(["1xx", "2xx", "3xx", "4xx", "5xx"]),
        "mode" => Mode::VARIANTS.iter().map(|mode| mode.label()).collect(),
        "decision" => Decision::VARIANTS.iter().map(|decision| decision.label()).collect(),
        "closed_by" => ClosedBy::VARIANTS.iter().map(|by| by.label()).collect(),
        "result" if family.name == family::DIAL_ATTEMPTS.name => {
            DialResult::VARIANTS.iter().map(|r| r.label()).collect()
        }
        "result" if family.name == family::TLS_HANDSHAKES.name => Outcome::VARIANTS.iter().map(|o| o.label()).collect(),
        _ => return None,
    };
    Some(values)
}

/// Metrics, their labels and their labels' values are those of the code.
fn assert_exists(expression: &str) {
    let selectors = selectors(expression);
    assert!(!selectors.is_empty(), "{expression} names no metric");
    let mut labels = BTreeSet::from(TARGET);
    for selector in &selectors {
        let family = family(&selector.metric).unwrap_or_else(|| panic!("{expression}: no {}", selector.metric));
        let le = (family.kind == Kind::Histogram).then_some("le");
        let own: BTreeSet<_> = family.labels.iter().copied().chain(TARGET).chain(le).collect();
        for (label, value) in &selector.matchers {
            assert!(
                own.contains(&**label),
                "{expression}: no {label} on {}",
                selector.metric
            );
            if let Some(known) = values(family, label) {
                for value in value.split('|').filter(|value| !value.starts_with('$')) {
                    assert!(known.contains(value), "{expression}: {label} is never {value:?}");
                }
            }
        }
        labels.extend(own);
    }
    for label in groupings(expression) {
        assert!(
            labels.contains(&*label),
            "{expression}: {label} is on none of its metrics"
        );
    }
}

#[test]
fn expressions_of_what_does_not_exist_are_found_out() {
    for expression in [
        "sum(postern_request_total)",
        "sum(postern_requests_bucket)",
        "postern_propagation_seconds",
        "postern_requests_total{host=\"a\"}",
        "postern_requests_total{code=\"503\"}",
        "postern_requests_total{reason!~\"|capacity:offline\"}",
        "postern_dial_attempts_total{result=\"completed\"}",
        "sum by (kind) (postern_requests_total)",
        "up",
    ] {
        let result = std::panic::catch_unwind(|| assert_exists(expression));
        assert!(result.is_err(), "{expression}");
    }
    assert_exists("sum by (pod, le) (rate(postern_propagation_seconds_bucket{job=~\"$job\"}[5m]))");
    assert_exists("postern_dial_attempts_total{result=~\"no_ports|no_descriptors\"}");
}

/// By name: the dashboards as they are parsed.
fn dashboards() -> BTreeMap<String, Value> {
    let entries = fs::read_dir(folder().join("files/dashboards")).expect("is there");
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("UTF-8");
    let names = entries.map(|entry| name(entry.expect("is there")));
    names
        .map(|name| {
            let text = file(&format!("dashboards/{name}"));
            let dashboard = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, dashboard)
        })
        .collect()
}

/// What a panel draws.
struct Target {
    panel: String,
    expression: String,
    /// Labels in the legend.
    legend: Vec<String>,
}

fn targets(dashboard: &Value) -> Vec<Target> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut targets = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let legend = text(&target["legendFormat"]);
            let labels = legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
            targets.push(Target {
                panel: text(&panel["title"]),
                expression: text(&target["expr"]),
                legend: labels.map(|(label, _)| label.to_owned()).collect(),
            });
        }
    }
    targets
}

/// The rules as they are written.
fn rules() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&file("alerts.yaml")).expect("YAML");
    let groups = rules["groups"].as_array().expect("groups").iter();
    groups
        .flat_map(|group| group["rules"].as_array().expect("rules").clone())
        .collect()
}
