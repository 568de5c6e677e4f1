//! The OTLP receiver of OpenTelemetry's own collector, and what has arrived there.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use serde_json::Value;
use tokio::task::spawn_blocking;

use super::go_build::Program;
use super::{LIMIT, eventually};

const COLLECTOR: Program = Program {
    name: "collector",
    folder: "tests/it/collector",
    package: ".",
    linker_flags: "-s -w",
};

/// Dropping it ends it.
pub struct Collector {
    pub address: SocketAddr,
    child: Child,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    pub async fn start() -> Self {
        spawn_blocking(Self::spawn).await.expect("no panic")
    }

    fn spawn() -> Self {
        let mut command = Command::new(COLLECTOR.build().expect("builds"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let stdout = child.stdout.take().expect("is piped");
        let (told, address) = mpsc::sync_channel(1);
        let spans = Arc::new(Mutex::new(Vec::new()));
        let arrived = Arc::clone(&spans);
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let _ = told.send(lines.next());
            for line in lines {
                let span = serde_json::from_str(&line).expect("a span");
                arrived.lock().expect("nobody panics here").push(span);
            }
        });
        let address = address
            .recv_timeout(LIMIT)
            .ok()
            .flatten()
            .expect("it tells its address");
        Self {
            address: address.parse().expect("an address"),
            child,
            spans,
        }
    }

    /// As `--otlp-endpoint` takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<Value> {
        self.spans.lock().expect("nobody panics here").clone()
    }

    /// Waits for a span of this path.
    pub async fn span(&self, path: &str) -> Value {
        let find = || {
            self.spans()
                .into_iter()
                .find(|span| span["attributes"]["url.path"] == path)
        };
        eventually(&format!("a span of {path} arrives"), async || find().is_some()).await;
        find().expect("it was there")
    }

    /// Stops the whole process until `resume`: connections to it are taken by the kernel, and nobody answers.
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
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
