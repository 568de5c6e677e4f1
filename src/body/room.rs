//! How much of clients' bodies is kept at once because a rule looks at them. Each may be as long as its rule says, and may come
//! as slowly as any; all together have so much and no more.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// In the whole process.
const CAPACITY: usize = 128 * 1024 * 1024;
static BODIES: BodyBudget = BodyBudget::new(CAPACITY);

#[derive(Debug)]
struct BodyBudget {
    left: AtomicUsize,
}

/// What one body has of the room, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    room: &'static BodyBudget,
    bytes: usize,
}

impl BodyBudget {
    const fn new(bytes: usize) -> Self {
        let left = AtomicUsize::new(bytes);
        Self { left }
    }
}

impl Reservation {
    /// Nothing yet.
    pub fn of_bodies() -> Self {
        Self::of(&BODIES)
    }

    fn of(room: &'static BodyBudget) -> Self {
        Self { room, bytes: 0 }
    }

    /// False: there is not so much left.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        let fits = self.room.left.fetch_update(Relaxed, Relaxed, less).is_ok();
        if fits {
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.room.left.fetch_add(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_have_so_much_and_what_goes_leaves_it_to_others() {
        static ROOM: BodyBudget = BodyBudget::new(10);
        let (mut one, mut other) = (Reservation::of(&ROOM), Reservation::of(&ROOM));
        assert!(one.grow(6) && !other.grow(5) && other.grow(3) && !one.grow(2) && one.grow(1));
        drop(one);
        assert!(other.grow(7) && !other.grow(1));
        drop(other);
        assert!(Reservation::of(&ROOM).grow(10));
    }
}
