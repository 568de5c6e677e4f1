//! The list of a pool's idle connections, and the phase of each connection, for which its user and the task that drives it
//! contend. It knows no HTTP: what a connection is made of is the pool's.
//!
//! | From   | To       | By      | Whose step | When                                                          |
//! |--------|----------|---------|------------|---------------------------------------------------------------|
//! |        | `BUSY`   | `new`   | its user's | the connection was dialled                                    |
//! | `BUSY` | `IDLE`   | `put`   | its user's | the answer has ended; the list has it then, if there is room  |
//! | `IDLE` | `BUSY`   | `take`  | its user's | it is not due; the list no longer has it                      |
//! | `IDLE` | `CLOSED` | `check` | its task's | it is due: it has been idle for as long as it may be          |
//! | any    | `CLOSED` | `close` | its user's | it cannot be used again: this wakes the task, which ends      |
//! | any    | `CLOSED` | `close` | the list's | it is due when it is taken, the list is full, or it goes away |
//! | any    | `CLOSED` | `end`   | its task's | the connection has ended                                      |
//!
//! Nothing leaves `CLOSED`. `put`, `take` and `check` are compare-exchanges, so of two that contend for a phase one wins: a
//! request never gets a connection that its task is giving up, and `put` never revives one that has ended meanwhile.
//!
//! The list may have a closed connection only until the task's `sweep`. `put` looks at the phase under the list's lock, and
//! the task sweeps under it after it has set the phase: either `put` finds the connection closed, or the sweep finds it
//! listed.
//!
//! Times come from the caller. They are whole milliseconds since the connection was dialled, rounded down.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::sync::{AtomicU8, AtomicU64, AtomicWaker, Mutex};

/// Connections kept per endpoint.
pub const MAX_IDLE: usize = 256;

/// The idle connections to one endpoint. Dropping it closes them.
#[derive(Debug)]
pub struct IdleList<T>(Mutex<Vec<Kept<T>>>);

/// A connection, in use or idle, beside the state that it shares with its task.
#[derive(Debug)]
pub struct Kept<T> {
    pub connection: T,
    pub state: Arc<ConnectionState>,
}

/// The state that a connection's task and its user share: its phase, and since when it is idle.
#[derive(Debug)]
pub struct ConnectionState {
    phase: AtomicU8,
    /// Milliseconds after `born`.
    idle_since: AtomicU64,
    /// Milliseconds.
    idle_limit: AtomicU64,
    born: Instant,
    task: AtomicWaker,
}

/// What a connection's task finds when it looks at its idle time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// In use.
    Busy,
    /// Idle, until then at most.
    Idle(Instant),
    /// The task is to end.
    Closed,
}

const BUSY: u8 = 0;
const IDLE: u8 = 1;
const CLOSED: u8 = 2;

impl<T> IdleList<T> {
    /// An idle connection that fits and is not due, the latest used first.
    pub fn take(&self, now: Instant, fits: impl Fn(&T) -> bool) -> Option<Kept<T>> {
        loop {
            let kept = self.pick(&fits)?;
            if kept.state.take(now) {
                return Some(kept);
            }
            kept.state.close();
        }
    }

    fn pick(&self, fits: impl Fn(&T) -> bool) -> Option<Kept<T>> {
        let mut list = self.0.lock();
        let at = list.iter().rposition(|kept| fits(&kept.connection))?;
        Some(list.remove(at))
    }

    /// Keeps a connection whose answer has ended, unless it has ended too, or there is no room.
    pub fn put(&self, kept: Kept<T>, now: Instant) {
        if !kept.state.rest(now) {
            return;
        }
        let mut list = self.0.lock();
        // Looked at under the lock: what closes later finds itself here, and is swept.
        if list.len() < MAX_IDLE && kept.state.phase.load(Acquire) == IDLE {
            list.push(kept);
        } else {
            kept.state.close();
        }
    }

    /// Takes out what has closed.
    pub fn sweep(&self) {
        self.0.lock().retain(|kept| kept.state.phase.load(Relaxed) == IDLE);
    }
}

// Not derived: that would ask for a default connection.
impl<T> Default for IdleList<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Drop for IdleList<T> {
    fn drop(&mut self) {
        self.0.lock().iter().for_each(|kept| kept.state.close());
    }
}

impl ConnectionState {
    /// Of a connection that is in use, and may then be idle for `idle_limit`.
    pub fn new(now: Instant, idle_limit: Duration) -> Self {
        Self {
            phase: AtomicU8::new(BUSY),
            idle_since: AtomicU64::new(0),
            idle_limit: AtomicU64::new(idle_limit.as_millis() as u64),
            born: now,
            task: AtomicWaker::new(),
        }
    }

    pub fn limit_idling(&self, limit: Duration) {
        self.idle_limit.store(limit.as_millis() as u64, Relaxed);
    }

    pub fn may_idle(&self) -> bool {
        self.idle_limit.load(Relaxed) > 0
    }

    /// False: the connection has ended.
    fn rest(&self, now: Instant) -> bool {
        self.idle_since.store((now - self.born).as_millis() as u64, Relaxed);
        self.phase.compare_exchange(BUSY, IDLE, Release, Relaxed).is_ok()
    }

    fn take(&self, now: Instant) -> bool {
        // The task looks at its clock only every few seconds; the app may have closed by what it said.
        self.due() > now && self.phase.compare_exchange(IDLE, BUSY, AcqRel, Relaxed).is_ok()
    }

    /// For the task to end.
    pub fn close(&self) {
        self.phase.store(CLOSED, Release);
        self.task.wake();
    }

    /// The task has ended.
    pub fn end(&self) {
        self.phase.store(CLOSED, Release);
    }

    /// Whether the task is to end. If not, `close` wakes it.
    pub fn poll_closed(&self, cx: &Context<'_>) -> bool {
        self.task.register(cx.waker());
        self.phase.load(Acquire) == CLOSED
    }

    /// Gives up a connection that is due.
    pub fn check(&self, now: Instant) -> Look {
        match self.phase.load(Acquire) {
            BUSY => return Look::Busy,
            IDLE => {}
            _ => return Look::Closed,
        }
        let due = self.due();
        if due > now {
            return Look::Idle(due);
        }
        match self.phase.compare_exchange(IDLE, CLOSED, AcqRel, Relaxed) {
            // Taken meanwhile.
            Err(BUSY) => Look::Busy,
            _ => Look::Closed,
        }
    }

    fn due(&self) -> Instant {
        let millis = self.idle_since.load(Relaxed) + self.idle_limit.load(Relaxed);
        self.born + Duration::from_millis(millis)
    }
}
