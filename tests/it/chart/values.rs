//! Each value of the chart, and what it changes.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::support::chart::{folder, objects, render};

/// What is set; in which kind of object, where, and to what. "-": nothing must be there.
type Row = (&'static [&'static str], &'static str, &'static str, Value);

const POD: &str = "/spec/template/spec";

// A row a line.
#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let pod = |rest: &str| -> &'static str { format!("{POD}{rest}").leak() };
    let own = |rest: &str| -> &'static str { format!("{POD}/containers/0{rest}").leak() };
    let absent = || json!("-");
    vec![
        (&["kind=DaemonSet"], "DaemonSet", "/spec/updateStrategy/rollingUpdate/maxUnavailable", json!(1)),
        (&["replicas=5"], "Deployment", "/spec/replicas", json!(5)),
        (&["replicas=null"], "Deployment", "/spec/replicas", absent()),
        (&["image.registry=r.example"], "Deployment", own("/image"), json!("r.example/postern:0.1.0")),
        (&["image.repository=other"], "Deployment", own("/image"), json!("other:0.1.0")),
        (&["image.tag=v9"], "Deployment", own("/image"), json!("postern:v9")),
        (&["image.tag=v9", "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000"], "Deployment", own("/image"), json!("postern@sha256:0000000000000000000000000000000000000000000000000000000000000000")),
        (&["image.pullPolicy=Always"], "Deployment", own("/imagePullPolicy"), json!("Always")),
        (&["imagePullSecrets[0].name=a"], "Deployment", pod("/imagePullSecrets"), json!([{"name": "a"}])),
        (&["nameOverride=a"], "Deployment", "/metadata/name", json!("postern-a")),
        (&["fullnameOverride=a"], "Deployment", "/metadata/name", json!("a")),
        (&["commonLabels.a=b"], "NetworkPolicy", "/metadata/labels/a", json!("b")),
        (&["crds.install=false"], "CustomResourceDefinition", "", absent()),
        (&["crds.install=true"], "CustomResourceDefinition", "/metadata/annotations", json!({"helm.sh/resource-policy": "keep"})),
        (&["class=edge"], "Deployment", own("/args/2"), json!("--class=edge")),
        (&["logFormat=text"], "Deployment", own("/args/3"), json!("--log-format=text")),
        (&["http=serve"], "Deployment", own("/args/4"), json!("--http=serve")),
        (&["http=off"], "Deployment", own("/ports/0/name"), json!("https")),
        (&["http=off"], "Service", "/spec/ports/0/name", json!("https")),
        (&["http=off"], "NetworkPolicy", "/spec/ingress/0/ports", json!([{"port": "https"}])),
        (&["watchNamespaces={a,b}"], "Deployment", own("/args/5"), json!("--watch-namespaces=a,b")),
        (&["watchNamespaces={a,b}"], "ClusterRole", "", absent()),
        (&["workers=3"], "Deployment", own("/args/5"), json!("--workers=3")),
        (&["config.log=debug"], "ConfigMap", "/data/postern.yaml", json!("drainDeadline: 45s\ndrainMode: close\nlinger: 4h\nlog: debug\nshutdownDelay: 5s\n")),
        (&["acme.directory=https://a"], "Deployment", own("/args/5"), json!("--acme-directory=https://a")),
        (&["acme.email=a@b"], "Deployment", own("/args/5"), json!("--acme-email=a@b")),
        (&["acme.ca.secretName=a"], "Deployment", own("/args/5"), json!("--acme-ca=/etc/postern/acme/ca.crt")),
        (&["acme.ca.secretName=a", "acme.ca.key=k"], "Deployment", own("/args/5"), json!("--acme-ca=/etc/postern/acme/k")),
        (&["acme.ca.secretName=a"], "Deployment", pod("/volumes/1/secret/secretName"), json!("a")),
        (&["otlp.endpoint=http://o"], "Deployment", own("/args/5"), json!("--otlp-endpoint=http://o")),
        (&["redis.url=redis://r"], "Deployment", own("/args/5"), json!("--redis-url=redis://r")),
        (&["redis.credentialsSecret=a"], "Deployment", own("/args/5"), json!("--redis-credentials=/etc/postern/redis")),
        (&["redis.credentialsSecret=a"], "Deployment", pod("/volumes/1/secret/secretName"), json!("a")),
        (&["state.enabled=true"], "Deployment", own("/args/5"), json!("--state-dir=/var/lib/postern")),
        (&["state.enabled=true"], "Deployment", own("/volumeMounts/1/mountPath"), json!("/var/lib/postern")),
        (&["state.enabled=false"], "Deployment", own("/args/5"), absent()),
        (&["state.enabled=false"], "Deployment", pod("/volumes/1"), absent()),
        (&["state.sizeLimit=64Mi"], "Deployment", pod("/volumes/1/emptyDir"), json!({"medium": "Memory", "sizeLimit": "64Mi"})),
        (&["principalSigningKey.secretName=a"], "Deployment", own("/args/5"), json!("--principal-signing-key=/etc/postern/principal/tls.key")),
        (&["principalSigningKey.secretName=a", "principalSigningKey.key=k"], "Deployment", own("/args/5"), json!("--principal-signing-key=/etc/postern/principal/k")),
        (&["principalSigningKey.secretName=a"], "Deployment", own("/volumeMounts/1/mountPath"), json!("/etc/postern/principal")),
        (&["rbac.create=false"], "Role", "", absent()),
        (&["rbac.acme=false"], "ClusterRole", "/rules/3/verbs", json!(["list", "watch"])),
        (&["rbac.acme=true"], "ClusterRole", "/rules/4/verbs", json!(["get", "create", "patch", "delete"])),
        (&["acme.namespaces={a}"], "ClusterRole", "/rules/3/verbs", json!(["list", "watch"])),
        (&["acme.namespaces={a}"], "Role", "/metadata/namespace", json!("a")),
        (&["acme.namespaces={a}"], "Role", "/rules/0/verbs", json!(["get", "create", "patch", "delete"])),
        (&["acme.namespaces={a}"], "RoleBinding", "/metadata/namespace", json!("a")),
        (&["rbac.aggregate=true"], "ClusterRole", "/metadata/labels/rbac.authorization.k8s.io~1aggregate-to-view", json!("true")),
        (&["rbac.aggregate=false", "rbac.create=true"], "ClusterRole", "/metadata/labels/rbac.authorization.k8s.io~1aggregate-to-view", absent()),
        (&["serviceAccount.create=false"], "ServiceAccount", "", absent()),
        (&["serviceAccount.create=false"], "Deployment", pod("/serviceAccountName"), json!("default")),
        (&["serviceAccount.name=a"], "Deployment", pod("/serviceAccountName"), json!("a")),
        (&["serviceAccount.annotations.a=b"], "ServiceAccount", "/metadata/annotations/a", json!("b")),
        (&["service.enabled=false"], "Service", "", absent()),
        (&["service.type=NodePort"], "Service", "/spec/type", json!("NodePort")),
        (&["service.annotations.a=b"], "Service", "/metadata/annotations/a", json!("b")),
        (&["service.labels.a=b"], "Service", "/metadata/labels/a", json!("b")),
        (&["service.externalTrafficPolicy=Cluster"], "Service", "/spec/externalTrafficPolicy", json!("Cluster")),
        (&["service.type=ClusterIP"], "Service", "/spec/externalTrafficPolicy", absent()),
        (&["service.internalTrafficPolicy=Local"], "Service", "/spec/internalTrafficPolicy", json!("Local")),
        (&["service.trafficDistribution=PreferClose"], "Service", "/spec/trafficDistribution", json!("PreferClose")),
        (&["service.loadBalancerClass=a/b"], "Service", "/spec/loadBalancerClass", json!("a/b")),
        (&["service.loadBalancerSourceRanges={192.0.2.0/24}"], "Service", "/spec/loadBalancerSourceRanges/0", json!("192.0.2.0/24")),
        (&["service.ipFamilyPolicy=SingleStack"], "Service", "/spec/ipFamilyPolicy", json!("SingleStack")),
        (&["service.ipFamilies={IPv6}"], "Service", "/spec/ipFamilies", json!(["IPv6"])),
        (&["service.ports.http=8000"], "Service", "/spec/ports/0/port", json!(8000)),
        (&["service.ports.https=8001"], "Service", "/spec/ports/1/port", json!(8001)),
        (&["service.nodePorts.http=30080"], "Service", "/spec/ports/0/nodePort", json!(30080)),
        (&["service.nodePorts.https=30443"], "Service", "/spec/ports/1/nodePort", json!(30443)),
        (&["service.nodePorts.healthCheck=30901"], "Service", "/spec/healthCheckNodePort", json!(30901)),
        (&["hostPort.enabled=true"], "Deployment", own("/ports/0/hostPort"), json!(80)),
        (&["hostPort.enabled=true", "hostPort.http=81"], "Deployment", own("/ports/0/hostPort"), json!(81)),
        (&["hostPort.enabled=true", "hostPort.https=444"], "Deployment", own("/ports/1/hostPort"), json!(444)),
        (&["networkPolicy.enabled=false"], "NetworkPolicy", "", absent()),
        (&["networkPolicy.from[0].ipBlock.cidr=192.0.2.0/24"], "NetworkPolicy", "/spec/ingress/0/from/0/ipBlock/cidr", json!("192.0.2.0/24")),
        (&["networkPolicy.metricsFrom=null"], "NetworkPolicy", "/spec/ingress/1", absent()),
        (&["autoscaling.enabled=true"], "Deployment", "/spec/replicas", absent()),
        (&["autoscaling.enabled=true", "autoscaling.minReplicas=3"], "HorizontalPodAutoscaler", "/spec/minReplicas", json!(3)),
        (&["autoscaling.enabled=true", "autoscaling.maxReplicas=30"], "HorizontalPodAutoscaler", "/spec/maxReplicas", json!(30)),
        (&["autoscaling.enabled=true", "autoscaling.cpu=50"], "HorizontalPodAutoscaler", "/spec/metrics/0/resource/target/averageUtilization", json!(50)),
        (&["autoscaling.enabled=true", "autoscaling.openSockets=9"], "HorizontalPodAutoscaler", "/spec/metrics/1/pods/target/averageValue", json!("9")),
        (&["autoscaling.enabled=true", "autoscaling.behavior.scaleDown.stabilizationWindowSeconds=9"], "HorizontalPodAutoscaler", "/spec/behavior/scaleDown/stabilizationWindowSeconds", json!(9)),
        (&["podDisruptionBudget.enabled=false"], "PodDisruptionBudget", "", absent()),
        (&["kind=DaemonSet"], "PodDisruptionBudget", "", absent()),
        (&["podDisruptionBudget.maxUnavailable=50%"], "PodDisruptionBudget", "/spec/maxUnavailable", json!("50%")),
        (&["podDisruptionBudget.unhealthyPodEvictionPolicy=IfHealthyBudget"], "PodDisruptionBudget", "/spec/unhealthyPodEvictionPolicy", json!("IfHealthyBudget")),
        (&["updateStrategy.type=Recreate"], "Deployment", "/spec/strategy", json!({"type": "Recreate"})),
        (&["minReadySeconds=9"], "Deployment", "/spec/minReadySeconds", json!(9)),
        (&["revisionHistoryLimit=9"], "Deployment", "/spec/revisionHistoryLimit", json!(9)),
        (&["topologySpreadConstraints=null"], "Deployment", pod("/topologySpreadConstraints"), absent()),
        (&["topologySpreadConstraints[0].topologyKey=a"], "Deployment", pod("/topologySpreadConstraints/0/labelSelector/matchLabels/app.kubernetes.io~1name"), json!("postern")),
        (&["priorityClassName=a"], "Deployment", pod("/priorityClassName"), json!("a")),
        (&["runtimeClassName=a"], "Deployment", pod("/runtimeClassName"), json!("a")),
        (&["nodeSelector.a=b"], "Deployment", pod("/nodeSelector"), json!({"a": "b"})),
        (&["tolerations[0].operator=Exists"], "Deployment", pod("/tolerations"), json!([{"operator": "Exists"}])),
        (&["affinity.nodeAffinity.a=b"], "Deployment", pod("/affinity/nodeAffinity/a"), json!("b")),
        (&["podAnnotations.a=b"], "Deployment", "/spec/template/metadata/annotations", json!({"a": "b"})),
        (&["podLabels.a=b"], "Deployment", "/spec/template/metadata/labels/a", json!("b")),
        (&["podSecurityContext.runAsUser=1"], "Deployment", pod("/securityContext/runAsUser"), json!(1)),
        (&["securityContext.privileged=false"], "Deployment", own("/securityContext/privileged"), json!(false)),
        (&["resources.limits.memory=1Gi"], "Deployment", own("/resources/limits/memory"), json!("1Gi")),
        (&["probes.startup.periodSeconds=9"], "Deployment", own("/startupProbe/periodSeconds"), json!(9)),
        (&["probes.liveness.periodSeconds=9"], "Deployment", own("/livenessProbe/periodSeconds"), json!(9)),
        (&["probes.readiness.periodSeconds=9"], "Deployment", own("/readinessProbe/periodSeconds"), json!(9)),
        (&["metrics.podMonitor.enabled=true"], "PodMonitor", "/spec/podMetricsEndpoints/0/interval", json!("30s")),
        (&["metrics.podMonitor.enabled=true", "metrics.podMonitor.interval=9s"], "PodMonitor", "/spec/podMetricsEndpoints/0/interval", json!("9s")),
        (&["metrics.podMonitor.enabled=true", "metrics.podMonitor.labels.a=b"], "PodMonitor", "/metadata/labels/a", json!("b")),
        (&["metrics.podMonitor.enabled=true", "metrics.podMonitor.relabelings[0].action=drop"], "PodMonitor", "/spec/podMetricsEndpoints/0/relabelings/0/action", json!("drop")),
        (&["metrics.serviceMonitor.enabled=true", "service.enabled=false"], "Service", "/spec/clusterIP", json!("None")),
        (&["metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.interval=9s"], "ServiceMonitor", "/spec/endpoints/0/interval", json!("9s")),
        (&["metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.labels.a=b"], "ServiceMonitor", "/metadata/labels/a", json!("b")),
        (&["metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.relabelings[0].action=drop"], "ServiceMonitor", "/spec/endpoints/0/relabelings/0/action", json!("drop")),
        (&["metrics.podMonitor.enabled=true"], "PodMonitor", "/spec/podMetricsEndpoints/0/honorLabels", json!(true)),
        (&["metrics.serviceMonitor.enabled=true"], "ServiceMonitor", "/spec/endpoints/0/honorLabels", json!(true)),
        (&["metrics.prometheusRule.enabled=true"], "PrometheusRule", "/spec/groups/0/name", json!("postern")),
        (&["metrics.prometheusRule.enabled=true", "metrics.prometheusRule.labels.a=b"], "PrometheusRule", "/metadata/labels/a", json!("b")),
        (&["metrics.dashboards.enabled=true"], "ConfigMap", "/metadata/labels/grafana_dashboard", json!("1")),
        (&["metrics.dashboards.enabled=true", "metrics.dashboards.namespace=a"], "ConfigMap", "/metadata/namespace", json!("a")),
        (&["metrics.dashboards.enabled=true", "metrics.dashboards.labels.a=b"], "ConfigMap", "/metadata/labels/a", json!("b")),
        (&["metrics.dashboards.enabled=true", "metrics.dashboards.annotations.a=b"], "ConfigMap", "/metadata/annotations/a", json!("b")),
        (&["extraArgs={--log=debug}"], "Deployment", own("/args/6"), json!("--log=debug")),
        (&["extraEnv[0].name=A"], "Deployment", own("/env/1/name"), json!("A")),
        (&["extraVolumes[0].name=a"], "Deployment", pod("/volumes/2/name"), json!("a")),
        (&["extraVolumeMounts[0].name=a"], "Deployment", own("/volumeMounts/2/name"), json!("a")),
        (&["extraObjects[0].kind=Extra", "extraObjects[0].name=of-{{ .Release.Name }}"], "Extra", "/name", json!("of-postern")),
    ]
}

