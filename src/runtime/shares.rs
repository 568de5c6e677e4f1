//! Room that all share and nobody may have all of: a budget of places or bytes, with a share for each holder. Who holds much
//! may hold no more than a multiple of what is still free, so that some is left for who comes next; who holds nothing gets what
//! is there. No share has to be set, and none is idle: a lone holder has nearly all of it, and gives way as others come.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use super::shrink::shrink;

/// The room, and who holds how much of it.
pub struct Shares<K>(Arc<Mutex<Room<K>>>);

struct Room<K> {
    capacity: usize,
    free: usize,
    /// A holder may hold so many times what is free.
    ratio: usize,
    held: HashMap<K, usize>,
}

/// What one taker has of the room, until it is dropped.
pub struct Share<K: Hash + Eq> {
    shares: Shares<K>,
    /// None: it counts in the whole alone.
    holder: Option<K>,
    amount: usize,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// `ratio`: how many times what is free one holder may hold. The larger it is, the more a lone holder has, and the less
    /// is left for others: a lone one has `ratio / (ratio + 1)` of all.
    pub fn new(capacity: usize, ratio: usize) -> Self {
        Self(Arc::new(Mutex::new(Room {
            capacity,
            free: capacity,
            ratio,
            held: HashMap::new(),
        })))
    }

    /// Nothing yet, for this holder.
    pub fn none_of(&self, holder: K) -> Share<K> {
        Share {
            shares: self.clone(),
            holder: Some(holder),
            amount: 0,
        }
    }

    /// None: there is no room, or others need what there is.
    pub fn take(&self, holder: K, amount: usize) -> Option<Share<K>> {
        let mut share = self.none_of(holder);
        share.grow(amount).then_some(share)
    }

    /// For somebody who stands for many others, as a proxy does: only the whole bounds it.
    pub fn take_for_many(&self, amount: usize) -> Option<Share<K>> {
        let mut share = Share {
            shares: self.clone(),
            holder: None,
            amount: 0,
        };
        share.grow(amount).then_some(share)
    }

    /// What this holder has.
    pub fn held<Q: Hash + Eq + ?Sized>(&self, holder: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.0.lock().held.get(holder).copied().unwrap_or_default()
    }

    /// What may still be taken by somebody who holds nothing.
    pub fn free(&self) -> usize {
        self.0.lock().free
    }

    /// All there is.
    pub fn capacity(&self) -> usize {
        self.0.lock().capacity
    }
}

impl<K: Hash + Eq + Clone> Share<K> {
    /// False: there is no room, or others need what there is. The share stays what it was.
    pub fn grow(&mut self, amount: usize) -> bool {
        let mut room = self.shares.0.lock();
        if !room.has(self.holder.as_ref(), amount) {
            return false;
        }
        room.free -= amount;
        if let Some(holder) = &self.holder {
            *room.held.entry(holder.clone()).or_default() += amount;
        }
        self.amount += amount;
        true
    }

    /// None: it counts in the whole alone.
    pub fn holder(&self) -> Option<&K> {
        self.holder.as_ref()
    }

    /// The same room, held by somebody else from now on.
    pub fn hand_over(&mut self, holder: Option<K>) {
        let mut room = self.shares.0.lock();
        room.give_back(self.holder.as_ref(), self.amount);
        room.free -= self.amount;
        if let Some(holder) = &holder {
            *room.held.entry(holder.clone()).or_default() += self.amount;
        }
        drop(room);
        self.holder = holder;
    }
}

impl<K: Hash + Eq> Room<K> {
    fn has(&self, holder: Option<&K>, amount: usize) -> bool {
        let Some(left) = self.free.checked_sub(amount) else {
            return false;
        };
        let held = holder
            .and_then(|holder| self.held.get(holder))
            .copied()
            .unwrap_or_default();
        held == 0 || held.saturating_add(amount) <= left.saturating_mul(self.ratio)
    }

    fn give_back(&mut self, holder: Option<&K>, amount: usize) {
        self.free += amount;
        let Some(holder) = holder else { return };
        if let Some(held) = self.held.get_mut(holder) {
            *held -= amount;
            if *held == 0 {
                self.held.remove(holder);
                shrink(&mut self.held);
            }
        }
    }
}

