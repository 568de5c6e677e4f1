//! The keys of one rule that this replica has had counted in the store and that the store may still remember. Clients make up
//! keys where a rule goes by what they say, and what they make up must not fill the store: so they are bounded here.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limits::windows::Quota;
use crate::runtime::shrink::shrink;

/// Nothing is allocated before the first key.
#[derive(Debug, Default)]
pub struct Known(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    /// Until when the store may remember each.
    until: HashMap<u128, Instant>,
    /// Before this none has to be looked for that it has forgotten.
    sweep: Option<Instant>,
}

/// Keys of one rule that one replica brings to the store. As many as it counts by itself.
pub const MAX_SHARED_KEYS: usize = 65_536;
/// Between two sweeps: a flood of new keys must not cause one each.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl Known {
    /// Whether the store may be asked about the key: it is known there, or there is room for another.
    pub fn admit(&self, key: u128, quota: &Quota) -> bool {
        let now = Instant::now();
        // As the store does: two windows after it was last counted nothing of it is left.
        let end = now + Duration::from_millis(2 * quota.window);
        let mut keys = self.0.lock();
        if let Some(until) = keys.until.get_mut(&key) {
            // A shorter window, since an edit, does not shorten what the store was told.
            *until = end.max(*until);
            return true;
        }
        keys.make_room(now);
        let has_room = keys.until.len() < MAX_SHARED_KEYS;
        if has_room {
            keys.until.insert(key, end);
        }
        has_room
    }
}

impl Keys {
    /// The table is swept as it fills up, so that keys of the past do not stay for ever.
    fn make_room(&mut self, now: Instant) {
        let is_full = self.until.len() >= MAX_SHARED_KEYS || self.until.len() == self.until.capacity();
        if !is_full || self.sweep.is_some_and(|sweep| now < sweep) {
            return;
        }
        self.until.retain(|_, until| now < *until);
        shrink(&mut self.until);
        self.sweep = Some(now + SWEEP_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn quota(window: Duration) -> Quota {
        Quota::new(1, window, 1)
    }

    #[tokio::test(start_paused = true)]
    async fn new_keys_find_no_room_while_the_store_remembers_as_many_as_it_may() {
        let (known, minute) = (Known::default(), quota(Duration::from_secs(60)));
        let admitted = (0..2 * MAX_SHARED_KEYS as u128).filter(|key| known.admit(*key, &minute));
        assert_eq!(admitted.count(), MAX_SHARED_KEYS);
        assert!(known.admit(0, &minute), "it is known");
        advance(Duration::from_secs(119)).await;
        assert!(!known.admit(u128::MAX, &minute));
        assert!(known.admit(1, &minute), "and counted anew");
        advance(Duration::from_secs(1)).await;
        assert!(known.admit(u128::MAX, &minute));
        assert_eq!(known.0.lock().until.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_of_the_past_go_before_there_are_too_many() {
        let (known, second) = (Known::default(), quota(Duration::from_secs(1)));
        for key in 0..100_000 {
            assert!(known.admit(key, &second));
            advance(Duration::from_millis(10)).await;
        }
        assert!(known.0.lock().until.len() < 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn an_edit_of_the_window_forgets_nothing_that_the_store_remembers() {
        let known = Known::default();
        assert!(known.admit(1, &quota(Duration::from_secs(60))));
        assert!(known.admit(1, &quota(Duration::from_secs(1))));
        let until = known.0.lock().until[&1];
        assert_eq!(until - Instant::now(), Duration::from_secs(120));
    }
}
