//! The load: raw sockets and bytes built beforehand, each answer checked byte by byte.

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::dial::{self, Dialler, Over, STREAMS};
use super::wire::{self, Connection};

/// The most that one step may take past its own duration: a proxy that hangs fails the run.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub enum Unit {
    /// A GET on a kept connection.
    Get,
    /// A binary message and its echo on an open socket.
    Echo { size: usize },
    /// A new socket: upgrade, one echo of 64 bytes, the closing handshake.
    Upgrade,
    /// A new connection with one GET.
    Connect,
}

impl Unit {
    /// Has nothing to keep open from one unit to the next.
    fn opens_anew(self) -> bool {
        matches!(self, Self::Upgrade | Self::Connect)
    }
}

/// `open` makes the connections and does one unit on each; `run` does at least one more on each, until `duration` is over.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Workload {
    pub unit: Unit,
    pub over: Over,
    pub connections: usize,
    /// How many are opened side by side.
    pub at_once: usize,
    pub duration: Duration,
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Outcome {
    pub units: u64,
    pub elapsed: Duration,
    pub p50: Duration,
    pub p99: Duration,
    pub p999: Duration,
}

/// Obeys `open` and `run`, one a line, and answers each with an outcome. All connections end with standard input.
pub fn run(target: &str, authority: &str, workload: &str) -> anyhow::Result<()> {
    let target: SocketAddr = target.parse()?;
    let workload: Workload = serde_json::from_str(workload)?;
    let dialler = || Dialler::new(target, workload.over, Path::new(authority));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bytes = Arc::new(Bytes::new(workload.unit));
    let mut connections = Vec::new();
    for command in io::stdin().lock().lines() {
        let outcome = runtime.block_on(async {
            let step = async {
                match command?.as_str() {
                    "open" => open(&dialler()?, workload, &bytes, &mut connections).await,
                    "run" => load(dialler, workload, &bytes, &mut connections).await,
                    other => bail!("no such step: {other}"),
                }
            };
            tokio::time::timeout(workload.duration + PATIENCE, step)
                .await
                .context("the step did not end in time")?
        })?;
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(())
}

/// Everything that is sent, or expected.
struct Bytes {
    get: Vec<u8>,
    upgrade: Vec<u8>,
    message: Vec<u8>,
    echoed: Vec<u8>,
    close: Vec<u8>,
}

impl Bytes {
    fn new(unit: Unit) -> Self {
        let size = match unit {
            Unit::Echo { size } => size,
            Unit::Get | Unit::Upgrade | Unit::Connect => 64,
        };
        Self {
            get: wire::get(wire::HOST),
            upgrade: wire::upgrade(),
            message: wire::message(size),
            echoed: wire::echoed(size),
            close: wire::close(),
        }
    }
}

async fn open(
    dialler: &Dialler,
    workload: Workload,
    bytes: &Arc<Bytes>,
    connections: &mut Vec<Connection>,
) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    if !workload.unit.opens_anew() {
        let mut carriers = Vec::new();
        if workload.over == Over::Http2 {
            for _ in 0..workload.connections.div_ceil(STREAMS) {
                carriers.push(dialler.http2().await?);
            }
        }
        *connections = stream::iter(0..workload.connections)
            .map(|i| {
                let carrier = carriers.get(i / STREAMS);
                async move {
                    let mut connection = match carrier {
                        Some(carrier) => dial::socket(carrier).await?,
                        None => dialler.connect(true).await?,
                    };
                    if carrier.is_none() && matches!(workload.unit, Unit::Echo { .. }) {
                        upgrade(&mut connection, bytes).await?;
                    }
                    exchange(&mut connection, workload.unit, bytes).await?;
                    anyhow::Ok(connection)
                }
            })
            .buffer_unordered(workload.at_once)
            .try_collect()
            .await?;
    }
    Ok(Outcome {
        units: connections.len() as u64,
        elapsed: start.elapsed(),
        ..Outcome::default()
    })
}

async fn load(
    dialler: impl Fn() -> anyhow::Result<Dialler>,
    workload: Workload,
    bytes: &Arc<Bytes>,
    connections: &mut Vec<Connection>,
) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let end = start + workload.duration;
    let mut tasks = JoinSet::new();
    let mut times = Vec::new();
    if workload.unit.opens_anew() {
        for _ in 0..workload.connections {
            let bytes = Arc::clone(bytes);
            let dialler = dialler()?;
            tasks.spawn(async move {
                let mut times = Vec::new();
                while times.is_empty() || Instant::now() < end {
                    let start = Instant::now();
                    let mut connection = dialler.connect(times.is_empty()).await?;
                    if let Unit::Connect = workload.unit {
                        exchange(&mut connection, Unit::Get, &bytes).await?;
                        connection.stream.shutdown().await?;
                    } else {
                        upgrade(&mut connection, &bytes).await?;
                        exchange(&mut connection, Unit::Upgrade, &bytes).await?;
                        close(&mut connection, &bytes).await?;
                    }
                    times.push(start.elapsed());
                }
                anyhow::Ok((None, times))
            });
        }
    }
    for mut connection in connections.drain(..) {
        let bytes = Arc::clone(bytes);
        tasks.spawn(async move {
            let mut times = Vec::new();
            while times.is_empty() || Instant::now() < end {
                let start = Instant::now();
                exchange(&mut connection, workload.unit, &bytes).await?;
                times.push(start.elapsed());
            }
            Ok((Some(connection), times))
        });
    }
    while let Some(task) = tasks.join_next().await {
        let (connection, mut more) = task??;
        connections.extend(connection);
        times.append(&mut more);
    }
    let elapsed = start.elapsed();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Outcome {
        units: times.len() as u64,
        elapsed,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
    })
}

async fn upgrade(connection: &mut Connection, bytes: &Bytes) -> anyhow::Result<()> {
    connection.write(&bytes.upgrade).await?;
    let length = connection.head().await?.context("closed instead of a 101")?;
    expect_status(&connection.buffer[..length], "101")?;
    connection.consume(length);
    Ok(())
}

async fn exchange(connection: &mut Connection, unit: Unit, bytes: &Bytes) -> anyhow::Result<()> {
    if matches!(unit, Unit::Get) {
        connection.write(&bytes.get).await?;
        let length = connection.head().await?.context("closed instead of an answer")?;
        let head = &connection.buffer[..length];
        expect_status(head, "200")?;
        let body = wire::header(head, "content-length").context("no Content-Length")?;
        let body: usize = std::str::from_utf8(body)?.parse()?;
        connection.fill(length + body).await?;
        connection.consume(length + body);
    } else {
        connection.write(&bytes.message).await?;
        connection.fill(bytes.echoed.len()).await?;
        ensure!(connection.buffer == bytes.echoed, "the echo differs from the message");
        connection.buffer.clear();
    }
    Ok(())
}

/// Sends Close and reads the app's Close, then the end.
async fn close(connection: &mut Connection, bytes: &Bytes) -> anyhow::Result<()> {
    connection.write(&bytes.close).await?;
    connection.fill(4).await?;
    ensure!(
        connection.buffer == [0x88, 2, 0x03, 0xe8],
        "the answer to Close differs"
    );
    ensure!(connection.stream.read(&mut [0]).await? == 0, "bytes after Close");
    Ok(())
}

fn expect_status(head: &[u8], status: &str) -> anyhow::Result<()> {
    ensure!(
        head.get(9..12) == Some(status.as_bytes()),
        "expected {status}, got: {}",
        String::from_utf8_lossy(head)
    );
    Ok(())
}
