//! How handshakes with clients ended.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use strum::{IntoStaticStr, VariantArray};

/// A counter per outcome.
#[derive(Debug, Default)]
pub struct Handshakes([AtomicU64; Outcome::VARIANTS.len()]);

/// How one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// With a new session.
    Completed,
    /// With a session that the client brought along.
    Resumed,
    /// The client sent something else than TLS, wanted what is not offered, refused the certificate or lacked its own.
    Failed,
    /// Not done within the listener's `tls_handshake_timeout`.
    TimedOut,
}

impl Handshakes {
    /// One more.
    pub fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Since the start of the process.
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Relaxed)
    }
}

impl Outcome {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        self.into()
    }
}
