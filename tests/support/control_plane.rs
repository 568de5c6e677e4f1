//! A real Kubernetes control plane for tests: etcd, kube-apiserver, and the controllers that turn
//! Services into EndpointSlices, clean up namespaces and run Deployments. There is no kubelet and
//! no scheduler: pods.rs plays their part.
//!
//! It lives in the test's network namespace and ends with the test process, however that ends.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use http::Request;
use k8s_openapi::api::core::v1::{Namespace, Node, Service, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::go_build::Binaries;
use super::netns;
use super::process::{self, Process, RunFolder, free_port};

/// The node that pods are bound to. The endpointslice controller leaves out pods of unknown nodes.
pub const NODE: &str = "node";
pub const ZONE: &str = "zone-a";

const ADMIN: &str = "admin";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";

/// Not among them: those that evict and delete pods because their node shows no sign of life.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,\
    serviceaccount-controller,root-ca-certificate-publisher-controller,\
    endpointslice-controller,endpointslice-mirroring-controller,\
    deployment-controller,replicaset-controller";

/// Seconds on an idle machine; the rest is for one that compiles at the same time.
const START_TIMEOUT: Duration = Duration::from_secs(90);

pub struct ControlPlane {
    // Dropped in this order: the clients of a process end before it, the folder goes last.
    controllers: Option<Process>,
    apiserver: Option<Process>,
    etcd: Process,
    binaries: Binaries,
    apiserver_port: u16,
    etcd_port: u16,
    run: RunFolder,
}

impl ControlPlane {
    /// The control plane of this test process, for tests that keep to namespaces of their own.
    ///
    /// To be called first in a test, for the reason that [`netns::enter`] gives; so is
    /// [`ControlPlane::start`].
    pub async fn shared() -> Result<&'static Self> {
        // A failure is kept as well, as text: the next test would only wait for the same.
        static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
        SHARED
            .get_or_init(async || Self::start().await.map_err(|error| format!("{error:#}")))
            .await
            .as_ref()
            .map_err(|error| anyhow!("{error}"))
    }

    /// A control plane for one test alone, such as one that takes the apiserver away.
    pub async fn start() -> Result<Self> {
        let binaries = Binaries::build()?;
        netns::enter()?;
        let run = RunFolder::create()?;
        let etcd_port = free_port()?;
        let apiserver_port = free_port()?;
        write_configuration(&run, &binaries, apiserver_port)?;
        let etcd = start_etcd(&binaries, &run, etcd_port).await?;
        let mut this = Self {
            controllers: None,
            apiserver: None,
            etcd,
            binaries,
            apiserver_port,
            etcd_port,
            run,
        };
        this.start_apiserver().await?;
        this.start_controllers().await?;
        this.create_node().await?;
        Ok(this)
    }

    /// A new client as administrator. It belongs to the runtime of the calling test.
    pub async fn client(&self) -> Result<kube::Client> {
        Ok(self.config().await?.try_into()?)
    }

    /// For clients that are someone else (`auth_info.impersonate`) or have other timeouts.
    pub async fn config(&self) -> Result<kube::Config> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let options = KubeConfigOptions::default();
        Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?)
    }

    /// The administrator's, for any client. It names the apiserver's certificate by path.
    pub fn kubeconfig(&self) -> PathBuf {
        self.run.path(&format!("{ADMIN}.kubeconfig"))
    }

    /// What else can be started beside it.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Creates a namespace with a unique name, fit for pods.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let client = self.client().await?;
        let metadata = json!({"generateName": format!("{prefix}-")});
        let namespace: Namespace = serde_json::from_value(json!({"metadata": metadata}))?;
        let created = Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let name = created.metadata.name.context("name of the namespace")?;
        // Admission refuses pods without a ServiceAccount.
        let accounts: Api<ServiceAccount> = Api::namespaced(client, &name);
        self.wait_until("the namespace has its ServiceAccount", async || {
            accounts.get("default").await?;
            Ok(())
        })
        .await?;
        Ok(name)
    }

    /// Ends the apiserver as a crash would: connections break, nobody is told. Data stays.
    pub fn stop_apiserver(&mut self) {
        self.apiserver = None;
    }

    /// Starts the apiserver, on the same port as before, and waits until it is ready.
    pub async fn start_apiserver(&mut self) -> Result<()> {
        let run = &self.run;
        let mut command = self.binaries.command("kube-apiserver");
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .arg(format!("--secure-port={}", self.apiserver_port))
            .arg(run.flag("cert-dir", "certificates"))
            .arg(run.flag("token-auth-file", "tokens.csv"))
            .arg(run.flag("service-account-key-file", "key.pem"))
            .arg(run.flag("service-account-signing-key-file", "key.pem"))
            .arg(run.flag("audit-policy-file", "audit-policy.json"))
            .arg(run.flag("audit-log-path", "audit.jsonl"))
            .args([
                "--bind-address=127.0.0.1",
                // The endpoint of Service `kubernetes`, which may not be a loopback address.
                "--advertise-address=10.244.255.254",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
                "--authorization-mode=RBAC",
            ]);
        self.apiserver = Some(Process::spawn("kube-apiserver", command, run)?);
        self.wait_until("the apiserver is ready", async || {
            // Reads the kubeconfig anew: the first time the certificate is yet to be made.
            let client = self.client().await?;
            client.request_text(Request::get("/readyz").body(vec![])?).await?;
            Api::<Service>::namespaced(client, "default").get("kubernetes").await?;
            Ok(())
        })
        .await
    }

    /// The requests that the apiserver has answered, oldest first, but for those of Kubernetes
    /// itself: as audit.k8s.io/v1 events without bodies. A watch is in it when it starts (stage
    /// ResponseStarted) and when it ends, every other request once.
    pub fn audit_events(&self) -> Result<Vec<Value>> {
        let log = fs::read_to_string(self.run.path("audit.jsonl")).context("reading the audit log")?;
        log.split_inclusive('\n')
            // The last line may be half written.
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).context("parsing the audit log"))
            .collect()
    }

    async fn start_controllers(&mut self) -> Result<()> {
        let run = &self.run;
        let mut command = self.binaries.command("kube-controller-manager");
        command
            .arg(run.flag("kubeconfig", &format!("{CONTROLLER_MANAGER}.kubeconfig")))
            .arg(run.flag("root-ca-file", "certificates/apiserver.crt"))
            .arg(format!("--controllers={CONTROLLERS}"))
            .args(["--leader-elect=false", "--secure-port=0"]);
        self.controllers = Some(Process::spawn("kube-controller-manager", command, run)?);
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, "default");
        self.wait_until("the controllers work", async || {
            accounts.get("default").await?;
            Ok(())
        })
        .await
    }

    async fn create_node(&self) -> Result<()> {
        let node: Node = serde_json::from_value(json!({"metadata": {
            "name": NODE,
            "labels": {"kubernetes.io/hostname": NODE, "topology.kubernetes.io/zone": ZONE},
        }}))?;
        let nodes = Api::all(self.client().await?);
        nodes.create(&PostParams::default(), &node).await?;
        Ok(())
    }

    async fn wait_until(&self, condition: &str, check: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let processes = [Some(&self.etcd), self.apiserver.as_ref(), self.controllers.as_ref()];
        let processes: Vec<_> = processes.into_iter().flatten().collect();
        process::wait_until(condition, &processes, START_TIMEOUT, check).await
    }
}

