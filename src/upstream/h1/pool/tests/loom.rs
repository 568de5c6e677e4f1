//! Every interleaving of the threads that share an idle connection, each with every value that C11 lets a relaxed load see.
//! It is the source of `idle` itself, built a second time on loom's primitives. loom and not shuttle, since the orderings
//! are part of what is checked, and since a few threads of a few steps each can be tried exhaustively, not at random.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use loom::future::block_on;
use loom::thread;
use tokio::time::Instant;

use idle::{ConnectionState, IdleList, Kept, Look};

#[path = "../idle.rs"]
#[expect(clippy::duplicate_mod, reason = "built again, with another `super::sync`")]
#[expect(dead_code, reason = "some of it is for one thread alone")]
mod idle;

mod sync {
    use std::task::Waker;

    use std::sync::atomic::Ordering;

    pub use loom::sync::atomic::AtomicU64;

    /// Stores by a swap. loom gives stores that race no order, so that it would let a load read the one that a
    /// compare-exchange has made even after both threads were joined; a swap has its place among the exchanges.
    #[derive(Debug)]
    pub struct AtomicU8(loom::sync::atomic::AtomicU8);

    impl AtomicU8 {
        pub fn new(value: u8) -> Self {
            Self(loom::sync::atomic::AtomicU8::new(value))
        }

        pub fn load(&self, order: Ordering) -> u8 {
            self.0.load(order)
        }

        pub fn store(&self, value: u8, order: Ordering) {
            self.0.swap(value, order);
        }

        pub fn compare_exchange(&self, from: u8, to: u8, done: Ordering, failed: Ordering) -> Result<u8, u8> {
            self.0.compare_exchange(from, to, done, failed)
        }
    }

    /// With parking_lot's interface.
    #[derive(Debug)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    /// With futures' interface.
    #[derive(Debug)]
    pub struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub fn new() -> Self {
            Self(loom::future::AtomicWaker::new())
        }

        pub fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub fn wake(&self) {
            self.0.wake();
        }
    }
}

const LIMIT: Duration = Duration::from_secs(4);
const MILLI: Duration = Duration::from_millis(1);

/// A list, and connections by number, which were dialled at `born`.
#[derive(Clone)]
struct World {
    list: Arc<IdleList<usize>>,
    states: Vec<Arc<ConnectionState>>,
    born: Instant,
}

impl World {
    /// `busy` connections in use.
    fn new(busy: usize) -> Self {
        let born = Instant::now();
        let states = (0..busy).map(|_| Arc::new(ConnectionState::new(born, LIMIT)));
        Self {
            list: Arc::new(IdleList::default()),
            states: states.collect(),
            born,
        }
    }

    /// The same, put back at once.
    fn with_idle(idle: usize) -> Self {
        let world = Self::new(idle);
        (0..idle).for_each(|number| world.put(number, Duration::ZERO));
        world
    }

    fn put(&self, number: usize, after: Duration) {
        let state = self.states[number].clone();
        let kept = Kept {
            connection: number,
            state,
        };
        self.list.put(kept, self.born + after);
    }

    fn take(&self, after: Duration) -> Option<usize> {
        let kept = self.list.take(self.born + after, |_| true);
        kept.map(|kept| kept.connection)
    }

    fn check(&self, number: usize, after: Duration) -> Look {
        let look = self.states[number].check(self.born + after);
        if look == Look::Closed {
            self.end(number);
        }
        look
    }

    /// What the task of a connection does last.
    fn end(&self, number: usize) {
        self.states[number].end();
        self.list.sweep();
    }

    fn listed(&self) -> Vec<usize> {
        let listed = RefCell::new(Vec::new());
        self.list.take(self.born, |number| {
            listed.borrow_mut().push(*number);
            false
        });
        listed.into_inner()
    }

    fn is_closed(&self, number: usize) -> bool {
        self.states[number].check(self.born) == Look::Closed
    }
}

/// Runs `theirs` on a thread of its own beside `ours`, in every order.
fn race<A: 'static, B>(
    world: &World,
    theirs: impl FnOnce(&World) -> A + 'static,
    ours: impl FnOnce(&World) -> B,
) -> (A, B) {
    let shared = world.clone();
    let other = thread::spawn(move || theirs(&shared));
    let ours = ours(world);
    (other.join().unwrap(), ours)
}

#[test]
fn a_connection_that_ends_while_it_is_put_back_is_not_kept() {
    loom::model(|| {
        let world = World::new(1);
        race(&world, |world| world.end(0), |world| world.put(0, Duration::ZERO));
        assert_eq!((world.listed(), world.is_closed(0)), (vec![], true));
    });
}

