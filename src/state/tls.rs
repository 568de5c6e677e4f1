//! How handshakes with clients ended.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub struct Handshakes([AtomicU64; Outcome::ALL.len()]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a new session.
    Completed,
    /// With a session that the client brought along.
    Resumed,
    /// The client sent something else than TLS, wanted what is not offered, refused the certificate or lacked its own.
    Failed,
    TimedOut,
}

impl Handshakes {
    pub fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Relaxed);
    }

    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Relaxed)
    }
}

impl Outcome {
    /// In the order of the variants, so that `outcome as usize` is an index.
    pub const ALL: [Self; 4] = [Self::Completed, Self::Resumed, Self::Failed, Self::TimedOut];

    pub fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}
