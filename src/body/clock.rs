//! The clock of one client connection: what it waits for at present, and until when.
//!
//! | Phase     | Entered by                                            | Restarted by                       | Over after                |
//! |-----------|-------------------------------------------------------|------------------------------------|---------------------------|
//! | `Head`    | `new`, `switching`; from `Idle` by `heard`, unblocked | nothing: it bounds a whole head    | `HEAD_TIMEOUT`            |
//! | `Busy`    | `busy`                                                | nothing                            | never; `until` has an end |
//! | `Sending` | `sending`                                             | `heard`, `wrote`                   | `body_idle`; 0: never     |
//! | `Idle`    | `idle`                                                | `wrote`, and `heard` while blocked | `keep_alive`              |
//!
//! `check` is the coarse tick. It says either that the phase has lasted too long, or when to look again: at the phase's end
//! and no later than `pace` from now. In `Busy` it marks the wait of `until` as overdue once its end has passed, and that
//! wait then gives up when its task polls it next.
//!
//! Times are whole milliseconds since the first clock was made, rounded down: a limit is kept to the millisecond, and one
//! that is too large to count saturates to "never".

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::Poll;
use std::time::{Duration, Instant};

/// From a connection's first moment to its first byte, and from a head's first byte to its end.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection's clock is looked at no less often. Limits below it need timers of their own, those above it none: a timer
/// for every request would cost each a tenth of its instructions and a lock that all share.
pub const COARSE: Duration = HEAD_TIMEOUT;

/// Where a connection stands, and since when. Marked without a timer: one coarse timer per connection looks at it.
#[derive(Debug)]
pub struct Clock {
    /// Milliseconds since `epoch`, shifted left by two, with the phase in the low bits: read and written as one.
    mark: AtomicU64,
    /// The longest pause between two movements of a body, in milliseconds; 0: any.
    body_idle: AtomicU64,
    /// Until when the app may take to answer, in milliseconds since `epoch`; 0: for ever.
    busy_until: AtomicU64,
    /// From the end of an answer to the first byte of the next head.
    keep_alive: Duration,
    /// Set by the ticker when `busy_until` has passed.
    overdue: AtomicBool,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of a next request has come.
    Idle = 0,
    /// A head is awaited or on its way.
    Head = 1,
    /// A request is being answered: its own timeouts hold.
    Busy = 2,
    /// An answer's body is on its way: `body_idle` holds.
    Sending = 3,
}

impl Clock {
    /// Begins in `Phase::Head`. `keep_alive` bounds the pause between an answer and the next head.
    pub fn new(keep_alive: Duration) -> Self {
        let clock = Self {
            keep_alive,
            mark: AtomicU64::new(0),
            body_idle: AtomicU64::new(0),
            busy_until: AtomicU64::new(0),
            overdue: AtomicBool::new(false),
        };
        clock.enter(Phase::Head);
        clock
    }

    /// Waits for what this connection's task waits for, without a timer of its own. None: it was not there in time. The end
    /// must be further away than `COARSE`: then one look at least falls before it.
    pub async fn until<F: Future>(&self, end: Instant, wait: F) -> Option<F::Output> {
        let mut wait = pin!(wait);
        self.overdue.store(false, Relaxed);
        self.busy_until.store(since_epoch(end), Relaxed);
        let waited = poll_fn(|cx| match wait.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.overdue.swap(false, Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.busy_until.store(0, Relaxed);
        waited
    }

    /// A request is there.
    pub fn busy(&self) {
        self.enter(Phase::Busy);
    }

    /// An answer's body begins: neither side may pause longer than `idle`.
    pub fn sending(&self, idle: Option<Duration>) {
        self.body_idle.store(idle.map_or(0, millis), Relaxed);
        self.enter(Phase::Sending);
    }

    /// The app has accepted an upgrade: the client's socket must take the 101 as soon as a head must come.
    pub fn switching(&self) {
        self.enter(Phase::Head);
    }

    /// The answer has ended, or was given up.
    pub fn idle(&self) {
        self.enter(Phase::Idle);
    }

    fn enter(&self, phase: Phase) {
        self.mark.store(since_epoch(now()) << 2 | phase as u64, Relaxed);
    }

    /// `write_blocked`: an earlier answer is still on its way.
    pub fn heard(&self, write_blocked: bool) {
        match self.read().0 {
            Phase::Idle if !write_blocked => self.enter(Phase::Head),
            Phase::Idle => self.enter(Phase::Idle),
            Phase::Sending => self.enter(Phase::Sending),
            Phase::Head | Phase::Busy => {}
        }
    }

    /// Bytes have gone out to the client: its pause begins anew while an answer is on its way.
    pub fn wrote(&self) {
        let (phase, _) = self.read();
        if matches!(phase, Phase::Idle | Phase::Sending) {
            self.enter(phase);
        }
    }

    fn read(&self) -> (Phase, u64) {
        let mark = self.mark.load(Relaxed);
        let phase = match mark & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Sending,
        };
        (phase, mark >> 2)
    }

    /// Where the connection stands, and for how long.
    pub fn phase(&self) -> (Phase, Duration) {
        let (phase, since) = self.read();
        (phase, now().saturating_duration_since(after_epoch(since)))
    }

    /// How often to look: the coarser, the cheaper, but a short `keepAliveTimeout` is to mean something.
    pub fn pace(&self) -> Duration {
        COARSE.min(self.keep_alive)
    }

    /// When to look again, or the phase that has lasted too long.
    pub fn check(&self) -> Result<Instant, Phase> {
        let (phase, since) = self.read();
        let limit = match phase {
            Phase::Idle => millis(self.keep_alive),
            Phase::Head => millis(HEAD_TIMEOUT),
            Phase::Busy => return Ok(self.check_answer()),
            Phase::Sending => match self.body_idle.load(Relaxed) {
                0 => return Ok(now() + self.pace()),
                idle => idle,
            },
        };
        let (now, due) = (now(), after_epoch(since.saturating_add(limit)));
        if due <= now {
            Err(phase)
        } else {
            Ok(due.min(now + self.pace()))
        }
    }

    fn check_answer(&self) -> Instant {
        let (now, until) = (now(), self.busy_until.load(Relaxed));
        let due = after_epoch(until);
        if until > 0 && due <= now {
            self.overdue.store(true, Relaxed);
        }
        if until > 0 && due > now {
            due.min(now + self.pace())
        } else {
            now + self.pace()
        }
    }
}

/// tokio's time, so that a clock agrees with the timers beside it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Zero for an instant before the epoch.
fn since_epoch(instant: Instant) -> u64 {
    millis(instant.saturating_duration_since(epoch()))
}

fn after_epoch(since: u64) -> Instant {
    // No overflow: `u64::MAX` milliseconds are less than a hundredth of what an `Instant` holds.
    epoch() + Duration::from_millis(since)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

#[cfg(test)]
mod tests;
