//! Postern as operators have it: its image in pods of a whole real node, installed with Helm. `tests/cluster/run` brings the node
//! up and runs this; any other cluster does as well, told by the same variables.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests panic when they fail, and say what they have measured"
)]

#[path = "../support/mod.rs"]
mod support;

mod traffic;
mod world;

mod failures;
mod install;
mod rights;
mod upgrade;
