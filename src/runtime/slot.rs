//! The place where a part of the snapshot meets its runtime state. The state is no part of the snapshot's content:
//! it is neither compared nor printed, and it outlives the part.

use std::fmt;
use std::sync::{Arc, OnceLock};

/// Filled once, when the part is first published; a part that is reused by later snapshots keeps what it has.
pub struct Slot<T>(OnceLock<Arc<T>>);

impl<T: Default> Slot<T> {
    /// The state. A part that nobody has paired would count for itself alone: tests stop at it, and a release serves on.
    pub fn get(&self) -> &Arc<T> {
        debug_assert!(self.is_filled(), "a part of the snapshot is used and was never paired");
        self.0.get_or_init(Default::default)
    }

    /// Pairs the part with its state.
    pub fn fill(&self, state: Arc<T>) {
        // A second fill is a part published twice: it already holds the same state.
        let _ = self.0.set(state);
    }

    /// Whether the part was paired.
    pub fn is_filled(&self) -> bool {
        self.0.get().is_some()
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> PartialEq for Slot<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}
