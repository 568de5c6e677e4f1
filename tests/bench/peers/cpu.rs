//! CPU per unit of work: all proxies up at once, rounds interleaved, user and system time of each one's process tree.

use std::net::SocketAddr;
use std::time::Duration;

use super::certificate::Certificate;
use super::client::{Outcome, Workload};
use super::dialer::Transport;
use super::process::{self, Role};
use super::proxy::{Kind, Proxy};
use super::report::{self, Spread};
use super::unit::Unit;

/// What is measured: its name, and the unit on so many connections.
pub type Row = (&'static str, Unit, usize);

/// In plaintext.
pub const ROWS: [Row; 7] = [
    ("GET, 64 connections", Unit::Get, 64),
    ("GET, 1 connection", Unit::Get, 1),
    ("upgrade, echo, close; 32 at a time", Unit::Upgrade, 32),
    ("upgrade, echo, close; 256 at a time", Unit::Upgrade, 256),
    ("echo of 64 B, 64 sockets", Unit::Echo { size: 64 }, 64),
    ("echo of 64 B, 1 socket", Unit::Echo { size: 64 }, 1),
    ("echo of 16 KiB, 64 sockets", Unit::Echo { size: 16 << 10 }, 64),
];

/// One round of one row on one proxy.
struct Sample {
    /// CPU per unit.
    micros: f64,
    outcome: Outcome,
}

/// With a certificate, over TLS.
pub fn measure(
    peers: &[Kind],
    app: SocketAddr,
    certificate: Option<&Certificate>,
    rows: &[Row],
    quick: bool,
) -> anyhow::Result<()> {
    let (rounds, duration) = if quick {
        (3, Duration::from_millis(500))
    } else {
        (7, Duration::from_millis(1500))
    };
    let transport = certificate.map_or(Transport::Plain, Certificate::tls);
    let start = |kind: &Kind| kind.start(app, certificate);
    let proxies: Vec<Proxy> = peers.iter().map(start).collect::<Result<_, _>>()?;
    let mut samples: Vec<Vec<Vec<Sample>>> = rows
        .iter()
        .map(|_| peers.iter().map(|_| Vec::new()).collect())
        .collect();
    let mut others = Vec::new();
    for round in 0..rounds {
        for ((_, unit, connections), row) in rows.iter().zip(&mut samples) {
            let workload = Workload {
                unit: *unit,
                transport: transport.clone(),
                connections: *connections,
                at_once: 32,
                duration,
            };
            // Every round another one goes first.
            for i in (0..proxies.len()).map(|i| (i + round) % proxies.len()) {
                let (sample, other) = sample(&proxies[i], &workload)?;
                row[i].push(sample);
                others.push(other);
            }
        }
    }
    print(peers, rows, &samples);
    if let Some(spread) = Spread::of(&others) {
        println!(
            "{rounds} rounds of {duration:?} each, interleaved. CPU: user + system of the whole process tree.\n\
             An echo is a message each way. Cores kept busy by others meanwhile, median: {:.2}\n",
            spread.median
        );
    }
    Ok(())
}

/// Also returns how many cores strangers kept busy.
fn sample(proxy: &Proxy, workload: &Workload) -> anyhow::Result<(Sample, f64)> {
    let mut client = Role::spawn(&["client", &proxy.address.to_string(), &serde_json::to_string(workload)?])?;
    client.tell("open")?;
    client.hear()?;
    let ours = std::process::id();
    let before = (process::cpu(proxy.process.id())?, process::busy()?, process::cpu(ours)?);
    client.tell("run")?;
    let outcome: Outcome = serde_json::from_str(&client.hear()?)?;
    let cpu = process::cpu(proxy.process.id())? - before.0;
    let other = (process::busy()? - before.1).saturating_sub(process::cpu(ours)? - before.2);
    let sample = Sample {
        micros: cpu.as_secs_f64() * 1e6 / outcome.units as f64,
        outcome,
    };
    Ok((sample, other.as_secs_f64() / outcome.elapsed.as_secs_f64()))
}

fn print(peers: &[Kind], rows: &[Row], samples: &[Vec<Vec<Sample>>]) {
    let names = |first: &str| -> Vec<String> {
        std::iter::once(first.to_owned())
            .chain(peers.iter().map(|kind| kind.name().to_owned()))
            .collect()
    };
    let place = |kind| peers.iter().position(|&peer| peer == kind);
    let other = peers
        .iter()
        .copied()
        .find(|kind| matches!(kind, Kind::Nginx | Kind::PosternBefore));
    let ratio = place(Kind::Postern).zip(other.and_then(place));

    let mut cpu = vec![names("CPU in µs per unit, median (least)")];
    cpu[0].extend(other.map(|other| format!("postern/{}", other.name())));
    let mut rate = vec![names("units per second; p50 / p99 / p99.9 in µs")];
    for ((name, ..), row) in rows.iter().zip(samples) {
        let micros: Vec<Vec<f64>> = row
            .iter()
            .map(|rounds| rounds.iter().map(|sample| sample.micros).collect())
            .collect();
        let mut line = vec![(*name).to_owned()];
        line.extend(
            micros
                .iter()
                .filter_map(|figures| Spread::of(figures))
                .map(|s| format!("{:.1} ({:.1})", s.median, s.least)),
        );
        line.extend(
            ratio
                .and_then(|(ours, theirs)| report::ratio(&micros[ours], &micros[theirs]))
                .map(|r| format!("{r:.2}")),
        );
        cpu.push(line);

        let mut line = vec![(*name).to_owned()];
        line.extend(row.iter().map(|rounds| {
            let middle = |figure: &dyn Fn(&Outcome) -> f64| {
                Spread::of(&rounds.iter().map(|sample| figure(&sample.outcome)).collect::<Vec<_>>())
                    .map_or(0.0, |s| s.median)
            };
            format!(
                "{:.0}; {:.0} / {:.0} / {:.0}",
                middle(&|o| o.units as f64 / o.elapsed.as_secs_f64()),
                middle(&|o| o.p50.as_secs_f64() * 1e6),
                middle(&|o| o.p99.as_secs_f64() * 1e6),
                middle(&|o| o.p999.as_secs_f64() * 1e6)
            )
        }));
        rate.push(line);
    }
    report::table(&cpu);
    report::table(&rate);
}
