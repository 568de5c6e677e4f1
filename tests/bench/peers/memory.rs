//! Resident memory per idle connection: VmRSS of a fresh proxy's process tree with the connections quiet, less before.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;

use super::certificate::Certificate;
use super::client::{Outcome, Workload};
use super::dialer::Transport;
use super::process::{self, Role};
use super::proxy::{Kind, Proxy};
use super::report;
use super::unit::Unit;

/// One socket takes two descriptors in the proxy, and something must be left for the rest.
const SPARE: usize = 1000;
pub const QUIET: Duration = Duration::from_secs(10);
pub const QUIET_KEEP_ALIVE: Duration = Duration::from_secs(2);

pub struct Row {
    pub name: &'static str,
    pub unit: Unit,
    pub transport: Transport,
    pub connections: usize,
    pub at_once: usize,
    pub quiet: Duration,
}

/// How many sockets a proxy can hold, up to `wanted`.
pub fn at_most(wanted: usize) -> anyhow::Result<usize> {
    Ok(wanted.min(process::descriptors()?.saturating_sub(SPARE) / 2))
}

/// In plaintext.
pub fn rows(quick: bool) -> anyhow::Result<Vec<Row>> {
    let idle = at_most(if quick { 2000 } else { 9000 })?;
    let storm = at_most(if quick { 1000 } else { 4000 })?;
    let row = |name, connections, at_once| Row {
        name,
        unit: Unit::Echo { size: 64 },
        transport: Transport::Plain,
        connections,
        at_once,
        quiet: QUIET,
    };
    Ok(vec![
        row("idle socket, 32 opened at a time", idle, 32),
        row("idle socket, all opened at once", storm, storm),
        Row {
            unit: Unit::Get,
            quiet: QUIET_KEEP_ALIVE,
            ..row("idle keep-alive client", storm, 32)
        },
    ])
}

pub fn measure(peers: &[Kind], app: SocketAddr, certificate: Option<&Certificate>, rows: &[Row]) -> anyhow::Result<()> {
    let mut table = vec![vec!["resident KiB per".to_owned(), "number".to_owned()]];
    table[0].extend(peers.iter().map(|kind| format!("{} (base MiB)", kind.name())));
    for row in rows {
        let mut line = vec![row.name.to_owned(), row.connections.to_string()];
        for kind in peers {
            if matches!(row.transport, Transport::Http2 { .. }) && !kind.has_sockets_over_http2() {
                line.push("-".to_owned());
                continue;
            }
            let (each, base) = sample(&kind.start(app, certificate)?, row)?;
            line.push(format!("{each:.2} ({base:.1})"));
        }
        table.push(line);
    }
    report::table(&table);
    println!(
        "Each figure from a fresh process: VmRSS after {QUIET:?} of quiet (keep-alive clients: {QUIET_KEEP_ALIVE:?}) less VmRSS before, by\n\
         connections; each had one exchange first, and one more afterwards to show that it is still open.\n"
    );
    Ok(())
}

/// KiB per connection, and MiB before the first one.
fn sample(proxy: &Proxy, row: &Row) -> anyhow::Result<(f64, f64)> {
    let workload = Workload {
        unit: row.unit,
        transport: row.transport.clone(),
        connections: row.connections,
        at_once: row.at_once,
        duration: Duration::ZERO,
    };
    let mut client = Role::spawn(&["client", &proxy.address.to_string(), &serde_json::to_string(&workload)?])?;
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
