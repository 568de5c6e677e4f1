use super::*;
use proptest::prelude::*;

/// The truth: when each unit was admitted.
#[derive(Default)]
struct Log(Vec<(u64, u32)>);

impl Log {
    /// Units in the span that ends now, of `window` milliseconds.
    fn held(&self, now: u64, window: u64) -> u64 {
        let recent = self.0.iter().filter(|(at, _)| at + window > now);
        recent.map(|(_, cost)| u64::from(*cost)).sum()
    }
}

fn quota(limit: u32, window: u64, cost: u32) -> Quota {
    Quota { limit, window, cost }
}

fn take(shard: &mut Shard, key: u128, limit: u32, now: u64) -> bool {
    shard.take(key, &quota(limit, 1000, 1), now).admitted
}

proptest! {
    #[test]
    fn the_error_stays_in_its_bound(
        limit in 1u32..50,
        window in 1u64..2000,
        steps in proptest::collection::vec((prop_oneof![0u64..3, 0u64..200, 0u64..3000], 1u32..4), 1..400),
    ) {
        let mut shard = Shard::default();
        let mut log = Log::default();
        let mut now = 0;
        for (step, cost) in steps {
            now += step;
            let quota = quota(limit, window, cost.min(limit));
            let exact = log.held(now, window);
            let taken = shard.take(1, &quota, now);
            let Counters { elapsed, previous, .. } = taken.counters;
            let (cost, limit) = (u64::from(quota.cost), u64::from(limit));
            if taken.admitted {
                log.0.push((now, quota.cost));
                let excess = u64::from(previous) * elapsed;
                prop_assert!((exact + cost) * window <= limit * window + excess);
                prop_assert!(exact + cost < 2 * limit);
            } else {
                let weight = u64::from(previous) * (window - elapsed);
                prop_assert!((exact + cost) * window + weight > limit * window);
            }
        }
    }

    #[test]
    fn the_first_window_of_a_key_admits_the_limit_and_no_more(
        limit in 1u32..100,
        begin in 0u64..5000,
        offsets in proptest::collection::vec(1u64..1000, 0..300),
    ) {
        let mut shard = Shard::default();
        let mut offsets = offsets;
        offsets.sort_unstable();
        let times = std::iter::once(begin).chain(offsets.iter().map(|offset| begin + offset));
        let asked = times.clone().count();
        let admitted = times.filter(|at| take(&mut shard, 1, limit, *at)).count();
        prop_assert_eq!(admitted, asked.min(limit as usize));
    }

    #[test]
    fn who_waits_as_long_as_told_is_admitted_and_not_a_millisecond_earlier(
        limit in 1u32..20,
        cost in 1u32..20,
        steps in proptest::collection::vec(0u64..700, 1..60),
    ) {
        let quota = quota(limit, 1000, cost.min(limit));
        let mut shard = Shard::default();
        let mut now = 0;
        for step in steps {
            now += step;
            let taken = shard.take(1, &quota, now);
            if !taken.admitted {
                let wait = taken.counters.wait(&quota);
                prop_assert!(wait > 0);
                let stored = shard.windows[&1];
                let after = |wait: u64| Counters {
                    elapsed: now + wait - stored.start,
                    current: stored.current,
                    previous: stored.previous,
                };
                prop_assert!(after(wait).take(&quota).admitted);
                prop_assert!(!after(wait - 1).take(&quota).admitted);
            }
        }
    }
}

#[test]
fn even_traffic_gets_the_limit_give_or_take_one() {
    let mut shard = Shard::default();
    let admitted: Vec<u64> = (0..20_000).filter(|now| take(&mut shard, 1, 100, *now)).collect();
    // The first window is filled at once; what follows it evens out.
    let settled = 5_000..19_000;
    for from in settled.step_by(7) {
        let held = admitted.iter().filter(|at| (from..from + 1000).contains(*at)).count();
        assert!((99..=101).contains(&held), "{held} from {from}");
    }
}

