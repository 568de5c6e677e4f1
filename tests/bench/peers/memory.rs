//! Resident memory per idle connection: VmRSS of a fresh proxy's process tree with the connections quiet, less before.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;

use super::client::{Outcome, Unit, Workload};
use super::dial::Over;
use super::process;
use super::proxy::{Kind, Proxy};
use super::report::{self, ABSENT};

/// One socket takes two descriptors in the proxy, and something must be left for the rest.
const SPARE: usize = 1000;

pub struct Row {
    name: &'static str,
    unit: Unit,
    over: Over,
    connections: usize,
    at_once: usize,
    quiet: Duration,
}

const SOCKET: Unit = Unit::Echo { size: 64 };
const QUIET: Duration = Duration::from_secs(10);

/// By the numbers of idle sockets and of those opened in one storm.
pub fn plain(idle: usize, storm: usize) -> Vec<Row> {
    vec![
        Row {
            name: "idle socket, 32 opened at a time",
            unit: SOCKET,
            over: Over::Plain,
            connections: idle,
            at_once: 32,
            quiet: QUIET,
        },
        Row {
            name: "idle socket, all opened at once",
            unit: SOCKET,
            over: Over::Plain,
            connections: storm,
            at_once: storm,
            quiet: QUIET,
        },
        Row {
            name: "idle keep-alive client",
            unit: Unit::Get,
            over: Over::Plain,
            connections: storm,
            at_once: 32,
            quiet: Duration::from_secs(2),
        },
    ]
}

pub fn tls(idle: usize, storm: usize) -> Vec<Row> {
    let row = |name, over, connections, at_once| Row {
        name,
        unit: SOCKET,
        over,
        connections,
        at_once,
        quiet: QUIET,
    };
    vec![
        row("idle wss socket, 32 opened at a time", Over::Tls, idle, 32),
        row("idle wss socket, all opened at once", Over::Tls, storm, storm),
        row("idle wss socket on HTTP/2, 100 a connection", Over::Http2, idle, 32),
    ]
}

pub fn measure(peers: &[Kind], app: SocketAddr, quick: bool, rows: fn(usize, usize) -> Vec<Row>) -> anyhow::Result<()> {
    let most = process::descriptors()?.saturating_sub(SPARE) / 2;
    let idle = most.min(if quick { 2000 } else { 9000 });
    let storm = most.min(if quick { 1000 } else { 4000 });
    let mut table = vec![vec!["resident KiB per".to_owned(), "number".to_owned()]];
    table[0].extend(peers.iter().map(|kind| format!("{} (base MiB)", kind.name())));
    for row in &rows(idle, storm) {
        let mut line = vec![row.name.to_owned(), row.connections.to_string()];
        for kind in peers {
            if !kind.speaks(row.over) {
                line.push(ABSENT.to_owned());
                continue;
            }
            let (each, base) = sample(&kind.start(app)?, row)?;
            line.push(format!("{each:.2} ({base:.1})"));
        }
        table.push(line);
    }
    report::table(&table);
    println!(
        "Each figure from a fresh process: VmRSS after {QUIET:?} of quiet (keep-alive clients: 2 s) less VmRSS before, by\n\
         connections; each had one exchange first, and one more afterwards to show that it is still open.\n"
    );
    Ok(())
}

/// KiB per connection, and MiB before the first one.
fn sample(proxy: &Proxy, row: &Row) -> anyhow::Result<(f64, f64)> {
    let workload = Workload {
        unit: row.unit,
        over: row.over,
        connections: row.connections,
        at_once: row.at_once,
        duration: Duration::ZERO,
    };
    let mut client = proxy.client(workload)?;
    let before = process::resident(proxy.process.id())?;
    client.tell("open")?;
    client.hear()?;
    std::thread::sleep(row.quiet);
    let after = process::resident(proxy.process.id())?;
    client.tell("run")?;
    let outcome: Outcome = serde_json::from_str(&client.hear()?)?;
    ensure!(
        outcome.units == row.connections as u64,
        "only {} of {} connections were left",
        outcome.units,
        row.connections
    );
    Ok((
        (after as f64 - before as f64) / row.connections as f64,
        before as f64 / 1024.0,
    ))
}
