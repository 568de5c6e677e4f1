//! Dashboards: they are JSON that Grafana lays out, and show every metric there is.

use std::collections::{BTreeMap, BTreeSet};

use postern::metrics::family;

use super::{assert_exists, dashboards, file, targets};
use crate::support::chart::{objects, render};
use crate::support::prometheus::selectors;

#[test]
fn the_chart_installs_them_as_they_are_written() {
    let rendered = objects(&render(&["metrics.dashboards.enabled=true"]).unwrap());
    let maps = rendered.iter().filter(|object| object["kind"] == "ConfigMap");
    let data = maps.flat_map(|map| map["data"].as_object().expect("data"));
    let installed: BTreeMap<_, _> = data.filter(|(key, _)| key.ends_with(".json")).collect();
    let names: BTreeSet<_> = dashboards().into_keys().collect();
    assert_eq!(installed.len(), names.len());
    assert!(names.len() > 2, "{names:?}");
    for name in names {
        let text = installed[&format!("postern-{name}")].as_str();
        assert_eq!(text, Some(&*file(&format!("dashboards/{name}"))));
    }
}

#[test]
fn they_go_by_what_there_is() {
    let mut shown = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().expect("variables");
        let mut known: BTreeSet<_> = variables.iter().filter_map(|v| v["name"].as_str()).collect();
        known.insert("__rate_interval");
        let asks = variables
            .iter()
            .filter_map(|variable| variable["query"]["query"].as_str());
        let asks: Vec<_> = asks.inspect(|ask| assert_exists(ask)).collect();
        assert!(!asks.is_empty(), "{name} asks for nothing");
        for target in targets(&dashboard) {
            assert_exists(&target.expression);
            for rest in target.expression.split('$').skip(1) {
                let end = rest
                    .find(|c: char| !c.is_ascii_lowercase() && c != '_')
                    .unwrap_or(rest.len());
                assert!(
                    known.contains(&rest[..end]),
                    "{name}: {} knows no ${}",
                    target.panel,
                    &rest[..end]
                );
            }
            let metrics = selectors(&target.expression)
                .into_iter()
                .map(|selector| selector.metric);
            shown.extend(metrics);
        }
    }
    for family in family::ALL {
        let full = family.full_name();
        let seen = shown.iter().any(|metric| {
            metric
                .strip_prefix(&full)
                .is_some_and(|end| ["", "_bucket"].contains(&end))
        });
        assert!(seen, "{full} is on no dashboard");
    }
}

#[test]
fn panels_have_places_of_their_own() {
    let mut titles = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        let stem = name.strip_suffix(".json").expect("JSON");
        assert_eq!(dashboard["uid"], format!("postern-{stem}"));
        assert!(titles.insert(dashboard["title"].as_str().map(str::to_owned)), "{name}");
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().expect("panels") {
            assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{panel}");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
            assert!(w > 0 && h > 0 && x + w <= 24, "{panel}");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{name}: {} lies over another", panel["title"]);
            }
            if panel["type"] != "row" {
                assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
                assert!(
                    panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()),
                    "{panel}"
                );
            }
        }
    }
}