#[test]
fn every_value_does_what_it_says() {
    for (values, kind, pointer, wanted) in rows() {
        let rendered = objects(&render(values).unwrap_or_else(|error| panic!("{values:?}: {error}")));
        let of_kind: Vec<_> = rendered.iter().filter(|object| object["kind"] == kind).collect();
        let found: Vec<_> = of_kind.iter().filter_map(|object| object.pointer(pointer)).collect();
        match wanted.as_str() {
            Some("-") => assert!(found.is_empty(), "{values:?}: {kind}{pointer} is {found:?}"),
            _ => assert!(
                found.contains(&&wanted),
                "{values:?}: {kind}{pointer} is {found:?}, not {wanted}"
            ),
        }
    }
}

/// Dotted paths of all values, as far as the chart names them.
fn paths(value: &Value, path: &str, leaves: &mut BTreeSet<String>, maps: &mut BTreeSet<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) if !OPEN.contains(&path) => {
            maps.insert(path.to_owned());
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                paths(value, &format!("{path}{dot}{key}"), leaves, maps);
            }
        }
        _ => {
            leaves.insert(path.to_owned());
        }
    }
}

/// Whatever Kubernetes takes there may stand there.
const OPEN: [&str; 8] = [
    "autoscaling.behavior",
    "metrics.dashboards.labels",
    "podSecurityContext",
    "securityContext",
    "resources",
    "probes.startup",
    "probes.liveness",
    "probes.readiness",
];

