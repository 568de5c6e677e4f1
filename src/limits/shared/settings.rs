//! Which Redis is asked, how long for, and what is said when it does not answer.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// Whether the connection is encrypted, and the server's certificate verified.
    pub tls: bool,
    /// A name or an address, the latter without brackets.
    pub host: String,
    /// 6379 by default.
    pub port: u16,
    /// The number that SELECT takes; 0 by default.
    pub database: u16,
    /// A folder with `username`, `password` and `ca.crt`, as far as they are needed; read for each new connection.
    pub credentials: Option<PathBuf>,
}

/// No answer, or none in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared store is unavailable")]
pub struct Unavailable;

/// The longest that one request waits for Redis, over all of its limits. Well above a round trip inside a data centre, and too
/// short for a client to notice.
pub const DEADLINE: Duration = Duration::from_millis(50);
