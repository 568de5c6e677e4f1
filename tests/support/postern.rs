//! A running Postern as its operator has it: the binary, a folder of manifests or a cluster, its two ports and its log.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::site::Site;
use super::wire::{Answer, get};
use super::{LIMIT, eventually};

/// The name of the settings file.
const SETTINGS: &str = "settings";

/// Dropping it kills it. Its log is printed when the test fails.
pub struct Postern {
    /// Under `--http off` an address where nothing listens.
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
    folder: TempDir,
    settings: TempDir,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    access: Arc<Mutex<Vec<Value>>>,
    /// Where nobody reads it.
    _stdout: Option<ChildStdout>,
}

impl Postern {
    /// On a folder with these manifests, once it is ready.
    pub async fn start(sites: &[Site]) -> Self {
        Self::start_with(sites, &[]).await
    }

    /// With more flags of `run`.
    pub async fn start_with(sites: &[Site], flags: &[&str]) -> Self {
        let settings = tempfile::tempdir().expect("makes a folder");
        Self::start_in(settings, sites, flags).await
    }

    /// On a system that trusts these authorities.
    pub async fn start_trusting(sites: &[Site], authorities: &str) -> Self {
        let settings = tempfile::tempdir().expect("makes a folder");
        let file = settings.path().join("authorities.pem");
        fs::write(&file, authorities).expect("writes");
        let mut command = command();
        command.env("SSL_CERT_FILE", file);
        Self::start_as(command, settings, sites, &[]).await
    }

    /// With a settings file, which `configure` writes anew.
    pub async fn start_configured(sites: &[Site], settings: &Value) -> Self {
        let folder = tempfile::tempdir().expect("makes a folder");
        fs::write(path(&folder, SETTINGS), settings.to_string()).expect("writes");
        let file = path(&folder, SETTINGS).display().to_string();
        Self::start_in(folder, sites, &["--config", &file]).await
    }

    async fn start_in(settings: TempDir, sites: &[Site], flags: &[&str]) -> Self {
        Self::start_as(command(), settings, sites, flags).await
    }

    async fn start_as(mut command: Command, settings: TempDir, sites: &[Site], flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("makes a folder");
        for site in sites {
            fs::write(path(&folder, &site.name), site.manifest()).expect("writes");
        }
        command.arg("--manifests").arg(folder.path()).args(flags);
        let postern = Self::spawn(command, folder, settings, true);
        postern.is_ready().await;
        postern
    }

    /// Where a shell has lowered the soft limit on descriptors.
    pub async fn start_with_soft_limit(descriptors: u32, sites: &[Site]) -> Self {
        Self::start_below(&format!("ulimit -Sn {descriptors}"), sites, &[]).await
    }

    /// Where a shell has lowered the limit on descriptors for good.
    pub async fn start_limited(descriptors: u32, sites: &[Site], flags: &[&str]) -> Self {
        Self::start_below(&format!("ulimit -n {descriptors}"), sites, flags).await
    }

    async fn start_below(limit: &str, sites: &[Site], flags: &[&str]) -> Self {
        let plain = command();
        let mut limited = Command::new("sh");
        limited.arg("-c").arg(format!("{limit}; exec \"$0\" \"$@\""));
        limited.arg(plain.get_program()).args(plain.get_args());
        let settings = tempfile::tempdir().expect("makes a folder");
        Self::start_as(limited, settings, sites, flags).await
    }

    /// With a stdout that nobody reads.
    pub async fn start_unread(sites: &[Site]) -> Self {
        let [folder, settings] = [(); 2].map(|()| tempfile::tempdir().expect("makes a folder"));
        for site in sites {
            fs::write(path(&folder, &site.name), site.manifest()).expect("writes");
        }
        let mut command = command();
        command.arg("--manifests").arg(folder.path());
        let postern = Self::spawn(command, folder, settings, false);
        postern.is_ready().await;
        postern
    }

