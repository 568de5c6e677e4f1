//! Limits that replicas count together, against a real redis-server: exactly as many as there are, and no request slower for
//! a store that is slow, paused, flushed or dead.

use std::collections::HashSet;
use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use postern::limits::shared::{DEADLINE, Full, Lease, MAX_SHARED_KEYS, Shared, Store, Unavailable};
use postern::limits::windows::{Quota, Taken};
use postern::object::ObjectKey;
use postern::policy::by::{By, Keys};
use postern::policy::mode::Mode;
use postern::policy::rule_state::RuleState;
use postern::policy::{OnStoreFailure, RateLimit, Request, Scope};

use crate::support::certs::Authority;
use crate::support::eventually;
use crate::support::redis::Redis;

/// What a request may lose to a store that does not answer.
const BOUND: Duration = Duration::from_millis(100);
/// For what is about numbers, not time: on a busy machine an answer may take long.
const PATIENCE: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

/// One replica's end of it.
struct Replica {
    shared: Arc<Shared>,
    errors: Arc<AtomicU64>,
}

impl Replica {
    /// Not yet connected.
    fn of(redis: &Redis) -> Self {
        Self::at(Store {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: redis.port,
            database: 0,
            credentials: None,
        })
    }

    fn at(store: Store) -> Self {
        let errors = Arc::<AtomicU64>::default();
        let shared = Arc::new(Shared::start(store, errors.clone()));
        Self { shared, errors }
    }

    async fn connected(redis: &Redis) -> Self {
        let replica = Self::of(redis);
        replica.recovered().await;
        replica
    }

    async fn recovered(&self) {
        eventually("the store answers", || async {
            self.shared.connected().await;
            self.take(u128::MAX, &quota(u32::MAX)).await.is_ok()
        })
        .await;
    }

    async fn take(&self, key: u128, quota: &Quota) -> Result<Taken, Unavailable> {
        self.shared.visit_within(PATIENCE).take(key, quota).await
    }

    async fn open(&self, key: u128, max: u32) -> Result<Option<Lease>, Full> {
        self.shared.visit_within(PATIENCE).open(key, max).await
    }

    async fn admits(&self, key: u128, limit: u32) -> bool {
        self.take(key, &quota(limit)).await.expect("the store answers").admitted
    }

    fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }
}

fn quota(limit: u32) -> Quota {
    Quota::new(limit, HOUR, 1)
}

