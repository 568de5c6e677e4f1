//! Log lines on stderr, JSON or text, with levels that change while running. Per-request records are the access log's.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{error, info};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::Settings;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    Json,
    Text,
}

/// Changes the levels of the running process.
pub struct Levels(reload::Handle<EnvFilter, Registry>);

/// Levels as `--log` takes them: "info", "info,postern::proxy=debug".
pub fn parse(levels: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(levels)
}

/// Sets up logging for the process; once.
pub fn init(format: LogFormat, levels: EnvFilter) -> Result<Levels, TryInitError> {
    let (filter, handle) = reload::Layer::new(levels);
    let lines = match format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(stderr).boxed(),
        LogFormat::Text => fmt::layer()
            .with_ansi(stderr().is_terminal())
            .with_writer(stderr)
            .boxed(),
    };
    // The filter is innermost: it is the one that knows its subscriber's type, and it decides for all.
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(Levels(handle))
}

impl Levels {
    /// Sets the levels whenever the settings do. Ends with the settings.
    pub async fn follow(self, mut settings: watch::Receiver<Arc<Settings>>) {
        let mut current = settings.borrow_and_update().log.clone();
        while settings.changed().await.is_ok() {
            let next = settings.borrow_and_update().log.clone();
            if next == current {
                continue;
            }
            // Settings with levels that do not parse never get here.
            let result = parse(&next).map_err(|e| e.to_string());
            match result.and_then(|filter| self.0.reload(filter).map_err(|e| e.to_string())) {
                Ok(()) => info!(levels = next, "log levels changed"),
                Err(error) => error!(levels = next, error, "cannot change the log levels"),
            }
            current = next;
        }
    }
}
