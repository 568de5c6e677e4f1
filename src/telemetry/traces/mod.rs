//! Traces.

pub mod context;
