//! `postern crds`: the CustomResourceDefinitions as YAML.

use std::io::Write;
use std::process::ExitCode;

use crate::api;

/// Fails if stdout cannot be written to.
pub fn run() -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(api::crds_yaml().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
