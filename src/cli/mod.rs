//! The verbs, one file each. What they share stands here.

mod authority;
mod check;
mod client;
mod crds;
mod echo;
mod hello;
mod offline;
mod run;
pub mod signals;
mod terminal;
mod trial;
mod why;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about, long_about = None)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve apps, from a cluster or a folder of manifests
    Run(Box<crate::config::Args>),
    /// Try Postern on this machine: it starts an app, sends a request and a WebSocket message through Postern, and
    /// shows both
    Try(trial::Args),
    /// Check manifests offline: print the conditions that their objects would have in a cluster
    Check(check::Args),
    /// Explain which object, path and endpoints serve a URL, or which error it gets and why
    Why(Box<why::Args>),
    /// Print the CustomResourceDefinitions, for `kubectl apply -f -`
    Crds,
    /// Run the sample app: it echoes HTTP bodies and WebSocket messages
    Echo(echo::Args),
    /// Send one WebSocket message to an echoing app and print its answer
    Hello(hello::Args),
}

/// Runs the verb to its end. An error is for stderr and exit code 1; a verb that has said all itself returns its own
/// code.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.verb {
        Verb::Run(args) => on_runtime(run::run(*args)),
        Verb::Try(args) => on_runtime(trial::run(args)),
        Verb::Check(args) => check::run(&args),
        Verb::Why(args) => on_runtime(why::run(*args)),
        Verb::Crds => crds::run(),
        Verb::Echo(args) => on_runtime(echo::run(args)),
        Verb::Hello(args) => on_runtime(hello::run(args)),
    }
}

/// Whether the error only means that the reader of our output has closed it (`postern crds | head`).
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io_error = error.downcast_ref::<io::Error>();
    io_error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The control runtime: all but the data plane, which has its own.
fn on_runtime(verb: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    const THREADS: usize = 2;
    const LEFTOVERS: Duration = Duration::from_secs(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let result = runtime.block_on(verb);
    runtime.shutdown_timeout(LEFTOVERS);
    result
}