#[test]
fn a_connection_is_either_taken_or_given_up() {
    loom::model(|| {
        let world = World::with_idle(1);
        let (taken, look) = race(&world, |world| world.take(LIMIT - MILLI), |world| world.check(0, LIMIT));
        match taken {
            Some(_) => assert_eq!(look, Look::Busy, "the task leaves it to its user"),
            None => assert_eq!(look, Look::Closed, "nobody else has it"),
        }
        assert_eq!((world.listed(), world.is_closed(0)), (vec![], taken.is_none()));
    });
}

#[test]
fn a_connection_that_is_due_is_given_up_whoever_looks_first() {
    loom::model(|| {
        let world = World::with_idle(1);
        let (taken, look) = race(&world, |world| world.take(LIMIT), |world| world.check(0, LIMIT));
        assert_eq!((taken, look, world.listed()), (None, Look::Closed, vec![]));
    });
}

#[test]
fn one_connection_goes_to_one_of_two_requests() {
    loom::model(|| {
        let world = World::with_idle(1);
        let (theirs, ours) = race(&world, |world| world.take(MILLI), |world| world.take(MILLI));
        assert!(theirs.is_some() != ours.is_some(), "{theirs:?}, {ours:?}");
    });
}

#[test]
fn two_connections_go_to_two_requests_whichever_ends_meanwhile() {
    loom::model(|| {
        let world = World::with_idle(2);
        let (shared, ending) = (world.clone(), world.clone());
        let first = thread::spawn(move || shared.take(MILLI));
        let end = thread::spawn(move || ending.end(1));
        let second = world.take(MILLI);
        let mut taken: Vec<_> = [first.join().unwrap(), second].into_iter().flatten().collect();
        end.join().unwrap();
        taken.sort_unstable();
        // The one that ends is handed out before that or not at all, and never in the other's place.
        assert!(taken == [0, 1] || taken == [0], "{taken:?}");
        assert_eq!((world.listed(), world.is_closed(1)), (vec![], true));
    });
}

#[test]
fn a_connection_that_is_put_back_is_taken_at_once_or_kept() {
    loom::model(|| {
        let world = World::new(1);
        let (taken, ()) = race(&world, |world| world.take(MILLI), |world| world.put(0, Duration::ZERO));
        let kept = world.listed();
        assert_eq!(taken.into_iter().chain(kept).collect::<Vec<_>>(), [0]);
        assert!(!world.is_closed(0));
    });
}

#[test]
fn a_connection_that_is_put_back_taken_and_ends_is_nowhere() {
    loom::model(|| {
        let world = World::new(1);
        let (shared, ending) = (world.clone(), world.clone());
        let taker = thread::spawn(move || shared.take(MILLI));
        let end = thread::spawn(move || ending.end(0));
        world.put(0, Duration::ZERO);
        taker.join().unwrap();
        end.join().unwrap();
        assert_eq!((world.listed(), world.is_closed(0)), (vec![], true));
    });
}

/// Without the release of `put` the task could see the phase, but not yet since when.
#[test]
fn idle_time_counts_from_the_last_answer() {
    loom::model(|| {
        let world = World::new(1);
        let since = LIMIT / 2;
        let put = move |world: &World| world.put(0, since);
        let (_, look) = race(&world, put, |world| world.check(0, LIMIT));
        let due = world.born + since + LIMIT;
        assert!(look == Look::Busy || look == Look::Idle(due), "{look:?}");
    });
}

#[test]
fn a_look_at_a_connection_that_is_used_meanwhile_leaves_it_kept_or_closed() {
    loom::model(|| {
        let world = World::with_idle(1);
        let using = |world: &World| {
            let taken = world.take(LIMIT - MILLI);
            if taken.is_some() {
                world.put(0, LIMIT);
            }
        };
        let ((), look) = race(&world, using, |world| world.check(0, LIMIT));
        let closed = look == Look::Closed;
        let kept = if closed { vec![] } else { vec![0] };
        assert_eq!((world.listed(), world.is_closed(0)), (kept, closed));
    });
}

#[test]
fn a_task_is_woken_by_whoever_closes_its_connection() {
    loom::model(|| {
        let world = World::new(1);
        let polls = Cell::new(0);
        let wait = |world: &World| {
            block_on(poll_fn(|cx| {
                polls.set(polls.get() + 1);
                if world.states[0].poll_closed(cx) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }));
        };
        race(&world, |world| world.states[0].close(), wait);
        assert!(polls.get() > 0);
    });
}

#[test]
fn a_list_that_goes_away_closes_what_it_has() {
    loom::model(|| {
        let World { list, states, born } = World::with_idle(1);
        let state = states[0].clone();
        let task = thread::spawn(move || state.check(born + LIMIT - MILLI));
        drop(list);
        task.join().unwrap();
        assert_eq!(states[0].check(born), Look::Closed);
    });
}
