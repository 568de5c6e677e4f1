//! How far a policy or rule goes, and for whom a limit counts.

use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

/// How far a decision goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Mode {
    /// Refuses what it decides against.
    Enforce,
    /// Decides, counts and tells, and lets through.
    Shadow,
}

impl Mode {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// Among whom it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Scope {
    /// Each replica by itself.
    Replica,
    /// All that have the same store.
    Shared,
}
