//! Log lines on stderr, JSON or text, with levels that change while running. Per-request records are the access log's.

use std::io::{self, IsTerminal, Stderr, Write, stderr};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::text::escape_unseen;

/// How log lines look.
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
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(|| Escaping(stderr()))
            .boxed(),
        LogFormat::Text => fmt::layer()
            .with_ansi(stderr().is_terminal())
            .with_writer(|| Escaping(stderr()))
            .boxed(),
    };
    // The filter is innermost: it is the one that knows its subscriber's type, and it decides for all.
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(Levels(handle))
}

/// Stderr, for lines that quote what others have written.
struct Escaping(Stderr);

/// Lines come whole, so that no character is cut in two.
impl Write for Escaping {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(&escape_unseen(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Levels {
    /// Sets other levels.
    pub fn set(&self, levels: &str) -> Result<(), String> {
        let filter = parse(levels).map_err(|error| error.to_string())?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}