/// All values, and the maps that they stand in.
pub fn values() -> (BTreeSet<String>, BTreeSet<String>) {
    let text = fs::read_to_string(folder().join("values.yaml")).unwrap();
    let (mut leaves, mut maps) = (BTreeSet::new(), BTreeSet::new());
    paths(&serde_saphyr::from_str(&text).unwrap(), "", &mut leaves, &mut maps);
    (leaves, maps)
}

#[test]
fn no_value_is_left_out_of_these_tests() {
    let rows = rows();
    let set: Vec<&str> = rows.iter().flat_map(|row| row.0).copied().collect();
    let (leaves, _) = values();
    assert!(leaves.len() > 90, "{leaves:?}");
    for leaf in leaves {
        let tried = |value: &&str| {
            value
                .strip_prefix(&*leaf)
                .is_some_and(|rest| rest.starts_with(['=', '.', '[']))
        };
        // What the settings do is tried by the tests of the settings.
        assert!(set.iter().any(tried) || leaf.starts_with("config."), "{leaf}");
    }
}

#[test]
fn a_typo_is_refused_wherever_it_stands() {
    let (_, maps) = values();
    assert!(maps.len() > 20, "{maps:?}");
    for map in maps {
        let typo = if map.is_empty() {
            "tpyo=1".to_owned()
        } else {
            format!("{map}.tpyo=1")
        };
        let error = render(&[&typo]).expect_err(&typo);
        assert!(error.contains("'tpyo' not allowed"), "{typo}: {error}");
    }
}
