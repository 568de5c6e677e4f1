//! `postern run`: serve until told to stop.

use std::process::ExitCode;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::signals::Signals;
use crate::app::App;
use crate::config::{self, Args, Settings};
use crate::telemetry::log::{self, Levels};

/// Serves until a signal has ended it. Fails if the settings cannot be used, if the start fails, or if a part that must
/// not end has ended.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let initial = config::load(&args)?;
    let levels = log::init(initial.log_format, log::parse(&initial.log)?)?;
    let settings = config::watch(args)?;
    tokio::spawn(follow(levels, settings.clone()));

    let descriptors = raise_descriptor_limit();
    info!(version = env!("CARGO_PKG_VERSION"), descriptors, settings = ?initial, "starting");
    let mut app = tokio::select! {
        app = App::start(settings) => app?,
        signal = signals.next() => {
            info!(signal, "stopped while starting");
            return Ok(ExitCode::SUCCESS);
        }
    };

    tokio::select! {
        signal = signals.next() => info!(signal, "stopping; another signal stops at once"),
        error = app.failed() => return Err(error),
    }
    tokio::select! {
        () = app.shutdown() => Ok(ExitCode::SUCCESS),
        signal = signals.next() => {
            warn!(signal, "stopped at once by a second signal");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Raises the soft limit on descriptors to the hard one, and returns it; None: there is none. The soft one is 1,024 in most
/// places, for programs that use `select`: a thousand idle clients would have taken all of it, the probes' share too.
fn raise_descriptor_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.maximum,
        Err(error) => {
            warn!(%error, limit = before, "cannot raise the limit on descriptors");
            before
        }
    }
}

/// Sets the log levels whenever the settings do. Ends with the settings.
async fn follow(levels: Levels, mut settings: watch::Receiver<Arc<Settings>>) {
    let mut current = settings.borrow_and_update().log.clone();
    while settings.changed().await.is_ok() {
        let next = settings.borrow_and_update().log.clone();
        if next == current {
            continue;
        }
        // Settings with levels that do not parse never get here.
        match levels.set(&next) {
            Ok(()) => info!(levels = next, "log levels changed"),
            Err(error) => error!(levels = next, error, "cannot change the log levels"),
        }
        current = next;
    }
}