    /// On a cluster, not waiting for anything.
    pub fn in_cluster(kubeconfig: &Path, flags: &[&str]) -> Self {
        let mut command = command();
        command.arg("--kubeconfig").arg(kubeconfig).args(flags);
        if !flags.contains(&"--http") {
            // In a cluster the plaintext port redirects by default; here most clients are simpler than that.
            command.args(["--http", "serve"]);
        }
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("makes a folder"));
        let [folder, settings] = folders;
        Self::spawn(command, folder, settings, true)
    }

    pub async fn is_ready(&self) {
        eventually("Postern is ready", async || self.probe("/readyz").await == 200).await;
    }

    fn spawn(mut command: Command, folder: TempDir, settings: TempDir, read: bool) -> Self {
        command.stderr(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let stderr = child.stderr.take().expect("is piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let access = Arc::new(Mutex::new(Vec::new()));
        let stdout = child.stdout.take().expect("is piped");
        let unread = if read {
            gather(stdout, Arc::clone(&access));
            None
        } else {
            Some(stdout)
        };
        let [http, https, admin] = follow(stderr, Arc::clone(&log));
        Self {
            http,
            https,
            admin,
            folder,
            settings,
            child,
            log,
            access,
            _stdout: unread,
        }
    }

    pub fn apply(&self, site: &Site) {
        self.write(&site.name, &site.manifest());
    }

    /// Writes a file of manifests anew in one step, as an editor or a mounted ConfigMap does.
    pub fn write(&self, name: &str, text: &str) {
        replace(&self.folder, name, text);
    }

    /// Writes the settings file anew.
    pub fn configure(&self, settings: &Value) {
        replace(&self.settings, SETTINGS, &settings.to_string());
    }

    /// Every line of the log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("nobody panics here").clone()
    }

    /// Every record of the access log so far.
    pub fn records(&self) -> Vec<Value> {
        self.access.lock().expect("nobody panics here").clone()
    }

    /// Waits until the access log has so many records of this path.
    pub async fn recorded(&self, path: &str, count: usize) -> Vec<Value> {
        let of_path = || -> Vec<Value> {
            let records = self.records().into_iter();
            records.filter(|record| record["path"] == path).collect()
        };
        eventually(&format!("{count} records of {path}"), async || of_path().len() >= count).await;
        of_path()
    }

    /// Waits for an event in the log.
    pub async fn tells(&self, what: &str) {
        let so = async || self.log().iter().any(|line| line.contains(what));
        eventually(&format!("the log tells {what:?}"), so).await;
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(path(&self.folder, name)).expect("removes");
    }

    /// Waits until a GET for that host gets the status.
    pub async fn answers(&self, host: &str, status: u16) {
        let so = async || get(self.http, host, "/").await.status() == status;
        eventually(&format!("{host} answers {status}"), so).await;
    }

    /// Waits until that host is routed to an app that answers, whatever it says.
    pub async fn serves(&self, host: &str) {
        let so = async || !matches!(get(self.http, host, "/").await.status(), 404 | 503);
        eventually(&format!("{host} is served"), so).await;
    }

    /// Waits until a GET for that host gets this text.
    pub async fn says(&self, host: &str, text: &str) {
        let so = async || get(self.http, host, "/").await.text() == text;
        eventually(&format!("{host} says {text}"), so).await;
    }

    /// Waits until a GET for that host is refused with this code.
    pub async fn refuses(&self, host: &str, code: &str) {
        let so = async || get(self.http, host, "/").await.head.get("x-postern-error") == Some(code);
        eventually(&format!("{host} is refused with {code}"), so).await;
    }

    /// An answer of the admin port.
    pub async fn ask_admin(&self, target: &str) -> Answer {
        get(self.admin, &self.admin.to_string(), target).await
    }

    /// The status of the admin port's answer.
    pub async fn probe(&self, target: &str) -> u16 {
        self.ask_admin(target).await.status()
    }

    /// The sum of a metric's samples that have all these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.ask_admin("/metrics").await.text();
        let samples = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (named, rest) = series.split_once('{').unwrap_or((series, ""));
            let labelled = labels
                .iter()
                .all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")));
            (named == name && labelled).then_some(value)
        });
        samples.map(|value| value.parse::<f64>().expect("a number")).sum()
    }

    /// How many descriptors the process holds.
    /// The folder of manifests, for who writes to it while others do.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Bytes of memory.
    pub fn resident(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("it runs");
        let pages = statm
            .split_whitespace()
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        pages.expect("a number of pages") * 4096
    }

    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(folder).expect("runs").count()
    }

    /// SIGTERM, as the kubelet sends it.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// SIGKILL, as the kernel out of memory does it.
    pub fn kill(&self) {
        self.signal("-KILL");
    }

    /// Stops the whole process until `resume`.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        let status = kill.arg(signal).arg(self.child.id().to_string()).status();
        assert!(status.expect("kill is installed").success());
    }

    pub fn has_exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("is our child")
    }
}

impl Drop for Postern {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log.lock().map(|lines| lines.join("\n"));
            eprintln!("Postern's log:\n{}", log.unwrap_or_default());
        }
    }
}

fn command() -> Command {
    // A release may be measured by tests that are none.
    let built = std::env::var_os("POSTERN_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_postern").into());
    let mut command = Command::new(built);
    command.args(["run", "--log-format", "json", "--workers", "2"]);
    command.args(["--http-address", "127.0.0.1:0", "--https-address", "127.0.0.1:0"]);
    command.args(["--admin-address", "127.0.0.1:0"]);
    command
}

fn replace(folder: &TempDir, name: &str, text: &str) {
    let unfinished = folder.path().join(format!(".{name}.unfinished"));
    fs::write(&unfinished, text).expect("writes");
    fs::rename(unfinished, path(folder, name)).expect("renames");
}

fn path(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(format!("{name}.yaml"))
}

/// Collects the access log on a thread of its own; a line of anything else fails the test that looks for it.
fn gather(stdout: ChildStdout, access: Arc<Mutex<Vec<Value>>>) {
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let record = serde_json::from_str(&line).unwrap_or(Value::String(line));
            access.lock().expect("nobody panics here").push(record);
        }
    });
}

/// Collects the log on a thread of its own; returns the bound addresses, which it tells.
fn follow(stderr: ChildStderr, log: Arc<Mutex<Vec<String>>>) -> [SocketAddr; 3] {
    let (found, addresses) = mpsc::sync_channel(1);
    let lines = Arc::clone(&log);
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(bound) = bound(&line) {
                let _ = found.send(bound);
            }
            lines.lock().expect("nobody panics here").push(line);
        }
    });
    match addresses.recv_timeout(LIMIT) {
        Ok(addresses) => addresses,
        Err(_) => panic!("Postern tells no addresses: {:?}", log.lock()),
    }
}

/// Of http, https and admin.
fn bound(line: &str) -> Option<[SocketAddr; 3]> {
    let event: Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| event.get(name)?.as_str()?.parse().ok();
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Some([address("http").unwrap_or(nowhere), address("https")?, address("admin")?])
}
