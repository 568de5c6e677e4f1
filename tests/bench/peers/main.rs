//! Postern beside its peers, in one run, on loopback: CPU per unit of work, memory per idle socket, both also over TLS,
//! latency, and how long an edited manifest takes to be served.
//!
//! `cargo bench --bench peers` measures everything; `-- --quick` less of it, `-- cpu memory` only these parts.
//! Proxy, app and client are processes of their own. Machines differ and are noisy: only ratios within one run count.

#![allow(
    clippy::disallowed_methods,
    clippy::exit,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, waits, and ends when something is wrong"
)]

mod asker;
mod backend;
mod certificate;
#[path = "../../support/certs.rs"]
#[allow(dead_code, reason = "tests make certificates of more kinds")]
mod certs;
mod client;
mod cpu;
mod dialer;
mod histogram;
#[path = "../../support/link.rs"]
#[allow(dead_code, reason = "tests also break connections off")]
mod link;
mod manifests;
mod memory;
mod process;
mod propagation;
mod proxy;
mod report;
mod settings;
mod tls;
mod unit;
mod wire;

use std::net::SocketAddr;

use anyhow::Context;
use clap::{Parser, ValueEnum};

use process::Role;
use proxy::Kind;

#[derive(Debug, Parser)]
struct Args {
    /// What to measure; everything if nothing is named.
    parts: Vec<Part>,
    /// Fewer rounds, sockets and edits.
    #[arg(long)]
    quick: bool,
    #[arg(long, value_delimiter = ',', default_value = "nginx,postern")]
    peers: Vec<Kind>,
    /// Cargo passes it to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Cpu,
    Memory,
    Tls,
    Propagation,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["backend"] => backend::run(),
        ["client", target, workload] => client::run(target, workload),
        _ => measure(&Args::parse()),
    }
}

fn measure(args: &Args) -> anyhow::Result<()> {
    let wanted = |part| args.parts.is_empty() || args.parts.contains(&part);
    let cores = std::thread::available_parallelism()?;
    println!(
        "{cores} cores, Linux {}, everything on loopback",
        std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim()
    );
    for kind in &args.peers {
        println!("{}: {}", kind.name(), kind.version()?);
    }
    println!();

    let mut backend = Role::spawn(&["backend"])?;
    let line = backend.hear()?;
    let apps: Vec<SocketAddr> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [app, other] = apps[..] else {
        anyhow::bail!("the app says no addresses: {line}")
    };

    if wanted(Part::Cpu) {
        cpu::measure(&args.peers, app, None, &cpu::ROWS, args.quick).context("CPU per unit")?;
    }
    if wanted(Part::Memory) {
        memory::measure(&args.peers, app, None, &memory::rows(args.quick)?).context("memory")?;
    }
    if wanted(Part::Tls) {
        tls::measure(&args.peers, app, args.quick).context("TLS")?;
    }
    if wanted(Part::Propagation) && args.peers.contains(&Kind::Postern) {
        propagation::measure(app, other, args.quick).context("propagation")?;
    }
    Ok(())
}
