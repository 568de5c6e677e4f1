//! The data plane.
pub mod error;
