//! A queue for what all namespaces share: each has a line of its own, and lines take turns. However long one namespace's line
//! is, another's first waiter goes next; and no namespace holds more places at once than its share.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Places, and the lines for them. Made once for the process.
#[derive(Clone)]
pub struct Turns(Arc<Mutex<Lines>>);

struct Lines {
    free: usize,
    /// Places that a namespace has now; none is not kept.
    held: HashMap<Arc<str>, usize>,
    /// What one namespace may hold at once.
    share: usize,
    waiting: HashMap<Arc<str>, VecDeque<oneshot::Sender<Turn>>>,
    /// Namespaces that have somebody in line, the next one first.
    order: VecDeque<Arc<str>>,
}

/// A place; given to the next in line when it is dropped.
pub struct Turn {
    turns: Turns,
    namespace: Arc<str>,
}

impl Turns {
    /// So many places. One namespace holds at most all but one of them, where there are several: the last is for one that has
    /// none.
    pub fn new(places: usize) -> Self {
        Self::with_share(places, places - 1)
    }

    /// So many places, of which one namespace holds at most `share`, one at least. For what may hang: it takes `places / share`
    /// namespaces that all hang to keep others waiting.
    pub fn with_share(places: usize, share: usize) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            free: places,
            held: HashMap::new(),
            share: share.max(1),
            waiting: HashMap::new(),
            order: VecDeque::new(),
        })))
    }

    /// Waits for a place. Who stops waiting leaves the line.
    pub async fn take(&self, namespace: &Arc<str>) -> Turn {
        loop {
            // It is answered in any case: what is lost on its way was given back, and is asked for again.
            if let Ok(turn) = self.stand_in_line(namespace).await {
                return turn;
            }
        }
    }

    fn stand_in_line(&self, namespace: &Arc<str>) -> oneshot::Receiver<Turn> {
        let (place, given) = oneshot::channel();
        let mut lines = self.0.lock();
        let line = lines.waiting.entry(namespace.clone()).or_default();
        line.push_back(place);
        if line.len() == 1 {
            lines.order.push_back(namespace.clone());
        }
        let turns = lines.give(self);
        drop(lines);
        deliver(turns);
        given
    }
}

impl Lines {
    /// Turns for those whose turn it is, with where to send them. They are sent without the lock: a receiver that has left
    /// drops its turn, which takes the lock again.
    fn give(&mut self, turns: &Turns) -> Vec<(oneshot::Sender<Turn>, Turn)> {
        let mut given = Vec::new();
        let mut passed_over = VecDeque::new();
        while self.free > 0
            && let Some(namespace) = self.order.pop_front()
        {
            let held = self.held.get(&namespace).copied().unwrap_or_default();
            let line = self.waiting.entry(namespace.clone()).or_default();
            line.retain(|place| !place.is_closed());
            if line.is_empty() {
                self.waiting.remove(&namespace);
            } else if held >= self.share {
                passed_over.push_back(namespace);
            } else if let Some(place) = line.pop_front() {
                if line.is_empty() {
                    self.waiting.remove(&namespace);
                } else {
                    self.order.push_back(namespace.clone());
                }
                self.free -= 1;
                *self.held.entry(namespace.clone()).or_default() += 1;
                let turns = turns.clone();
                given.push((place, Turn { turns, namespace }));
            }
        }
        // They keep their place before those that came later.
        passed_over.append(&mut self.order);
        self.order = passed_over;
        given
    }

    fn give_back(&mut self, namespace: &Arc<str>) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(namespace) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(namespace);
            }
        }
    }
}

