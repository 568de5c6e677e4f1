//! The load: raw sockets and bytes built beforehand, each answer checked byte by byte.

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::dialer::{Dialer, STREAMS, Transport};
use super::unit::{self, Bytes, Unit};
use super::wire::Connection;

/// The most that one step may take past its own duration: a proxy that hangs fails the run.
const PATIENCE: Duration = Duration::from_secs(60);

/// `open` makes the connections and does one unit on each; `run` does at least one more on each, until `duration` is over.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Workload {
    pub unit: Unit,
    pub transport: Transport,
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

/// Obeys `open` and `run`, one a line, and answers each with an outcome; only that of `run` says anything. All connections
/// end with standard input.
pub fn run(target: &str, workload: &str) -> anyhow::Result<()> {
    let target: SocketAddr = target.parse()?;
    let workload: Workload = serde_json::from_str(workload)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bytes = Arc::new(Bytes::new(workload.unit));
    let mut opened = Opened::default();
    for command in io::stdin().lock().lines() {
        let outcome = runtime.block_on(async {
            let step = async {
                match command?.as_str() {
                    "open" => {
                        opened = open(target, &workload, &bytes).await?;
                        Ok(Outcome::default())
                    }
                    "run" => load(&workload, &bytes, &mut opened).await,
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

/// What `open` has left for `run`.
#[derive(Default)]
struct Opened {
    connections: Vec<Connection>,
    /// For units that connect themselves, one for each that may be open at a time.
    dialers: Vec<Dialer>,
}

async fn open(target: SocketAddr, workload: &Workload, bytes: &Bytes) -> anyhow::Result<Opened> {
    let resuming = matches!(workload.unit, Unit::Handshake { resumed: true });
    let dialer = || Dialer::new(target, &workload.transport, resuming);
    let mut opened = Opened::default();
    if workload.unit.connects() {
        for _ in 0..workload.connections {
            let dialer = dialer()?;
            if resuming {
                // For the first ticket.
                unit::take_leave(dialer.connect().await?, bytes).await?;
            }
            opened.dialers.push(dialer);
        }
        return Ok(opened);
    }
    let dialer = dialer()?;
    if let Transport::Http2 { .. } = workload.transport {
        while opened.connections.len() < workload.connections {
            let count = STREAMS.min(workload.connections - opened.connections.len());
            opened.connections.extend(dialer.sockets(count).await?);
        }
        for connection in &mut opened.connections {
            unit::exchange(connection, workload.unit, bytes).await?;
        }
        return Ok(opened);
    }
    opened.connections = stream::iter(0..workload.connections)
        .map(|_| async {
            let mut connection = dialer.connect().await?;
            if matches!(workload.unit, Unit::Echo { .. }) {
                unit::upgrade(&mut connection, bytes).await?;
            }
            unit::exchange(&mut connection, workload.unit, bytes).await?;
            anyhow::Ok(connection)
        })
        .buffer_unordered(workload.at_once)
        .try_collect()
        .await?;
    Ok(opened)
}

async fn load(workload: &Workload, bytes: &Arc<Bytes>, opened: &mut Opened) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let (unit, end) = (workload.unit, start + workload.duration);
    let mut tasks = JoinSet::new();
    let mut times = Vec::new();
    for dialer in opened.dialers.drain(..) {
        let bytes = Arc::clone(bytes);
        tasks.spawn(async move {
            let mut times = Vec::new();
            while times.is_empty() || Instant::now() < end {
                let start = Instant::now();
                unit::visit(&dialer, unit, &bytes).await?;
                times.push(start.elapsed());
            }
            anyhow::Ok((None, times))
        });
    }
    for mut connection in opened.connections.drain(..) {
        let bytes = Arc::clone(bytes);
        tasks.spawn(async move {
            let mut times = Vec::new();
            while times.is_empty() || Instant::now() < end {
                let start = Instant::now();
                unit::exchange(&mut connection, unit, &bytes).await?;
                times.push(start.elapsed());
            }
            Ok((Some(connection), times))
        });
    }
    while let Some(task) = tasks.join_next().await {
        let (connection, mut more) = task??;
        opened.connections.extend(connection);
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
