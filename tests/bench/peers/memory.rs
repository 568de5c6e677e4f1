//! Resident memory per idle connection: VmRSS of a fresh proxy's process tree with the connections quiet, less before.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;

use super::client::{Outcome, Unit, Workload};
use super::process::{self, Role};
use super::proxy::{Kind, Proxy};
use super::report;

/// One socket takes two descriptors in the proxy, and something must be left for the rest.
const SPARE: usize = 1000;

struct Row {
    name: &'static str,
    unit: Unit,
    connections: usize,
    at_once: usize,
    quiet: Duration,
}

pub fn measure(peers: &[Kind], app: SocketAddr, quick: bool) -> anyhow::Result<()> {
    let most = process::descriptors()?.saturating_sub(SPARE) / 2;
    let idle = most.min(if quick { 2000 } else { 9000 });
    let storm = most.min(if quick { 1000 } else { 4000 });
    let (socket, quiet) = (Unit::Echo { size: 64 }, Duration::from_secs(10));
    let rows = [
        Row {
            name: "idle socket, 32 opened at a time",
            unit: socket,
            connections: idle,
            at_once: 32,
            quiet,
        },
        Row {
            name: "idle socket, all opened at once",
            unit: socket,
            connections: storm,
            at_once: storm,
            quiet,
        },
        Row {
            name: "idle keep-alive client",
            unit: Unit::Get,
            connections: storm,
            at_once: 32,
            quiet: Duration::from_secs(2),
        },
    ];
    let mut table = vec![vec!["resident KiB per".to_owned(), "number".to_owned()]];
    table[0].extend(peers.iter().map(|kind| format!("{} (base MiB)", kind.name())));
    for row in &rows {
        let mut line = vec![row.name.to_owned(), row.connections.to_string()];
        for kind in peers {
            let (each, base) = sample(&kind.start(app)?, row)?;
            line.push(format!("{each:.2} ({base:.1})"));
        }
        table.push(line);
    }
    report::table(&table);
    println!(
        "Each figure from a fresh process: VmRSS after {quiet:?} of quiet (keep-alive clients: 2 s) less VmRSS before, by\n\
         connections; each had one exchange first, and one more afterwards to show that it is still open.\n"
    );
    Ok(())
}

/// KiB per connection, and MiB before the first one.
fn sample(proxy: &Proxy, row: &Row) -> anyhow::Result<(f64, f64)> {
    let workload = Workload {
        unit: row.unit,
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