/// Without a bound.
impl<K: Hash + Eq + Clone> Default for Shares<K> {
    fn default() -> Self {
        Self::new(usize::MAX, 1)
    }
}

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        self.shares.0.lock().give_back(self.holder.as_ref(), self.amount);
    }
}

impl<K> fmt::Debug for Shares<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = self.0.lock();
        write!(f, "Shares({} of {} free)", room.free, room.capacity)
    }
}

impl<K: Hash + Eq> fmt::Debug for Share<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({})", self.amount)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn takes_all_it_can(shares: &Shares<u32>, holder: u32) -> Vec<Share<u32>> {
        std::iter::from_fn(|| shares.take(holder, 1)).collect()
    }

    #[test]
    fn a_lone_holder_has_nearly_all_and_who_comes_next_has_what_is_left() {
        let shares = Shares::new(900, 8);
        let first = takes_all_it_can(&shares, 1);
        assert_eq!(first.len(), 800);
        let second = takes_all_it_can(&shares, 2);
        assert_eq!(second.len(), 88);
        drop(first);
        assert_eq!(takes_all_it_can(&shares, 3).len(), 721);
        drop(second);
    }

    #[test]
    fn many_that_take_what_they_can_leave_something_for_the_next() {
        let shares = Shares::new(1_000, 1);
        let hostile: Vec<_> = (0..10).map(|holder| takes_all_it_can(&shares, holder)).collect();
        assert_eq!(takes_all_it_can(&shares, 99).len(), 1);
        drop(hostile);
        // Taking turns, they have equal shares, and so has the next.
        let mut hostile: Vec<Share<u32>> = Vec::new();
        loop {
            let taken: Vec<_> = (0..10).filter_map(|holder| shares.take(holder, 1)).collect();
            if taken.is_empty() {
                break;
            }
            hostile.extend(taken);
        }
        assert!(shares.free() >= 90 && takes_all_it_can(&shares, 99).len() >= 45);
    }

    #[test]
    fn who_stands_for_many_is_bounded_by_the_whole() {
        let shares = Shares::<u32>::new(10, 1);
        let held: Vec<_> = std::iter::from_fn(|| shares.take_for_many(1)).collect();
        assert_eq!(held.len(), 10);
        assert!(shares.take(1, 1).is_none());
        drop(held);
        assert_eq!((shares.free(), shares.capacity()), (10, 10));
    }

    #[test]
    fn what_is_handed_over_is_the_new_holders() {
        let shares = Shares::new(9, 8);
        let mut first = takes_all_it_can(&shares, 1);
        let mut one = first.pop().expect("it has some");
        one.hand_over(Some(2));
        assert_eq!((shares.held(&1), shares.held(&2), shares.free()), (7, 1, 1));
        one.hand_over(None);
        assert_eq!((shares.held(&2), shares.free()), (0, 1));
        drop(one);
        assert_eq!(shares.free(), 2);
    }

    proptest! {
        /// Whatever is taken and given back: nothing is lost, nothing is given twice, and nobody has more than may be.
        #[test]
        fn nothing_is_lost(steps in prop::collection::vec((0..2usize, 0..4u32, 1..20usize), 0..100)) {
            let shares = Shares::new(100, 2);
            let mut held: Vec<(u32, Share<u32>)> = Vec::new();
            for (step, holder, amount) in steps {
                let sum = |who: u32| held.iter().filter(|(holder, _)| *holder == who).map(|(_, share)| share.amount).sum::<usize>();
                let (mine, free) = (sum(holder), shares.free());
                match step {
                    0 => {
                        let may = amount <= free && (mine == 0 || mine + amount <= 2 * (free - amount));
                        let taken = shares.take(holder, amount);
                        prop_assert_eq!(taken.is_some(), may);
                        held.extend(taken.map(|share| (holder, share)));
                    }
                    _ if !held.is_empty() => drop(held.remove(amount % held.len())),
                    _ => {}
                }
                let all: usize = held.iter().map(|(_, share)| share.amount).sum();
                prop_assert_eq!(shares.free(), 100 - all);
            }
            drop(held);
            prop_assert!(shares.0.lock().held.is_empty());
        }
    }
}
