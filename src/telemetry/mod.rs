//! What Postern says about itself: logs and metrics.

pub mod log;
pub mod metrics;
