//! The chart, rendered by Helm: every value does what it says, a typo is refused, and what the pods are given is understood.

pub mod values;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use clap::Parser;
use postern::api::duration::Duration;
use postern::config::{self, Flags, HOT};
use serde_json::{Value, json};

use crate::support::chart::{COMBINATIONS, NAMESPACE, folder, helm, objects, render};

#[test]
fn helm_has_nothing_to_say_about_any_combination() {
    let folder = folder();
    for (name, values) in COMBINATIONS {
        let mut arguments = vec!["lint", "--strict", folder.to_str().unwrap()];
        arguments.extend(values.iter().flat_map(|value| ["--set", value]));
        let output = helm(&arguments);
        assert!(output.status.success(), "{name}: {output:?}");
    }
}

#[test]
fn what_cannot_stand_together_is_refused() {
    for (values, says) in [
        (
            &["kind=DaemonSet", "autoscaling.enabled=true"][..],
            "set kind: Deployment",
        ),
        (
            &["autoscaling.enabled=true", "autoscaling.cpu=null"],
            "autoscaling.openSockets",
        ),
        (&["image.digest=latest"], "/image/digest"),
        (&["config.shutdownDelay=5"], "/config/shutdownDelay"),
        (&["config.shutdownDelay=5 minutes"], "/config/shutdownDelay"),
        (&["config.drainMode=now"], "/config/drainMode"),
        (&["config.class=edge"], "'class' not allowed"),
        (&["service.type=ExternalName"], "/service/type"),
    ] {
        let error = render(values).expect_err("is refused");
        assert!(error.contains(says), "{values:?}: {error}");
    }
}

#[test]
fn the_right_to_the_acme_account_is_narrowed_to_its_secret() {
    for (values, directory) in [
        (&["acme.namespaces={a}"][..], Flags::default().acme_directory.as_str()),
        (
            &["rbac.acme=true", "acme.directory=https://a/b", "class=edge"],
            "https://a/b",
        ),
    ] {
        let rendered = objects(&render(values).unwrap());
        let at_home = |object: &&Value| object["kind"] == "Role" && object["metadata"]["namespace"] == NAMESPACE;
        let rules = &rendered.iter().find(at_home).unwrap()["rules"];
        let class = if values.contains(&"class=edge") {
            "edge"
        } else {
            "postern"
        };
        let hash = digest(&SHA256, directory.as_bytes());
        let hash: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(rules[2]["verbs"], json!(["create"]));
        assert_eq!(rules[3]["verbs"], json!(["get", "patch"]));
        assert_eq!(
            rules[3]["resourceNames"],
            json!([format!("postern-{class}-acme-{hash}")])
        );
    }
}

#[test]
fn the_settings_are_those_that_apply_at_once() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(folder().join("values.schema.json")).unwrap()).unwrap();
    let known = schema
        .pointer("/properties/config/properties")
        .unwrap()
        .as_object()
        .unwrap();
    let known: BTreeSet<_> = known.keys().map(String::as_str).collect();
    assert_eq!(known, BTreeSet::from(HOT));
}

/// The container of the one workload.
fn container(rendered: &[Value]) -> &Value {
    let of_kind = |object: &&Value| object["kind"] == "Deployment" || object["kind"] == "DaemonSet";
    &rendered.iter().find(of_kind).unwrap()["spec"]["template"]["spec"]["containers"][0]
}

#[test]
fn what_a_pod_is_given_means_to_postern_what_the_values_say() {
    let settings = |values: &[&str]| {
        let rendered = objects(&render(values).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postern.yaml");
        let config = rendered.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
        fs::write(&file, config["data"]["postern.yaml"].as_str().unwrap()).unwrap();
        let arguments = container(&rendered)["args"].as_array().unwrap();
        let arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
        let arguments = arguments.map(|argument| match argument.starts_with("--config=") {
            true => format!("--config={}", file.display()),
            false => argument.to_owned(),
        });
        config::load(&Run::try_parse_from(arguments).unwrap().args)
    };
    for (name, values) in COMBINATIONS {
        settings(values).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let changed = settings(&[
        "class=edge",
        "workers=3",
        "watchNamespaces={a,b}",
        "config.drainMode=linger",
        "config.hostnameGrants.acme={*.example.com}",
        "config.trustedProxies={10.0.0.0/8}",
        "config.http2=false",
        "config.requirePolicy=true",
    ])
    .unwrap();
    assert_eq!(&*changed.routing.class, "edge");
    assert_eq!(changed.workers.get(), 3);
    assert_eq!(changed.watch_namespaces, ["a", "b"]);
    assert_eq!(changed.drain_mode, config::DrainMode::Linger);
    assert!(changed.routing.hostname_grants.unwrap().contains_key("acme"));
    assert!(!changed.listener.http2 && changed.routing.require_policy);
    assert_eq!(changed.listener.trusted_proxies.len(), 1);
}

#[derive(Parser)]
struct Run {
    #[command(flatten)]
    args: config::Args,
}

#[test]
fn a_pod_has_the_time_that_it_may_take_to_leave() {
    for (delay, deadline, linger, wanted) in [
        ("5s", "45s", None, 60),
        ("1m30s", "250ms", None, 101),
        ("0s", "0s", Some("4h"), 10 + 4 * 3600),
        ("10s", "1m", Some("1h30m"), 10 + 10 + 60 + 5400),
    ] {
        for text in [delay, deadline] {
            text.parse::<Duration>().expect("a duration of Postern's");
        }
        let mut values = vec![
            format!("config.shutdownDelay={delay}"),
            format!("config.drainDeadline={deadline}"),
        ];
        if let Some(linger) = linger {
            values.extend(["config.drainMode=linger".to_owned(), format!("config.linger={linger}")]);
        }
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let rendered = objects(&render(&values).unwrap());
        let workload = rendered.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let seconds = &workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
        assert_eq!(*seconds, json!(wanted), "{values:?}");
    }
}

#[test]
fn hot_values_change_no_pod() {
    let workload = |values: &[&str]| {
        let rendered = objects(&render(values).unwrap());
        rendered
            .into_iter()
            .find(|object| object["kind"] == "Deployment")
            .unwrap()
    };
    let hot = [
        "config.log=debug",
        "config.http2=false",
        "config.hsts=max-age=60",
        "service.type=NodePort",
        "networkPolicy.enabled=false",
    ];
    assert_eq!(workload(&hot), workload(&[]));
}

#[test]
fn the_admin_port_is_in_no_service_that_carries_traffic() {
    for (name, values) in COMBINATIONS {
        for service in objects(&render(values).unwrap()) {
            if service["kind"] == "Service" {
                let ports = service["spec"]["ports"].as_array().unwrap();
                assert!(ports.iter().all(|port| port["targetPort"] != "admin"), "{name}");
            }
        }
    }
}

#[test]
fn a_namespaced_installation_has_no_cluster_scope() {
    let rendered = objects(&render(&["watchNamespaces={a,b}", "crds.install=false"]).unwrap());
    for object in &rendered {
        let namespace = object["metadata"]["namespace"].as_str();
        assert!(
            namespace.is_some_and(|name| [NAMESPACE, "a", "b"].contains(&name)),
            "{object}"
        );
    }
}

#[test]
fn the_manifests_are_the_rendered_chart() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/postern.yaml");
    let head = "# The chart with its defaults: kubectl apply --server-side -f manifests/postern.yaml\n";
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n");
    let wanted = format!("{head}{namespace}{}", render(&[]).unwrap());
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "manifests/postern.yaml is stale: run UPDATE_GENERATED=1 cargo test chart"
    );
}
