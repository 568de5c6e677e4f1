//! Flags and the settings file (raw) become `Settings` (typed). Every default stands here and nowhere else.

mod file;
mod flags;
mod listeners;
mod settings;
mod watch;

pub use flags::{Args, Flags, HOT};
pub use listeners::own_listeners;
pub use settings::{Acme, DrainMode, EndpointRules, HttpMode, Listen, Routing, Settings, Source, Traces};
pub use watch::watch;

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the settings file {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("settings file {}: {cause}", path.display())]
    File { path: PathBuf, cause: Invalid },
    #[error(transparent)]
    Flags(#[from] Invalid),
}

/// What is wrong with a setting, wherever it was made.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Invalid {
    #[error("the file is empty (write {{}} to set nothing)")]
    Empty,
    #[error("not a YAML map: {0}")]
    Syntax(String),
    #[error("key {0:?}: {1}")]
    Key(String, String),
    #[error("{0}")]
    Value(String),
}

/// The settings as they are now: the file over the flags.
pub fn load(args: &Args) -> Result<Settings, Error> {
    let flags = effective(args)?;
    Ok(flags.settings()?)
}

fn effective(args: &Args) -> Result<Flags, Error> {
    let Some(path) = &args.config else {
        return Ok(args.flags.clone());
    };
    let text = file::read(path)?;
    checked(&args.flags, &text).map_err(|cause| Error::File {
        path: path.clone(),
        cause,
    })
}

/// The flags with the file's keys, known to have a meaning.
fn checked(flags: &Flags, text: &str) -> Result<Flags, Invalid> {
    let flags = flags.overlaid(text)?;
    flags.settings()?;
    Ok(flags)
}

#[cfg(test)]
mod tests;
