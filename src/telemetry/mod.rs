//! What Postern says about itself: logs, the access log and metrics.

pub mod access;
pub mod log;
pub mod metrics;
pub mod traces;

use access::AccessLog;

/// Where the data plane tells of what it does.
#[derive(Debug)]
pub struct Telemetry {
    pub access: AccessLog,
}
