//! Real apps and clients in Node and Python (tests/apps). Their packages are installed once per content of that folder,
//! from lock files, into target/apps.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::certs::Authority;

/// Which runtime a script needs.
#[derive(Clone, Copy, Debug)]
pub enum Runtime {
    Node,
    Python,
}

/// A running app. Dropping it kills it.
pub struct App {
    pub address: SocketAddr,
    child: Child,
}

impl App {
    /// A script of tests/apps, on a free port of loopback.
    pub async fn start(runtime: Runtime, script: &'static str) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, runtime, script).await
    }

    /// With more in its environment.
    pub async fn start_with(runtime: Runtime, script: &'static str, environment: &[(&'static str, &str)]) -> Self {
        let environment = environment.iter().map(|&(name, value)| (name, value.to_owned()));
        Self::start_in(Ipv4Addr::LOCALHOST, runtime, script, environment.collect()).await
    }

    /// On a free port of that address; an app that does not let its address be chosen has them all.
    pub async fn start_at(ip: Ipv4Addr, runtime: Runtime, script: &'static str) -> Self {
        Self::start_in(ip, runtime, script, Vec::new()).await
    }

    async fn start_in(
        ip: Ipv4Addr,
        runtime: Runtime,
        script: &'static str,
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        blocking(move || {
            let mut command = command(runtime, script);
            let mut child = command
                .env("HOST", ip.to_string())
                .env("PORT", "0")
                .envs(environment)
                .stdout(Stdio::piped())
                .spawn()
                .expect("starts");
            let stdout = child.stdout.take().expect("is piped");
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).expect("prints a line");
            let port = line
                .trim()
                .strip_prefix("listening ")
                .and_then(|port| port.parse().ok());
            let Some(port) = port else {
                panic!("{script} does not listen: {line:?}")
            };
            let address = SocketAddr::from((ip, port));
            Self { address, child }
        })
        .await
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Installs what the apps need. A test that enters a network namespace does it before: the registries lie outside.
pub async fn install_all() {
    blocking(|| [Runtime::Node, Runtime::Python].map(installed)).await;
}

/// Runs a client of tests/apps to its end, which must be a good one. Each has its own time limit.
pub async fn client(runtime: Runtime, script: &'static str, arguments: [&str; 4]) {
    run_client(runtime, script, arguments, None).await;
}

/// The same over TLS, trusting that authority.
pub async fn tls_client(runtime: Runtime, script: &'static str, arguments: [&str; 4], authority: &Authority) {
    let file = tempfile::NamedTempFile::new().expect("makes a file");
    fs::write(file.path(), authority.pem()).expect("writes");
    run_client(runtime, script, arguments, Some(file.path())).await;
}

async fn run_client(runtime: Runtime, script: &'static str, arguments: [&str; 4], ca: Option<&Path>) {
    let arguments = arguments.map(str::to_owned);
    let environment = ca.map(|path| ("CA", path.to_owned()));
    blocking(move || {
        let mut command = command(runtime, script);
        let output = command.args(arguments).envs(environment).output().expect("starts");
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{script} failed: {stdout}{stderr}");
        assert!(stdout.ends_with("done\n"), "{script} ended early: {stdout}{stderr}");
    })
    .await;
}

/// Runs curl; its standard output.
pub async fn curl(arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    blocking(move || {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(arguments);
        let output = command.output().expect("curl is installed");
        assert!(
            output.status.success(),
            "curl: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("a text")
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn command(runtime: Runtime, script: &str) -> Command {
    let folder = installed(runtime);
    let mut command = Command::new(runtime.program());
    command.arg(folder.join(script));
    if let Runtime::Python = runtime {
        command.env("PYTHONPATH", folder.join("packages"));
    }
    command
}

/// The folder with the scripts and their packages. Tests run as threads and as processes: a file lock serves both.
fn installed(runtime: Runtime) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/apps")
        .join(runtime.folder());
    // Cargo makes target/tmp for tests.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("lies in target");
    let apps = target.join("apps");
    fs::create_dir_all(&apps).expect("makes target/apps");
    let folder = apps.join(format!("{}-{:016x}", runtime.folder(), content_hash(runtime, &source)));
    let lock = File::create(folder.with_extension("lock")).expect("makes the lock file");
    lock.lock().expect("locks");
    if !folder.exists() {
        let unfinished = tempfile::tempdir_in(&apps).expect("makes a folder");
        for file in files(&source) {
            fs::copy(&file, unfinished.path().join(file.file_name().expect("a file"))).expect("copies");
        }
        install(runtime, unfinished.path());
        fs::rename(unfinished.keep(), &folder).expect("renames");
    }
    folder
}

fn install(runtime: Runtime, folder: &Path) {
    let mut command = match runtime {
        Runtime::Node => {
            let mut command = Command::new("npm");
            command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
            command
        }
        Runtime::Python => {
            // --target needs neither venv nor ensurepip, which Debian packages apart.
            let mut command = Command::new("python3");
            command.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--require-hashes",
                "--only-binary=:all:",
            ]);
            command.args(["--platform", "any", "--target", "packages", "-r", "requirements.txt"]);
            command
        }
    };
    let output = command.current_dir(folder).output().unwrap_or_else(|error| {
        panic!(
            "the tests need {} with its package installer: {error}",
            runtime.program()
        );
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "installing the packages of {} failed: {stderr}",
        runtime.program()
    );
}

fn content_hash(runtime: Runtime, source: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let version = Command::new(runtime.program())
        .arg("--version")
        .output()
        .unwrap_or_else(|error| {
            panic!("the tests need {}: {error}", runtime.program());
        });
    version.stdout.hash(&mut hasher);
    for file in files(source) {
        file.file_name().hash(&mut hasher);
        fs::read(&file).expect("reads").hash(&mut hasher);
    }
    hasher.finish()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("reads tests/apps");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("reads tests/apps").path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

impl Runtime {
    fn program(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Python => "python3",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Python => "python",
        }
    }
}
