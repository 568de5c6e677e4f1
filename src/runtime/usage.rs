//! How much time each namespace has used lately of what all share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shrink::shrink;

/// In seconds, as of the last use. Who has used nothing lately is not here.
#[derive(Debug, Default)]
pub struct Usage(HashMap<Arc<str>, (f64, Instant)>);

/// How much of what was used is forgotten in a second.
const FORGOTTEN: f64 = 1.0 / 30.0;

impl Usage {
    /// Seconds, less what is forgotten.
    pub fn of(&self, namespace: &Arc<str>, now: Instant) -> f64 {
        self.0
            .get(namespace)
            .map_or(0.0, |(used, since)| left_of(*used, *since, now))
    }

    /// More was used.
    pub fn add(&mut self, namespace: &Arc<str>, time: Duration, now: Instant) {
        let used = self.of(namespace, now) + time.as_secs_f64();
        self.0.retain(|_, (used, since)| left_of(*used, *since, now) > 0.0);
        self.0.insert(namespace.clone(), (used, now));
        shrink(&mut self.0);
    }
}

fn left_of(used: f64, since: Instant, now: Instant) -> f64 {
    let passed = now.saturating_duration_since(since).as_secs_f64();
    (used - passed * FORGOTTEN).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_forgotten() {
        let (mut usage, now, name) = (Usage::default(), Instant::now(), Arc::from("a"));
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(usage.of(&name, now), 0.0);
        usage.add(&name, Duration::from_secs(1), now);
        usage.add(&name, Duration::from_secs(1), later(15));
        assert!((1.4..1.6).contains(&usage.of(&name, later(15))));
        assert_eq!(usage.of(&name, later(61)), 0.0);
        usage.add(&Arc::from("b"), Duration::from_secs(1), later(61));
        assert_eq!(usage.0.len(), 1, "nothing is kept of who has used nothing lately");
    }
}
