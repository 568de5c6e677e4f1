//! What this machine has for the process: how descriptors are divided, and what happens when memory runs short.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, interval};
use tracing::{info, warn};

use crate::proxy::Proxy;
use crate::runtime::descriptors::{self, Division};
use crate::runtime::memory;

/// How often memory is looked at.
const PACE: Duration = Duration::from_millis(100);
/// Of the limit, in percent: from here on clients that take nothing of their answers are let go.
const SHORT: u64 = 85;
/// From here on nothing new is begun while more is being used.
const FULL: u64 = 95;
/// Clients that are let go per look.
const SHED: usize = 64;
const LOG_AGAIN: Duration = Duration::from_secs(10);

/// Of the limit on descriptors.
pub fn divide(max_connections: Option<usize>) -> anyhow::Result<Division> {
    let limit = descriptors::limit();
    Division::of(limit, max_connections).with_context(|| match max_connections {
        Some(wanted) => {
            format!("maxConnections: {wanted} is more than the limit of {limit} descriptors leaves room for")
        }
        None => format!("the limit of {limit} descriptors is too low"),
    })
}

/// Watches the memory of the process. Never ends.
pub async fn watch_memory(max_memory: Option<u64>, proxy: Arc<Proxy>) -> anyhow::Result<()> {
    let mut level = Level::new(memory::limit(max_memory));
    let (mut ticks, mut logged): (_, Option<Instant>) = (interval(PACE), None);
    loop {
        ticks.tick().await;
        let used = memory::used();
        let (short, full) = level.look(used);
        let shed = if short { proxy.connections.shed_stalled(SHED) } else { 0 };
        let was = proxy.state.is_overloaded.swap(full, Relaxed);
        if (full || shed > 0) && logged.is_none_or(|logged| logged.elapsed() >= LOG_AGAIN) {
            logged = Some(Instant::now());
            warn!(used, limit = level.limit, shed, refusing = full, "memory runs short");
        } else if was && !full {
            info!(used, limit = level.limit, "memory is no longer short");
        }
    }
}

/// How much of the limit is used, and where it goes.
struct Level {
    limit: u64,
    before: u64,
}

impl Level {
    fn new(limit: u64) -> Self {
        Self { limit, before: 0 }
    }

    /// Whether memory is short, and whether nothing new is to be begun. What was freed may stay with the process and serve
    /// again: use that does not grow stops nobody, or what was once high would stop all for good.
    fn look(&mut self, used: u64) -> (bool, bool) {
        let before = std::mem::replace(&mut self.before, used);
        let above = |percent: u64| used / 100 >= self.limit / 100 * percent / 100;
        (above(SHORT), above(FULL) && used > before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_past_the_limit_is_stopped_and_what_stands_still_is_not() {
        let mut level = Level::new(100_000);
        assert_eq!(level.look(80_000), (false, false));
        assert_eq!(level.look(90_000), (true, false));
        assert_eq!(level.look(96_000), (true, true));
        assert_eq!(level.look(96_000), (true, false));
        assert_eq!(level.look(97_000), (true, true));
        assert_eq!(level.look(50_000), (false, false));
    }

    #[test]
    fn without_a_limit_nothing_is_short() {
        assert_eq!(Level::new(u64::MAX).look(1 << 40), (false, false));
    }
}