#[test]
fn a_cost_takes_that_much_and_what_is_too_little_is_left() {
    let mut shard = Shard::default();
    let three = quota(10, 1000, 3);
    let taken: Vec<_> = (0..4).map(|_| shard.take(1, &three, 0)).collect();
    assert_eq!(taken.iter().filter(|taken| taken.admitted).count(), 3);
    assert_eq!(taken[3].counters.left(&three), 1);
    assert!(shard.take(1, &quota(10, 1000, 1), 0).admitted);
    assert!(
        !shard.take(2, &quota(2, 1000, 3), 0).admitted,
        "costs more than there ever is"
    );
}

#[test]
fn an_edited_limit_or_window_counts_what_was_taken_before() {
    let mut shard = Shard::default();
    let taken = |shard: &mut Shard, quota: &Quota, now| (0..100).filter(|_| shard.take(1, quota, now).admitted).count();
    assert_eq!(taken(&mut shard, &quota(5, 10_000, 1), 0), 5);
    assert_eq!(taken(&mut shard, &quota(8, 10_000, 1), 10), 3);
    assert_eq!(taken(&mut shard, &quota(4, 10_000, 1), 20), 0);
    assert_eq!(
        taken(&mut shard, &quota(9, 60_000, 1), 15_000),
        1,
        "the longer window remembers"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_is_free_again_when_its_windows_have_passed() {
    let windows = Windows::default();
    let quota = Quota::new(2, Duration::from_secs(60), 1);
    let taken = || (0..5).filter(|_| windows.take(7, &quota).admitted).count();
    assert_eq!(taken(), 2);
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(taken(), 0);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(taken(), 1, "half of the window before still counts");
    tokio::time::advance(Duration::from_secs(120)).await;
    assert_eq!(taken(), 2);
}

#[test]
fn threads_at_once_get_the_limit_together() {
    let windows = Windows::default();
    let quota = Quota::new(1000, Duration::from_secs(3600), 1);
    let admitted: usize = std::thread::scope(|scope| {
        let count = || (0..100).filter(|_| windows.take(7, &quota).admitted).count();
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 1000);
}

#[test]
fn memory_is_bounded_however_many_keys_come() {
    let windows = Windows::default();
    let quota = Quota::new(1, Duration::from_secs(3600), 1);
    for key in 0..(3 * MAX_KEYS as u128) {
        assert!(windows.take(key, &quota).admitted, "a new key is never refused");
    }
    assert!(windows.len() <= MAX_KEYS);
    assert!(windows.len() > MAX_KEYS / 2);
    assert!(Windows::default().0.get().is_none(), "nothing before the first request");
}

#[test]
fn ended_windows_make_room_before_any_other() {
    let mut shard = Shard::default();
    for key in 0..3000 {
        take(&mut shard, key, 5, 0);
    }
    for key in 3000..9000 {
        take(&mut shard, key, 5, 2500);
    }
    let forgotten = (3000..9000).filter(|key| !shard.windows.contains_key(key)).count();
    assert!((0..3000).all(|key| !shard.windows.contains_key(&key)));
    assert!(forgotten <= 6000 - SHARD_KEYS + SHARD_KEYS / 8 + 1);
}

#[test]
fn hopping_from_key_to_key_resets_no_window_that_holds_more() {
    let mut shard = Shard::default();
    let hot: u128 = 1 << 100;
    for _ in 0..5 {
        assert!(take(&mut shard, hot, 5, 0));
    }
    // Four requests with each of ten times the keys that there is room for.
    for key in 0..10 * SHARD_KEYS as u128 {
        for _ in 0..4 {
            take(&mut shard, key, 5, 1);
        }
        assert!(shard.windows.len() <= SHARD_KEYS);
    }
    assert!(!take(&mut shard, hot, 5, 2), "the exhausted window is still known");
}

#[test]
fn a_storm_of_keys_leaves_no_memory_behind() {
    let mut shard = Shard::default();
    for key in 0..SHARD_KEYS as u128 {
        take(&mut shard, key, 5, 0);
    }
    let full = shard.windows.capacity();
    for key in 0..100 {
        take(&mut shard, key, 5, 10_000 + key as u64 * 2500);
    }
    shard.make_room(u64::MAX);
    assert!(shard.windows.is_empty() && shard.windows.capacity() < full / 8);
}
