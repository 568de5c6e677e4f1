//! `postern run`: serve until told to stop.

use std::process::ExitCode;

use tracing::{info, warn};

use super::Signals;
use crate::app::App;
use crate::config::{self, Args};
use crate::telemetry::log;

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let initial = config::load(&args)?;
    let levels = log::init(initial.log_format, log::parse(&initial.log)?)?;
    let settings = config::watch(args)?;
    tokio::spawn(levels.follow(settings.clone()));

    info!(version = env!("CARGO_PKG_VERSION"), settings = ?initial, "starting");
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
