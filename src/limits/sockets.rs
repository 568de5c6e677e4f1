//! How many sockets each key of a rule has open at this replica. Which are open at others is `shared`'s to know.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::runtime::shrink::shrink;

/// A key stands here while it has a socket open: there are never more keys than sockets.
#[derive(Clone, Debug, Default)]
pub struct Sockets(Arc<Mutex<HashMap<u128, u32>>>);

/// One open socket, until it is dropped.
#[derive(Debug)]
pub struct Counted {
    sockets: Sockets,
    key: u128,
}

impl Sockets {
    /// None: the key has `max` already.
    pub fn open(&self, key: u128, max: u32) -> Option<Counted> {
        let mut open = self.0.lock();
        match open.entry(key) {
            Entry::Occupied(mut held) if *held.get() < max => *held.get_mut() += 1,
            Entry::Vacant(none) if max > 0 => _ = none.insert(1),
            _ => return None,
        }
        let sockets = self.clone();
        Some(Counted { sockets, key })
    }

    /// How many keys have a socket open.
    pub fn keys(&self) -> usize {
        self.0.lock().len()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.sockets.0.lock();
        if let Entry::Occupied(mut held) = open.entry(self.key) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
        shrink(&mut open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_maximum_and_again_when_one_has_closed() {
        let sockets = Sockets::default();
        let mut held: Vec<_> = (0..3).map(|_| sockets.open(1, 3).unwrap()).collect();
        assert!(sockets.open(1, 3).is_none());
        assert!(sockets.open(2, 3).is_some(), "another key has its own");
        held.pop();
        let again = sockets.open(1, 3);
        assert!(again.is_some() && sockets.open(1, 3).is_none());
    }

    #[test]
    fn a_lower_maximum_counts_those_that_are_open() {
        let sockets = Sockets::default();
        let mut held: Vec<_> = (0..3).map(|_| sockets.open(1, 3).unwrap()).collect();
        assert!(sockets.open(1, 2).is_none());
        held.truncate(2);
        assert!(sockets.open(1, 2).is_none());
        held.truncate(1);
        assert!(sockets.open(1, 2).is_some());
    }

    #[test]
    fn nothing_is_kept_of_keys_without_sockets() {
        let sockets = Sockets::default();
        let held: Vec<_> = (0..1000).map(|key| sockets.open(key, 1)).collect();
        assert_eq!(sockets.keys(), 1000);
        drop(held);
        assert_eq!(sockets.keys(), 0);
        assert!(sockets.0.lock().capacity() <= 64);
        assert!(sockets.open(7, 0).is_none());
        assert_eq!(sockets.keys(), 0);
    }

    #[test]
    fn threads_at_once_get_the_maximum_together() {
        let sockets = Sockets::default();
        let got: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..64).map(|_| scope.spawn(|| sockets.open(1, 10))).collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(got.len(), 10);
    }
}
