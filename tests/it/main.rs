//! Everything that needs no cluster, in one binary.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "tests panic when they fail"
)]

mod cli;
mod generated;
mod layering;
