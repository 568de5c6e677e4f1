//! Child processes that end with the test process, the folder they work in, and waiting for them.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::{self, Instant};

use super::go_build;

const POLL: Duration = Duration::from_millis(50);
const KEEP_LOGS: Duration = Duration::from_secs(60 * 60);

/// A program that ends when its standard input closes: dropping this closes it, and the kernel
/// does when the test process is killed.
pub struct Process {
    name: &'static str,
    /// Asking a child whether it still runs takes `&mut`.
    child: Mutex<Child>,
    log: PathBuf,
}

impl Process {
    /// Starts it with its output in the run's folder, after that of an earlier one of this name.
    pub fn spawn(name: &'static str, mut command: Command, run: &RunFolder) -> Result<Self> {
        let log = run.path(&format!("{name}.log"));
        let describe = || format!("starting {name}");
        let stdout = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(describe)?;
        let stderr = stdout.try_clone().with_context(describe)?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(describe)?;
        Ok(Self {
            name,
            child: Mutex::new(child),
            log,
        })
    }

    fn check(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.try_wait()? {
            Some(status) => bail!("{} ended ({status}); {}", self.name, self.log_tail()),
            None => Ok(()),
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        format!("the end of {}:\n{tail}", self.log.display())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(child.stdin.take());
        let _ = child.wait();
    }
}

/// Waits for a condition, and fails early if one of the processes ends. The error shows the end
/// of the log of the one that ended, or else of all.
pub async fn wait_until(
    condition: &str,
    processes: &[&Process],
    limit: Duration,
    mut check: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    let mut last = anyhow!("the first check has not ended");
    loop {
        for process in processes {
            process.check().with_context(|| format!("waiting until {condition}"))?;
        }
        match time::timeout_at(deadline, check()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            let logs: Vec<_> = processes.iter().map(|process| process.log_tail()).collect();
            let logs = logs.join("\n");
            bail!("waiting until {condition}: not within {limit:?}: {last:#}\n{logs}");
        }
        time::sleep(POLL).await;
    }
}

/// A port that stays ours through a restart: below those that the kernel gives to clients, of
/// which one that keeps dialling could get this very port, and be connected to itself.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if port >= 30_000 {
            bail!("no free port below 30000");
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
}

/// A folder for data and logs. It stays behind, for whoever wants to know why a test has failed,
/// until later runs remove it.
pub struct RunFolder {
    folder: PathBuf,
    /// Held as long as the folder is in use, and let go by the kernel if need be.
    _lock: File,
}

impl RunFolder {
    pub fn create() -> Result<Self> {
        let runs = go_build::cache()?.join("runs");
        fs::create_dir_all(&runs).with_context(|| format!("creating {}", runs.display()))?;
        // Else another process might take a folder just made, not locked yet, for a left one.
        let _nobody_else_creates = go_build::lock(&runs.join("lock"))?;
        remove_left(&runs);
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&runs)?.keep();
        let lock = go_build::lock(&folder.join("lock"))?;
        Ok(Self { folder, _lock: lock })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A program's flag that names a file in here.
    pub fn flag(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.path(name).display())
    }

    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        fs::write(self.path(name), content).with_context(|| format!("writing {name}"))
    }
}

/// Removes data at once, and logs after a while. Errors do not count: the processes of a run may
/// just be ending, and writing. Then it goes next time.
fn remove_left(runs: &Path) {
    for run in fs::read_dir(runs).into_iter().flatten().flatten() {
        let run = run.path();
        let Ok(lock) = File::open(run.join("lock")) else {
            continue;
        };
        if lock.try_lock().is_err() {
            continue;
        }
        let made = lock.metadata().and_then(|metadata| metadata.modified());
        let old = made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > KEEP_LOGS));
        let _ = fs::remove_dir_all(if old { run } else { run.join("etcd") });
    }
}