async fn start_etcd(binaries: &Binaries, run: &RunFolder, port: u16) -> Result<Process> {
    let peer_port = free_port()?;
    let mut command = binaries.command("etcd");
    command
        .arg(run.flag("data-dir", "etcd"))
        .arg(format!("--listen-client-urls=http://127.0.0.1:{port}"))
        .arg(format!("--advertise-client-urls=http://127.0.0.1:{port}"))
        .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"))
        // What survives a crash of the machine is of no interest here.
        .arg("--unsafe-no-fsync");
    let etcd = Process::spawn("etcd", command, run)?;
    // The apiserver looks for etcd once a second: sooner is better.
    process::wait_until("etcd listens", &[&etcd], START_TIMEOUT, async || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        Ok(())
    })
    .await?;
    Ok(etcd)
}

fn write_configuration(run: &RunFolder, binaries: &Binaries, apiserver_port: u16) -> Result<()> {
    let key = binaries.command("generate-key").output();
    let key = key.context("generating a key for ServiceAccount tokens")?;
    ensure!(
        key.status.success(),
        "generating a key for ServiceAccount tokens: {}",
        key.status
    );
    run.write("key.pem", &key.stdout)?;

    let mut tokens = String::new();
    for user in [ADMIN, CONTROLLER_MANAGER] {
        // Who can reach the port is in the test's network namespace: nothing to keep secret.
        tokens += &format!("token-{user},{user},{user},system:masters\n");
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{apiserver_port}"),
                // Self-signed, by the apiserver when it first starts.
                "certificate-authority": run.path("certificates/apiserver.crt"),
            }}],
            "users": [{"name": user, "user": {"token": format!("token-{user}")}}],
        });
        let name = format!("{user}.kubeconfig");
        run.write(&name, kubeconfig.to_string().as_bytes())?;
    }
    run.write("tokens.csv", tokens.as_bytes())?;

    let audit_policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "users": [CONTROLLER_MANAGER, "system:apiserver"]},
            {"level": "Metadata"},
        ],
    });
    run.write("audit-policy.json", audit_policy.to_string().as_bytes())
}
