//! The cluster, the release of the chart on it, and the app behind it.

use std::env;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment as Workload;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use tokio::net::TcpStream;

use crate::support::eventually_within;

pub const NAMESPACE: &str = "postern-system";
pub const APPS: &str = "apps";
pub const HOST: &str = "app.test";
/// For what a rollout, a lease or a kubelet may take.
pub const LONG: Duration = Duration::from_secs(120);

pub struct World {
    pub client: Client,
    node: String,
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is set by tests/cluster/run"))
}

/// Fails with what the command has said.
pub fn said(output: &Output, what: &str) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{what}: {text}");
    text
}

pub fn helm(arguments: &[&str]) -> String {
    let output = Command::new(variable("HELM"))
        .args(arguments)
        .output()
        .expect("helm runs");
    said(&output, &format!("helm {}", arguments.join(" ")))
}

pub fn kubectl(arguments: &[&str]) -> String {
    let output = Command::new("kubectl").args(arguments).output().expect("kubectl runs");
    said(&output, &format!("kubectl {}", arguments.join(" ")))
}

/// All that the replicas have said.
pub fn logs() -> String {
    let selector = "app.kubernetes.io/name=postern";
    kubectl(&["logs", "-n", NAMESPACE, "--selector", selector, "--tail=-1"])
}

/// Returns when every replica is of the newest kind and ready.
pub fn rolled_out() {
    let what = "deployment/postern";
    kubectl(&["rollout", "status", "-n", NAMESPACE, what, "--timeout=120s"]);
}

/// What only the cluster's provider can do: see node.sh and kind.sh.
pub fn control(call: &str) -> String {
    let script = format!("source {} && {call}", variable("CONTROL"));
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    said(&output, call)
}

/// Installs the chart, or changes the release to these values.
pub fn release(name: &str, namespace: &str, values: &[&str]) {
    let chart = variable("CHART");
    let mut arguments = vec![
        "upgrade",
        "--install",
        name,
        &chart,
        "--namespace",
        namespace,
        "--create-namespace",
    ];
    arguments.extend(["--reset-values", "--wait", "--timeout", "120s"]);
    let usual = [
        "image.repository=localhost/postern",
        "image.tag=test",
        "image.pullPolicy=Never",
        "service.type=NodePort",
        "resources.requests.cpu=10m",
    ];
    arguments.extend(usual.iter().chain(values).flat_map(|value| ["--set", value]));
    helm(&arguments);
}

impl World {
    /// The release `postern` with these values, and an app with two pods behind HOST.
    pub async fn with(values: &[&str]) -> Self {
        let client = Client::try_default().await.expect("a client");
        let world = Self {
            client,
            node: variable("NODE_ADDRESS"),
        };
        release("postern", NAMESPACE, values);
        world.start_app().await;
        // While a replica with other values leaves, the Service may still lead to it.
        world.settled().await;
        world
    }

    async fn start_app(&self) {
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": APPS}}))
            .await;
        let labels = json!({"app": "app"});
        self.apply(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": APPS},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
                    "name": "app", "image": "localhost/app:test", "imagePullPolicy": "Never",
                    "ports": [{"name": "http", "containerPort": 3000}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
                }]},
            }},
        }))
        .await;
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "app", "namespace": APPS},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }))
        .await;
        self.apply(&json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "app", "namespace": APPS},
            "spec": {"hostnames": [HOST], "service": {"name": "app", "port": "http"}},
        }))
        .await;
        let workloads: Api<Workload> = Api::namespaced(self.client.clone(), APPS);
        eventually_within(LONG, "the app is ready", async || {
            let status = workloads.get("app").await.expect("is there").status;
            status.is_some_and(|status| status.ready_replicas == Some(2))
        })
        .await;
    }

    pub async fn apply(&self, object: &Value) {
        let kind = |field: &str| object[field].as_str().expect("a text").to_owned();
        let api_version = kind("apiVersion");
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind("kind")));
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let name = object["metadata"]["name"].as_str().expect("a name");
        let params = PatchParams::apply("suite").force();
        api.patch(name, &params, &Patch::Apply(object)).await.expect("applies");
    }

    /// Where a client outside finds a port of the release's Service.
    pub async fn address(&self, release: &str, namespace: &str, port: &str) -> SocketAddr {
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let ports = services
            .get(release)
            .await
            .expect("is there")
            .spec
            .and_then(|spec| spec.ports);
        let ports = ports.unwrap_or_default();
        let node_port = ports
            .iter()
            .find(|found| found.name.as_deref() == Some(port))
            .and_then(|found| found.node_port);
        let address: SocketAddr = format!("{}:{}", self.node, node_port.expect("a node port"))
            .parse()
            .expect("an address");
        // kube-proxy hears of the Service and of its endpoints as everybody does.
        eventually_within(LONG, "the node port leads to a pod", async || {
            TcpStream::connect(address).await.is_ok()
        })
        .await;
        address
    }

    pub async fn http(&self) -> SocketAddr {
        self.address("postern", NAMESPACE, "http").await
    }

    /// Of a release: those that are not leaving.
    pub async fn replicas(&self, namespace: &str) -> Vec<Pod> {
        self.pods(namespace, "app.kubernetes.io/name=postern")
            .await
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect()
    }

    pub async fn pods(&self, namespace: &str, selector: &str) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        pods.list(&ListParams::default().labels(selector))
            .await
            .expect("lists")
            .items
    }

    /// The pod that writes status.
    pub async fn leader(&self) -> Option<String> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        let holder = leases.get("postern-postern").await.ok()?.spec?.holder_identity?;
        let pod = holder.rsplit_once('_')?.0.to_owned();
        (!pod.is_empty()).then_some(pod)
    }

    /// Waits until two replicas are ready, none leaves any more, and the disruption budget has noticed.
    pub async fn settled(&self) {
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), NAMESPACE);
        eventually_within(LONG, "two replicas are ready and alone", async || {
            let pods = self.pods(NAMESPACE, "app.kubernetes.io/name=postern").await;
            let budget = budgets.get("postern").await.expect("is there").status;
            let one_may_go =
                budget.is_some_and(|status| status.current_healthy == 2 && status.disruptions_allowed == 1);
            pods.len() == 2 && pods.iter().all(is_ready) && one_may_go
        })
        .await;
    }
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}

pub fn restarts(pod: &Pod) -> i32 {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}

/// As the provider's `kill_container` takes it.
pub fn container_id(pod: &Pod) -> String {
    let container = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .next();
    let id = container
        .and_then(|container| container.container_id.as_deref())
        .expect("it runs");
    id.rsplit('/').next().expect("an id").to_owned()
}

/// A row of what has been measured.
pub fn tell(what: &str, since: Instant) {
    println!("measured: {what}: {:.2} s", since.elapsed().as_secs_f64());
}
