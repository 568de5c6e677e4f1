//! Flags and the settings file (raw) become `Settings` (typed). Every default stands here and nowhere else.

pub mod error;
mod file;
mod flags;
mod listeners;
mod servers;
mod settings;
mod watch;

pub use error::{Error, Invalid};
pub use flags::{AdminDebug, Args, DrainMode, Flags, HOT, HttpMode};
pub use listeners::own_listeners;
pub use servers::{Acme, Traces};
pub use settings::{EndpointRules, Listen, Routing, Settings, Source};
pub use watch::watch;

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
