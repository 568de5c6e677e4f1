//! What Postern says about itself: logs, the access log, metrics and traces.

pub mod access;
pub mod log;
pub mod traces;

use access::AccessLog;
use traces::Tracer;

/// Where the data plane tells of what it does.
#[derive(Debug)]
pub struct Telemetry {
    /// Who asked for what, line by line.
    pub access: AccessLog,
    /// None: there is no collector.
    pub tracer: Option<Tracer>,
}
