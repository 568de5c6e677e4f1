//! Postern beside its peers, in one run, on loopback: CPU per unit of work, memory per idle socket, latency, and how long
//! an edited manifest takes to be served.
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

#[path = "../../support/certs.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod certs;
#[path = "../../support/link.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod link;

mod asker;
mod backend;
mod client;
mod cpu;
mod dial;
mod histogram;
mod manifests;
mod memory;
mod process;
mod propagation;
mod proxy;
mod report;
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
    Propagation,
    /// CPU and memory over TLS.
    Tls,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["backend"] => backend::run(),
        ["client", target, authority, workload] => client::run(target, authority, workload),
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
        cpu::measure(&args.peers, app, args.quick, &cpu::PLAIN).context("CPU per unit")?;
    }
    if wanted(Part::Memory) {
        memory::measure(&args.peers, app, args.quick, memory::plain).context("memory")?;
    }
    if wanted(Part::Propagation) && args.peers.contains(&Kind::Postern) {
        propagation::measure(app, other, args.quick).context("propagation")?;
    }
    if wanted(Part::Tls) {
        cpu::measure(&args.peers, app, args.quick, &cpu::TLS).context("CPU per unit over TLS")?;
        memory::measure(&args.peers, app, args.quick, memory::tls).context("memory over TLS")?;
    }
    Ok(())
}
