//! What the writer knows of one object, and how long its knowledge holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::conditions::Difference;
use super::update::Status;
use crate::compile::report::Report;

/// How long what we wrote is believed: the watch may lag behind.
pub const SETTLE: Duration = Duration::from_secs(30);
/// How soon counts are written again: they only follow what happens anyway.
pub const COUNTS: Duration = Duration::from_secs(10);

/// The order of writes: conditions before counts, and first come, first served.
pub type Place = (Difference, u64);

/// What is known of one object.
pub struct Tracked {
    pub report: Arc<Report>,
    pub observed: Option<Status>,
    /// What we wrote last, and when: until it has come back by the watch, `observed` may be older.
    pub written: Option<(Status, Instant)>,
    /// How many writes have failed since one succeeded.
    pub failures: u32,
    /// Not before this time: after a failure.
    pub rest: Option<Instant>,
    pub in_flight: bool,
    pub queued: Option<Place>,
    /// The timer for when a certificate's expiry comes near, or comes.
    pub expiry: Option<Instant>,
}

impl Tracked {
    /// Nothing has been written yet.
    pub fn new(report: Arc<Report>, observed: Option<Status>) -> Self {
        Self {
            report,
            observed,
            written: None,
            failures: 0,
            rest: None,
            in_flight: false,
            queued: None,
            expiry: None,
        }
    }

    /// Another object of the same name begins anew, but for what is under way.
    pub fn update(&mut self, report: Arc<Report>, observed: Option<Status>) {
        if self.report.uid == report.uid {
            self.report = report;
            self.observed = observed;
            return;
        }
        *self = Self {
            in_flight: self.in_flight,
            queued: self.queued,
            expiry: self.expiry,
            ..Self::new(report, observed)
        };
    }

    /// The status that stands on the object as far as we know, and until when that rests on our word alone.
    pub fn before(&self) -> (Option<&Status>, Option<Instant>) {
        match &self.written {
            Some((written, at)) => (Some(written), Some(*at + SETTLE)),
            None => (self.observed.as_ref(), None),
        }
    }
}
