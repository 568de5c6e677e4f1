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

    /// To be held for as long as one likes. None before the first full compile.
    pub fn load(&self) -> Option<Arc<Live>> {
        self.0.load_full()
    }

    /// Returns the retired one, for `Retired`.
    pub fn publish(&self, live: Arc<Live>) -> Option<Arc<Live>> {
        self.0.swap(Some(live))
    }
}

/// What is no longer served. A request that still looks at a snapshot when it is retired must not be the last to let go of
/// it: the destructors of a big one take long. So it is kept here until nobody else has it.
#[derive(Debug, Default)]
pub struct Retired(Vec<Arc<Live>>);

impl Retired {
    /// Drops it at once if nobody looks at it.
    pub fn keep(&mut self, live: Option<Arc<Live>>) {
        self.0.extend(live);
        self.sweep();
    }

    /// Drops those that nobody else has.
    pub fn sweep(&mut self) {
        self.0.retain(|live| Arc::strong_count(live) > 1);
    }

    /// Whether nothing waits to be dropped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_snapshot_outlives_those_who_look_at_it() {
        let cell = LiveCell::default();
        let mut retired = Retired::default();
        let live = |version| {
            Arc::new(Live {
                snapshot: Snapshot::default(),
                version,
            })
        };
        retired.keep(cell.publish(live(1)));
        let look = cell.look();
        let first = Arc::downgrade(look.as_ref().unwrap());
        retired.keep(cell.publish(live(2)));
        assert!(!retired.is_empty());
        drop(look);
        assert!(first.upgrade().is_some(), "the one who looked has dropped it");
        retired.sweep();
        assert!(retired.is_empty() && first.upgrade().is_none());
    }
}
