//! How far a policy or rule goes, and for whom a limit counts.

use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Mode {
    Enforce,
    /// Decides, counts and tells, and lets through.
    Shadow,
}

impl Mode {
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
