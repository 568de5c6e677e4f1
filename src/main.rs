//! The binary `postern`: sets up what belongs to the process and hands over to `cli`.

use std::process::ExitCode;

use clap::Parser;
use postern::cli;
use postern::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One provider for the whole process: crates that bring another would otherwise make rustls undecided.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: another crypto provider was installed first");
        return ExitCode::FAILURE;
    }
    match cli::run(cli) {
        Ok(code) => code,
        Err(error) if cli::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
