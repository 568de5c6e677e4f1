//! The permit that an upgrade in flight holds.

use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::snapshot::Deployment;
use crate::upstream::dial::KERNEL_LIMIT;

/// A place among a Deployment's handshakes in flight.
#[derive(Debug)]
pub struct UpgradePermit {
    line: Weak<Semaphore>,
    /// Until when the app must have answered, the time in line included.
    pub deadline: Instant,
    /// Whether there was a line.
    pub waited: bool,
    /// None: the time is up.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl UpgradePermit {
    /// Waits for a place, within the time that the app has for its answer.
    pub async fn of(deployment: &Deployment) -> Self {
        let line = &deployment.runtime.get().upgrades;
        let deadline = Instant::now() + deployment.timeouts.handshake.unwrap_or(KERNEL_LIMIT);
        let waited = line.available_permits() == 0;
        let permit = timeout_at(deadline, line.clone().acquire_owned()).await;
        Self {
            line: Arc::downgrade(line),
            deadline,
            waited,
            permit: permit.ok().and_then(Result::ok),
        }
    }

    /// Whether it is a place among these.
    pub fn is_in_line_of(&self, line: &Arc<Semaphore>) -> bool {
        self.line.as_ptr() == Arc::as_ptr(line)
    }
}
