//! Builds the Go programs that tests need, each once for all test processes, and keeps them in Cargo's target folder.

use std::collections::VecDeque;
use std::env;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::netns;

/// A Go program in a folder with a go.mod.
pub struct Program {
    pub name: &'static str,
    /// Below the crate's.
    pub folder: &'static str,
    pub package: &'static str,
    pub linker_flags: &'static str,
}

const CONTROL_PLANE: Program = Program {
    name: "control-plane",
    folder: "tests/kube/control-plane",
    package: ".",
    // The version in go.mod: without it clients that parse the apiserver's version fail.
    linker_flags: "-s -w \
        -X k8s.io/component-base/version.gitVersion=v1.37.2 \
        -X k8s.io/component-base/version.gitMajor=1 \
        -X k8s.io/component-base/version.gitMinor=37",
};

const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// The programs of a control plane.
pub struct Binaries {
    built: PathBuf,
    /// A folder with release binaries of etcd and kube-apiserver, to be used instead of ours.
    assets: Option<PathBuf>,
}

impl Binaries {
    /// Takes minutes the first time, and says so on standard error.
    ///
    /// Go fetches modules, so this has to come before [`netns::enter`].
    pub fn build() -> Result<Self> {
        let assets = kubebuilder_assets()?;
        let built = CONTROL_PLANE.build()?;
        Ok(Self { built, assets })
    }

    /// The program ends when its standard input does.
    pub fn command(&self, component: &str) -> Command {
        let mut command = Command::new(&self.built);
        match &self.assets {
            Some(folder) if folder.join(component).exists() => {
                command.arg("exec").arg(folder.join(component));
            }
            _ => {
                command.arg(component);
            }
        }
        command
    }
}

/// Where builds and the folders of running control planes are.
pub fn cache() -> Result<PathBuf> {
    // Cargo gives integration tests target/tmp, whatever the target folder is.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("control-plane");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder)
}

/// Keeps other test processes, and other threads of this one, out until it is dropped.
pub fn lock(path: &Path) -> Result<File> {
    let describe = || format!("locking {}", path.display());
    let file = File::create(path).with_context(describe)?;
    file.lock().with_context(describe)?;
    Ok(file)
}

/// The convention of kubebuilder's setup-envtest.
fn kubebuilder_assets() -> Result<Option<PathBuf>> {
    let Some(folder) = env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let folder = PathBuf::from(folder);
    for name in ["etcd", "kube-apiserver"] {
        ensure!(
            folder.join(name).exists(),
            "KUBEBUILDER_ASSETS is set, but there is no {name} in {}",
            folder.display()
        );
    }
    Ok(Some(folder))
}

impl Program {
    /// Its binary. Takes minutes the first time, and says so on standard error.
    pub fn build(&self) -> Result<PathBuf> {
        let name = self.name;
        let cache = cache()?;
        let folder = cache.join(self.fingerprint()?);
        let binary = folder.join(name);
        let _lock = lock(&cache.join("build.lock"))?;
        if !binary.exists() {
            ensure!(
                !netns::inside(),
                "{name} is not built, and inside a network namespace it cannot be: build it before netns::enter"
            );
            fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
            // Renamed when complete, so that an interrupted build is not taken for a finished one.
            let unfinished = folder.join("unfinished");
            go_build(self, &unfinished).with_context(|| format!("building {name}"))?;
            fs::rename(&unfinished, &binary).with_context(|| format!("naming the finished {name}"))?;
        }
        Ok(binary)
    }

    fn sources(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder)
    }

    fn fingerprint(&self) -> Result<String> {
        let sources = self.sources();
        let describe = || format!("reading {}", sources.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(&sources).with_context(describe)? {
            files.push(entry.with_context(describe)?.path());
        }
        files.sort();
        let mut hasher = DefaultHasher::new();
        self.linker_flags.hash(&mut hasher);
        for file in files {
            file.file_name().hash(&mut hasher);
            fs::read(&file).with_context(describe)?.hash(&mut hasher);
        }
        Ok(format!("{:016x}", hasher.finish()))
    }
}

fn go_build(program: &Program, output: &Path) -> Result<()> {
    let started = Instant::now();
    let mut go = Command::new("go")
        .args(["build", "-C"])
        .arg(program.sources())
        .args([
            "-v",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            program.linker_flags,
            "-o",
        ])
        .arg(output)
        .arg(program.package)
        // A C compiler is not asked for.
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow::anyhow!(
                "{} is built with Go 1.26 or newer, and there is no `go` in PATH",
                program.name
            ),
            _ => error.into(),
        })?;

    let stderr = go.stderr.take().context("go's standard error")?;
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(io::Result::ok) {
            let _ = sender.send(line);
        }
    });

    let mut packages = 0;
    let mut tail = VecDeque::new();
    let mut next_report = started + Duration::from_secs(2);
    loop {
        match lines.recv_timeout(next_report.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                packages += usize::from(!line.contains(' '));
                tail.push_back(line);
                if tail.len() > 20 {
                    tail.pop_front();
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                report(program, packages, started.elapsed());
                next_report = Instant::now() + PROGRESS_EVERY;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let _ = reader.join();
    let status = go.wait().context("waiting for go")?;
    ensure!(status.success(), "go build: {status}\n{}", Vec::from(tail).join("\n"));
    Ok(())
}

/// Past libtest, which withholds what the print macros say until a test has failed.
fn report(program: &Program, packages: usize, elapsed: Duration) {
    let seconds = elapsed.as_secs();
    let _ = writeln!(
        io::stderr(),
        "building {} (first time only): {packages} packages, {}m{:02}s",
        program.name,
        seconds / 60,
        seconds % 60
    );
}