/// A turn that comes back goes on to the next in line by being dropped.
fn deliver(given: Vec<(oneshot::Sender<Turn>, Turn)>) {
    for (place, turn) in given {
        drop(place.send(turn));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = self.turns.0.lock();
        lines.give_back(&self.namespace);
        let given = lines.give(&self.turns);
        drop(lines);
        deliver(given);
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turns")
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turn({})", self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    type Waiting = std::pin::Pin<Box<dyn Future<Output = Turn>>>;

    fn waits(turns: &Turns, namespace: &str) -> Waiting {
        let (turns, namespace) = (turns.clone(), Arc::from(namespace));
        let mut waiting: Waiting = Box::pin(async move { turns.take(&namespace).await });
        assert!(waiting.as_mut().now_or_never().is_none());
        waiting
    }

    fn takes(turns: &Turns, namespace: &str) -> Turn {
        turns.take(&namespace.into()).now_or_never().expect("a free place")
    }

    fn is_served(waiting: &mut Waiting) -> Option<Turn> {
        waiting.as_mut().now_or_never()
    }

    #[test]
    fn one_namespaces_line_is_no_longer_to_another_than_one_place() {
        let turns = Turns::new(1);
        let first = takes(&turns, "hostile");
        let mut many: Vec<_> = (0..1000).map(|_| waits(&turns, "hostile")).collect();
        let mut quiet = waits(&turns, "quiet");
        drop(first);
        let second = is_served(&mut many[0]).expect("it was next");
        drop(second);
        assert!(is_served(&mut quiet).is_some());
    }

    #[test]
    fn the_last_place_is_for_who_has_none() {
        let turns = Turns::new(2);
        let held = takes(&turns, "hostile");
        let mut more = waits(&turns, "hostile");
        let quiet = takes(&turns, "quiet");
        drop(quiet);
        assert!(is_served(&mut more).is_none());
        drop(held);
        assert!(is_served(&mut more).is_some());
    }

    #[test]
    fn places_beyond_a_share_are_for_others() {
        let turns = Turns::with_share(8, 2);
        let hostile = ["a", "b", "c"].map(|namespace| [(); 2].map(|()| takes(&turns, namespace)));
        let more: Vec<_> = (0..100).map(|_| waits(&turns, "a")).collect();
        let quiet = [(); 2].map(|()| takes(&turns, "quiet"));
        drop((hostile, more, quiet));
    }

    #[test]
    fn who_leaves_the_line_holds_nobody_up() {
        let turns = Turns::new(1);
        let first = takes(&turns, "a");
        let (left, mut stays) = (waits(&turns, "a"), waits(&turns, "a"));
        let given_and_left = waits(&turns, "b");
        drop(left);
        drop(first);
        // The turn is on its way to one that stays, or comes back from the one that leaves.
        drop(given_and_left);
        assert!(is_served(&mut stays).is_some());
        let lines = turns.0.lock();
        assert!(
            lines.held.is_empty() && lines.waiting.is_empty() && lines.free == 1,
            "nothing is kept"
        );
    }

    proptest! {
        /// Whatever comes and goes: no place is lost, none is given twice, and none is idle while somebody may have it.
        #[test]
        fn places_are_neither_lost_nor_idle(
            places in 1..6usize,
            share in 0..6usize,
            steps in prop::collection::vec((0..3usize, 0..3usize), 0..60),
        ) {
            let turns = Turns::with_share(places, share);
            let names = ["a", "b", "c"];
            let mut waiting: Vec<(usize, Waiting)> = Vec::new();
            let mut held: Vec<(usize, Turn)> = Vec::new();
            for (step, which) in steps {
                match step {
                    0 => {
                        let (turns, namespace) = (turns.clone(), Arc::<str>::from(names[which]));
                        waiting.push((which, Box::pin(async move { turns.take(&namespace).await })));
                    }
                    1 if !held.is_empty() => drop(held.remove(which % held.len())),
                    2 if !waiting.is_empty() => drop(waiting.remove(which % waiting.len())),
                    _ => {}
                }
                let mut still = Vec::new();
                for (who, mut one) in waiting {
                    match is_served(&mut one) {
                        Some(turn) => held.push((who, turn)),
                        None => still.push((who, one)),
                    }
                }
                waiting = still;
                prop_assert!(held.len() <= places);
                let share = share.max(1);
                let count = |which| held.iter().filter(|(who, _)| *who == which).count();
                prop_assert!((0..3).all(|which| count(which) <= share));
                let may_have = waiting.iter().any(|(who, _)| count(*who) < share);
                prop_assert!(!may_have || held.len() == places);
            }
            drop((waiting, held));
            prop_assert_eq!(turns.0.lock().free, places);
        }
    }
}
