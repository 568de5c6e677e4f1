//! CPU per unit of work: all proxies up at once, rounds interleaved, user and system time of each one's process tree.

use std::net::SocketAddr;
use std::time::Duration;

use super::client::{Outcome, Unit, Workload};
use super::dial::Over;
use super::process;
use super::proxy::{Kind, Proxy};
use super::report::{self, ABSENT, Spread};

/// What is done, how the client comes, and on how many connections.
pub type Row = (&'static str, Unit, Over, usize);

const SMALL: Unit = Unit::Echo { size: 64 };
const LARGE: Unit = Unit::Echo { size: 16 << 10 };

pub const PLAIN: [Row; 7] = [
    ("GET, 64 connections", Unit::Get, Over::Plain, 64),
    ("GET, 1 connection", Unit::Get, Over::Plain, 1),
    ("upgrade, echo, close; 32 at a time", Unit::Upgrade, Over::Plain, 32),
    ("upgrade, echo, close; 256 at a time", Unit::Upgrade, Over::Plain, 256),
    ("echo of 64 B, 64 sockets", SMALL, Over::Plain, 64),
    ("echo of 64 B, 1 socket", SMALL, Over::Plain, 1),
    ("echo of 16 KiB, 64 sockets", LARGE, Over::Plain, 64),
];

/// The first is there to be subtracted: what is left of the next two is their handshake.
pub const TLS: [Row; 8] = [
    ("new connection, GET; plaintext", Unit::Connect, Over::Plain, 16),
    ("new connection, GET; full handshake", Unit::Connect, Over::Tls, 16),
    ("new connection, GET; resumed", Unit::Connect, Over::Resumed, 16),
    ("GET over TLS, 64 connections", Unit::Get, Over::Tls, 64),
    ("echo of 64 B over wss, 64 sockets", SMALL, Over::Tls, 64),
    ("echo of 16 KiB over wss, 64 sockets", LARGE, Over::Tls, 64),
    ("echo of 64 B over wss on HTTP/2, 64 sockets", SMALL, Over::Http2, 64),
    ("echo of 16 KiB over wss on HTTP/2, 64 sockets", LARGE, Over::Http2, 64),
];

/// One round of one row on one proxy.
struct Sample {
    /// CPU per unit.
    micros: f64,
    outcome: Outcome,
}

pub fn measure(peers: &[Kind], app: SocketAddr, quick: bool, rows: &[Row]) -> anyhow::Result<()> {
    let (rounds, duration) = if quick {
        (3, Duration::from_millis(500))
    } else {
        (7, Duration::from_millis(1500))
    };
    let proxies: Vec<Proxy> = peers.iter().map(|kind| kind.start(app)).collect::<Result<_, _>>()?;
    let mut samples: Vec<Vec<Vec<Sample>>> = rows
        .iter()
        .map(|_| peers.iter().map(|_| Vec::new()).collect())
        .collect();
    let mut others = Vec::new();
    for round in 0..rounds {
        for ((_, unit, over, connections), row) in rows.iter().zip(&mut samples) {
            let workload = Workload {
                unit: *unit,
                over: *over,
                connections: *connections,
                at_once: 32,
                duration,
            };
            // Every round another one goes first.
            for i in (0..proxies.len()).map(|i| (i + round) % proxies.len()) {
                if !proxies[i].kind.speaks(*over) {
                    continue;
                }
                let (sample, other) = sample(&proxies[i], workload)?;
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
fn sample(proxy: &Proxy, workload: Workload) -> anyhow::Result<(Sample, f64)> {
    let mut client = proxy.client(workload)?;
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
    let ratio = place(Kind::Postern).zip(place(Kind::Nginx));

    let mut cpu = vec![names("CPU in µs per unit, median (least)")];
    cpu[0].extend(ratio.map(|_| "postern/nginx".to_owned()));
    let mut rate = vec![names("units per second; p50 / p99 / p99.9 in µs")];
    for ((name, ..), row) in rows.iter().zip(samples) {
        let micros: Vec<Vec<f64>> = row
            .iter()
            .map(|rounds| rounds.iter().map(|sample| sample.micros).collect())
            .collect();
        let mut line = vec![(*name).to_owned()];
        line.extend(micros.iter().map(|figures| match Spread::of(figures) {
            Some(s) => format!("{:.1} ({:.1})", s.median, s.least),
            None => ABSENT.to_owned(),
        }));
        line.extend(
            ratio
                .and_then(|(ours, theirs)| report::ratio(&micros[ours], &micros[theirs]))
                .map(|r| format!("{r:.2}")),
        );
        cpu.push(line);

        let mut line = vec![(*name).to_owned()];
        line.extend(row.iter().map(|rounds| {
            if rounds.is_empty() {
                return ABSENT.to_owned();
            }
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
