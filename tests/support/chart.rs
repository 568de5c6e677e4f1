//! The chart, rendered by the real Helm, which is built from source once.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::go_build::Program;

const HELM: Program = Program {
    name: "helm",
    folder: "tests/it/helm",
    package: "helm.sh/helm/v3/cmd/helm",
    // What it takes a cluster to be when it asks none.
    linker_flags: "-s -w \
        -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 \
        -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37 \
        -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 \
        -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=37",
};

pub const NAMESPACE: &str = "postern-system";

/// Values that show each part of the chart at least once, together where they can stand together.
pub const COMBINATIONS: [(&str, &[&str]); 8] = [
    ("the default", &[]),
    (
        "a DaemonSet on host ports",
        &[
            "kind=DaemonSet",
            "hostPort.enabled=true",
            "service.enabled=false",
            "http=serve",
            "tolerations[0].operator=Exists",
        ],
    ),
    (
        "certain namespaces",
        &[
            "watchNamespaces={default,kube-public}",
            "acme.namespaces={default}",
            "class=inner",
            "state.enabled=false",
        ],
    ),
    (
        "without a plaintext port",
        &["http=off", "service.type=ClusterIP", "networkPolicy.metricsFrom=null"],
    ),
    (
        "scaled by CPU and sockets",
        &[
            "autoscaling.enabled=true",
            "autoscaling.openSockets=5000",
            "podDisruptionBudget.maxUnavailable=20%",
        ],
    ),
    (
        "a load balancer's particulars",
        &[
            "service.annotations.a=b",
            "service.labels.c=d",
            "service.loadBalancerClass=example.com/lb",
            "service.loadBalancerSourceRanges={192.0.2.0/24}",
            "service.ipFamilyPolicy=PreferDualStack",
            "service.ipFamilies={IPv4,IPv6}",
            "service.internalTrafficPolicy=Cluster",
            "service.trafficDistribution=PreferClose",
            "service.nodePorts.http=30080",
            "service.nodePorts.https=30443",
            "service.nodePorts.healthCheck=30901",
        ],
    ),
    (
        "everything that is mounted",
        &[
            "rbac.acme=true",
            "acme.ca.secretName=ca",
            "acme.email=ops@example.com",
            "acme.directory=https://acme.example.com/directory",
            "redis.url=rediss://redis:6379",
            "redis.credentialsSecret=redis",
            "principalSigningKey.secretName=principal",
            "extraVolumes[0].name=more",
            "extraVolumes[0].emptyDir.sizeLimit=1Mi",
            "extraVolumeMounts[0].name=more",
            "extraVolumeMounts[0].mountPath=/more",
            "extraEnv[0].name=A",
            "extraEnv[0].value=b",
            "config.drainMode=linger",
        ],
    ),
    (
        "everything about the pod",
        &[
            "replicas=null",
            "workers=2",
            "imagePullSecrets[0].name=pull",
            "image.registry=registry.example.com",
            "commonLabels.team=edge",
            "podLabels.e=f",
            "podAnnotations.g=h",
            "priorityClassName=system-cluster-critical",
            "runtimeClassName=runc",
            "nodeSelector.kubernetes\\.io/os=linux",
            "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey=kubernetes.io/hostname",
            "serviceAccount.annotations.i=j",
            "updateStrategy.type=Recreate",
            "minReadySeconds=5",
            "metrics.dashboards.enabled=true",
            "networkPolicy.from[0].ipBlock.cidr=192.0.2.0/24",
            "extraObjects[0].apiVersion=v1",
            "extraObjects[0].kind=ConfigMap",
            "extraObjects[0].metadata.name=more",
            "extraObjects[0].metadata.namespace=postern-system",
        ],
    ),
];

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/postern")
}

/// Takes two minutes the first time on a machine.
pub fn helm(arguments: &[&str]) -> Output {
    let binary = HELM.build().expect("helm is built");
    let mut command = Command::new(binary);
    // Nothing of the machine's own repositories and plugins.
    let home = tempfile::tempdir().expect("makes a folder");
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, home.path());
    }
    command.args(arguments).output().expect("helm runs")
}

/// What Helm would send for these `--set` values, or what it says is wrong with them.
pub fn render(values: &[&str]) -> Result<String, String> {
    let folder = folder();
    let mut arguments = vec![
        "template",
        "postern",
        folder.to_str().expect("UTF-8"),
        "--namespace",
        NAMESPACE,
    ];
    arguments.extend(["--include-crds", "--skip-tests"]);
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    let output = helm(&arguments);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

/// The objects of a rendering.
pub fn objects(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple::<Value>(text)
        .expect("YAML")
        .into_iter()
        .filter(|object| !object.is_null())
        .collect()
}
