//! The published snapshot, paired with the runtime state that it refers to. Hides arc-swap: a lock could stand here instead,
//! and nobody else would notice.

pub mod state;

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::snapshot::Snapshot;

/// One snapshot as it is served: every slot in it is filled.
#[derive(Debug)]
pub struct Live {
    pub snapshot: Snapshot,
    /// Counts the swaps of this process.
    pub version: u64,
}

/// Where the data plane finds the current `Live`; empty before the first full compile.
#[derive(Debug, Default)]
pub struct LiveCell(ArcSwapOption<Live>);

impl LiveCell {
    /// Once per request, which so sees one configuration; not to be held over an await. Cheaper than `load`, which every
    /// thread pays for on the same counter.
    pub fn look(&self) -> impl Deref<Target = Option<Arc<Live>>> {
        self.0.load()
    }

    pub fn load(&self) -> Option<Arc<Live>> {
        self.0.load_full()
    }

    /// Returns the retired one, to be dropped where its destructors delay no request.
    pub fn publish(&self, live: Arc<Live>) -> Option<Arc<Live>> {
        self.0.swap(Some(live))
    }
}