/// The longest of `count` calls at once, less what the machine itself oversleeps meanwhile.
async fn slowest(replica: &Replica, count: usize) -> Duration {
    let idle = tokio::spawn(async {
        let mut worst = Duration::ZERO;
        let begin = Instant::now();
        while begin.elapsed() < DEADLINE * 3 {
            let nap = Instant::now();
            tokio::time::sleep(Duration::from_millis(1)).await;
            worst = worst.max(nap.elapsed());
        }
        worst
    });
    let calls = (0..count).map(|_| {
        let shared = replica.shared.clone();
        tokio::spawn(async move {
            let begin = Instant::now();
            let answer = shared.visit().take(1, &quota(10)).await;
            assert_eq!(answer, Err(Unavailable));
            begin.elapsed()
        })
    });
    let mut slowest = Duration::ZERO;
    for call in calls.collect::<Vec<_>>() {
        slowest = slowest.max(call.await.unwrap());
    }
    slowest.saturating_sub(idle.await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_replicas_under_64_parallel_callers_admit_the_limit_together() {
    let redis = Redis::start().await;
    let replicas = [Replica::connected(&redis).await, Replica::connected(&redis).await];
    let callers = (0..64).map(|nth| {
        let shared = replicas[nth % 2].shared.clone();
        tokio::spawn(async move {
            let mut admitted = 0;
            for _ in 0..10 {
                let taken = shared.visit_within(PATIENCE).take(7, &quota(100)).await;
                admitted += usize::from(taken.unwrap().admitted);
            }
            admitted
        })
    });
    let mut admitted = 0;
    for caller in callers.collect::<Vec<_>>() {
        admitted += caller.await.unwrap();
    }
    assert_eq!(admitted, 100);
    assert!(!replicas[0].admits(7, 100).await && !replicas[1].admits(7, 100).await);
    assert!(replicas[0].admits(8, 100).await, "another key has its own");
    assert!(replicas[1].admits(7, 101).await, "a higher limit goes on from there");
}

#[tokio::test]
async fn the_store_counts_as_a_replica_does() {
    let redis = Redis::start().await;
    let replica = Replica::connected(&redis).await;
    let mut seen = HashSet::new();
    for nth in 0..400_u32 {
        let quota = Quota::new(8, Duration::from_millis(60), 1 + nth % 3);
        let Taken { admitted, counters } = replica.take(1, &quota).await.unwrap();
        let mut before = counters;
        if admitted {
            before.current -= quota.cost;
        }
        assert!(counters.elapsed < quota.window, "{counters:?}");
        assert_eq!(before.take(&quota), Taken { admitted, counters });
        assert!(counters.current <= 8 && counters.previous <= 8, "{counters:?}");
        seen.insert((admitted, before.current > 0, before.previous > 0));
        tokio::time::sleep(Duration::from_millis(u64::from(nth % 7))).await;
    }
    for admitted in [true, false] {
        assert!(seen.contains(&(admitted, true, true)), "{seen:?}");
    }
}

#[tokio::test]
async fn keys_are_hashes_and_expire_when_nothing_is_left_to_remember() {
    let redis = Redis::start().await;
    let replica = Replica::connected(&redis).await;
    redis.say("FLUSHALL").await;
    let quota = Quota::new(5, Duration::from_millis(500), 1);
    assert!(replica.take(0xabc, &quota).await.unwrap().admitted);
    let keys = redis.say("KEYS *").await;
    assert!(keys.starts_with("*1\r\n"), "{keys}");
    assert!(
        keys.contains("postern:rate:{00000000000000000000000000000abc}"),
        "{keys}"
    );
    eventually("the key is gone", || async {
        redis.say("DBSIZE").await.starts_with(":0\r\n")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_make_up_does_not_fill_the_store() {
    let redis = Redis::start().await;
    let replica = Replica::connected(&redis).await;
    redis.say("FLUSHALL").await;
    let who = HeaderName::from_static("x-who");
    let policy = ObjectKey::new("acme", "guard");
    let rule = RateLimit {
        name: "per-who".into(),
        keys: Keys::new(&policy, "per-who", Mode::Enforce, [By::Header(who.clone())]),
        quota: quota(1),
        scope: Scope::Shared,
        on_store_failure: OnStoreFailure::Deny,
    };
    let state = RuleState::default();
    let passes = async |value: usize| {
        let request = Request {
            method: &Method::GET,
            headers: &HeaderMap::from_iter([(who.clone(), HeaderValue::from(value))]),
            authority: &HeaderValue::from_static("a.example"),
            host: "a.example",
            uri: &Uri::from_static("/"),
            client: None,
            trusted: false,
            https: true,
            web_socket: false,
            certificate: None,
            readings: OnceLock::new(),
        };
        let visit = replica.shared.visit_within(PATIENCE);
        rule.take(&request, None, &state, &visit).await.is_ok()
    };
    let values = stream::iter(0..MAX_SHARED_KEYS + 1000);
    let passed = values
        .map(&passes)
        .buffer_unordered(256)
        .filter(|passed| ready(*passed));
    assert_eq!(passed.count().await, MAX_SHARED_KEYS + 1000);
    let keys = redis.say("DBSIZE").await;
    assert!(keys.starts_with(&format!(":{MAX_SHARED_KEYS}\r\n")), "{keys}");
    // The limit holds for what is counted there, and for what is counted here.
    assert!(!passes(0).await && !passes(MAX_SHARED_KEYS + 999).await);
}

#[tokio::test]
async fn a_store_that_was_flushed_is_told_the_scripts_again_and_begins_anew() {
    let redis = Redis::start().await;
    let replica = Replica::connected(&redis).await;
    assert!(replica.admits(1, 2).await && replica.admits(1, 2).await && !replica.admits(1, 2).await);
    redis.say("SCRIPT FLUSH").await;
    assert!(!replica.admits(1, 2).await, "what was counted stays");
    redis.say("FLUSHALL").await;
    assert!(replica.admits(1, 2).await);
    assert_eq!(replica.errors(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_paused_store_costs_no_request_more_than_100_ms_and_goes_on_when_it_does() {
    let redis = Redis::start().await;
    let replica = Replica::connected(&redis).await;
    assert!(replica.admits(9, 2).await);
    redis.pause();
    let slowest_first = slowest(&replica, 64).await;
    assert!(slowest_first < BOUND, "{slowest_first:?}");
    // From then on nobody waits, whatever goes on in the background.
    let begin = Instant::now();
    let mut calls = 0;
    while begin.elapsed() < Duration::from_millis(2500) {
        let call = Instant::now();
        assert!(replica.take(1, &quota(10)).await.is_err());
        assert!(call.elapsed() < PATIENCE / 2, "{:?}", call.elapsed());
        calls += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(replica.errors(), 64 + calls);
    redis.resume();
    replica.recovered().await;
    assert!(
        replica.admits(9, 2).await && !replica.admits(9, 2).await,
        "it has forgotten nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dead_store_costs_nothing_and_one_that_comes_back_is_used() {
    let mut redis = Redis::start().await;
    let replica = Replica::connected(&redis).await;
    redis.kill();
    let first = slowest(&replica, 64).await;
    assert!(first < BOUND, "{first:?}");
    assert_eq!(replica.errors(), 64);
    redis.restart().await;
    replica.recovered().await;
    assert!(replica.admits(1, 1).await && !replica.admits(1, 1).await);
}

#[tokio::test]
async fn a_store_that_is_not_there_yet_is_found_when_it_is() {
    let mut redis = Redis::start().await;
    redis.kill();
    let replica = Replica::of(&redis);
    let begin = Instant::now();
    assert!(replica.take(1, &quota(1)).await.is_err());
    assert!(begin.elapsed() < PATIENCE / 2);
    redis.restart().await;
    replica.recovered().await;
}

#[tokio::test]
async fn no_store_at_all_is_an_error_of_each_call() {
    let errors = Arc::<AtomicU64>::default();
    let shared = Shared::none(errors.clone());
    shared.connected().await;
    assert_eq!(shared.visit().take(1, &quota(1)).await, Err(Unavailable));
    assert!(shared.visit().open(1, 1).await.unwrap().is_none());
    assert_eq!(errors.load(Relaxed), 2);
}

#[tokio::test]
async fn a_key_that_holds_something_else_is_an_error_and_no_count() {
    let redis = Redis::start().await;
    let replica = Replica::connected(&redis).await;
    redis
        .say("LPUSH postern:rate:{00000000000000000000000000000001} x")
        .await;
    assert_eq!(replica.take(1, &quota(1)).await, Err(Unavailable));
    replica.recovered().await;
}

#[tokio::test]
async fn tls_and_a_password_are_spoken_and_read_again_for_a_new_connection() {
    let authority = Authority::new("redis");
    let mut redis = Redis::secured(&authority, "postern", "correct-horse-battery").await;
    let folder = redis.folder.path().to_owned();
    let store = || Store {
        tls: true,
        host: "127.0.0.1".to_owned(),
        port: redis.port,
        database: 0,
        credentials: Some(folder.clone()),
    };
    let replica = Replica::at(store());
    replica.recovered().await;
    assert!(replica.admits(1, 1).await && !replica.admits(1, 1).await);

    let unavailable = async |what: &str, store: Store| {
        let replica = Replica::at(store);
        let connected = tokio::time::timeout(Duration::from_millis(1500), replica.shared.connected()).await;
        assert!(connected.is_err(), "connected with {what}");
    };
    let plain = Store { tls: false, ..store() };
    unavailable("no TLS", plain).await;
    let none = Store {
        credentials: None,
        ..store()
    };
    unavailable("no authority and no password", none).await;
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("ca.crt", &Authority::new("another").pem());
    unavailable("another's authority", store()).await;
    write("ca.crt", &authority.pem());
    write("password", "wrong");
    unavailable("a wrong password", store()).await;

    // The old connection lives on, and a new one reads what is there by then.
    assert!(!replica.admits(1, 1).await);
    write("password", "rotated");
    write(
        "users.acl",
        "user default off\nuser postern on >rotated ~postern:* +@all\n",
    );
    redis.kill();
    redis.restart().await;
    replica.recovered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_replicas_lease_the_maximum_of_sockets_together() {
    let redis = Redis::start().await;
    let replicas = [Replica::connected(&redis).await, Replica::connected(&redis).await];
    let callers = (0..64).map(|nth| {
        let shared = replicas[nth % 2].shared.clone();
        tokio::spawn(async move { shared.visit_within(PATIENCE).open(5, 10).await })
    });
    let mut open = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        open.extend(caller.await.unwrap().ok());
    }
    assert_eq!(open.len(), 10);
    assert!(open.iter().all(Option::is_some), "leased");
    assert!(replicas[0].open(5, 10).await.is_err());

    open.truncate(7);
    let again = async || replicas[1].open(5, 10).await;
    eventually("the closed ones are free", || async { again().await.is_ok() }).await;
    drop(open);
    eventually("the key is gone", || async {
        redis
            .say("ZCARD postern:sockets:{00000000000000000000000000000005}")
            .await
            .starts_with(":0\r\n")
    })
    .await;
}

#[tokio::test]
async fn the_sockets_of_a_dead_replica_count_until_their_leases_end() {
    let redis = Redis::start().await;
    let dead = Replica::connected(&redis).await;
    let alive = Replica::connected(&redis).await;
    let held = dead.open(5, 1).await.unwrap().unwrap();
    drop(dead);
    assert!(matches!(alive.open(5, 1).await, Err(Full)));
    let key = "postern:sockets:{00000000000000000000000000000005}";
    let left = redis.say(&format!("PTTL {key}")).await;
    let left: u64 = left.lines().next().unwrap().trim_start_matches(':').parse().unwrap();
    assert!((1..=30_000).contains(&left), "{left}");
    // As if the time were over.
    let scores = redis.say(&format!("ZRANGE {key} 0 -1")).await;
    let member = scores.lines().nth(2).unwrap();
    redis.say(&format!("ZADD {key} 1 {member}")).await;
    assert!(alive.open(5, 1).await.is_ok());
    drop(held);
}

#[tokio::test]
async fn leases_are_there_again_when_the_store_is_back() {
    let mut redis = Redis::start().await;
    let replica = Replica::connected(&redis).await;
    let other = Replica::connected(&redis).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(replica.open(5, 10).await.unwrap().unwrap());
    }
    redis.kill();
    let meanwhile = replica.open(5, 10).await.unwrap();
    assert!(
        meanwhile.is_some(),
        "each replica goes by its own count while the store is away"
    );
    assert!(replica.errors() > 0);
    redis.restart().await;
    replica.recovered().await;
    other.recovered().await;
    let card = async || {
        redis
            .say("ZCARD postern:sockets:{00000000000000000000000000000005}")
            .await
    };
    eventually("all four are known again", || async {
        card().await.starts_with(":4\r\n")
    })
    .await;
    assert!(other.open(5, 4).await.is_err());
    assert!(other.open(5, 5).await.is_ok());
}
