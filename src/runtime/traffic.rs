//! Counts of one Deployment's traffic as plain atomics: cheap to bump, read by the metrics at scrape time.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use http::StatusCode;
use strum::{IntoStaticStr, VariantArray};

use crate::reason::Reason;

/// A new one counts from zero; it goes with its Deployment, and so do its series.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Answers of the app, by the status' class (1xx first).
    pub answered: [AtomicU64; 5],
    /// Answers of Postern, by reason.
    pub refused: Refusals,
    /// Requests whose client left before any answer.
    pub abandoned: AtomicU64,
    /// From the head of a request to the end of its answer, an answer of Postern included; without sockets.
    pub duration: Histogram,
    /// By how each attempt ended.
    pub dials: [AtomicU64; DialResult::VARIANTS.len()],
    /// Connections to endpoints that carry a request; without sockets.
    pub connections_active: AtomicI64,
    /// Connections to endpoints that wait for the next request.
    pub connections_idle: AtomicI64,
    /// Open now.
    pub sockets_open: AtomicI64,
    /// Ever opened.
    pub sockets_opened: AtomicU64,
    /// Ever closed, by who ended them first.
    pub sockets_closed: [AtomicU64; ClosedBy::VARIANTS.len()],
    /// From opening to close.
    pub socket_duration: Histogram,
    /// Bytes from clients, in all sockets.
    pub socket_bytes_to_app: AtomicU64,
    /// Bytes from apps, in all sockets.
    pub socket_bytes_to_client: AtomicU64,
}

/// A counter per reason.
#[derive(Debug)]
pub struct Refusals([AtomicU64; Reason::VARIANTS.len()]);

/// How one attempt to reach an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DialResult {
    /// A connection stands.
    Connected,
    /// The endpoint answered with a reset.
    Refused,
    /// Nothing was answered in time.
    TimedOut,
    /// No route leads to the address.
    Unroutable,
    /// Our own lack of descriptors or memory.
    NoDescriptors,
    /// Our own lack of ephemeral ports toward this address, or of any address of its family.
    NoPorts,
    /// Connected, but not to an app that TLS can be spoken with.
    TlsFailed,
    /// Anything else that the system says.
    Failed,
}

/// Who ended a socket first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ClosedBy {
    /// The app.
    App,
    /// The client.
    Client,
    /// Postern: by a limit of its own, a deletion or its end.
    Postern,
}

/// Seconds in fixed buckets, without a lock.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

/// One list for requests (ms to minutes) and sockets (seconds to days): powers of about four.
pub const BOUNDS: [f64; 14] = [
    0.001, 0.004, 0.016, 0.064, 0.25, 1.0, 4.0, 16.0, 60.0, 300.0, 1_200.0, 4_800.0, 21_600.0, 86_400.0,
];

impl Traffic {
    /// An answer with a status outside of 100 to 599 counts in the nearest class.
    pub fn count_answer(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.answered[class].fetch_add(1, Relaxed);
        self.duration.observe(took);
    }

    /// An answer that is Postern's own.
    pub fn count_refusal(&self, reason: Reason, took: Duration) {
        self.refused.count(reason);
        self.duration.observe(took);
    }
}

impl Refusals {
    /// One more.
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Relaxed);
    }

    /// Since the Deployment came.
    pub fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize].load(Relaxed)
    }
}

// Not derived: the standard library does so for short arrays alone.
impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl DialResult {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        self.into()
    }
}

impl ClosedBy {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        self.into()
    }
}

impl Histogram {
    /// Counts in the first bucket whose bound is not exceeded.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS.len());
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(took.as_micros() as u64, Relaxed);
    }

    /// Upper bound and count of each bucket (not cumulative), and the sum in seconds.
    pub fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        let buckets = bounds
            .zip(self.counts.iter().map(|count| count.load(Relaxed)))
            .collect();
        (buckets, self.sum_micros.load(Relaxed) as f64 / 1e6)
    }
}
