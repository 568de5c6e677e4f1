//! Limits that replicas count together, with a real redis-server: two of them admit what one would, and a store that is dead,
//! paused, slow or empty costs no request more than it may.
//!
//! What a store costs is measured beside requests that no rule applies to, and is the median of several, since any one of them
//! may find the machine busy. That no request waits a second time is counted instead: the store knows how often it was asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use postern::limits::shared::DEADLINE;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::eventually;
use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, site};
use crate::support::redis::Redis;
use crate::support::wire::{Answer, Wire};

/// What no request may lose to its store.
const BOUND: Duration = Duration::from_millis(100);
const UNAVAILABLE: (u16, &str) = (503, "policy:store_unavailable");
const LIMITED: (u16, &str) = (429, "client:rate_limited");

/// A limit under its own path.
fn limit(name: &str, limit: u32, on_store_failure: &str) -> Value {
    json!({
        "name": name,
        "match": [{"path": {"prefix": format!("/{on_store_failure}").to_lowercase()}}],
        "rateLimit": {"limit": limit, "window": "1h", "scope": "Shared", "onStoreFailure": on_store_failure},
    })
}

fn each(most: u32) -> Value {
    json!([
        limit("local", most, "Local"),
        limit("deny", most, "Deny"),
        limit("allow", most, "Allow")
    ])
}

async fn replica(port: u16, rules: Value) -> Guarded {
    let url = format!("redis://127.0.0.1:{port}");
    Guarded::start_with(Transport::Plain, site(rules), &["--redis-url", &url]).await
}

async fn two_replicas(redis: &Redis, rules: Value) -> [Guarded; 2] {
    [
        replica(redis.port, rules.clone()).await,
        replica(redis.port, rules).await,
    ]
}

async fn errors(guarded: &Guarded) -> f64 {
    guarded
        .front
        .postern
        .metric("postern_ratelimit_store_errors_total", &[])
        .await
}

/// Under a limit of the kind Deny that is not used up.
async fn recovered(guarded: &Guarded) {
    eventually("the store is asked again", async || {
        guarded.get("/deny", "").await.status() == 200
    })
    .await;
}

/// What the store has admitted, by key; without what new connections are tried with.
async fn taken(redis: &Redis) -> BTreeMap<String, u64> {
    let keys = redis.say("KEYS postern:rate:*").await;
    let mut taken = BTreeMap::new();
    for key in keys
        .lines()
        .filter(|line| line.starts_with("postern:") && !line.contains("trial"))
    {
        let value = redis.say(&format!("GET {key}")).await;
        let held = value.lines().nth(1).expect("a window");
        let current = held.split(' ').nth(1).expect("a count").parse().expect("a number");
        taken.insert(key.to_owned(), current);
    }
    taken
}

/// How many sockets the store knows of, under the one key of a rule.
async fn leases(redis: &Redis) -> u64 {
    let keys = redis.say("KEYS postern:sockets:*").await;
    let Some(key) = keys.lines().nth(2) else { return 0 };
    let count = redis.say(&format!("ZCARD {key}")).await;
    let count = count.lines().next().and_then(|line| line.strip_prefix(':'));
    count.expect("a count").parse().expect("a number")
}

/// What such a request takes longer than one that no rule applies to.
async fn cost(guarded: &Guarded, target: &str) -> Duration {
    let begin = Instant::now();
    assert_eq!(guarded.get("/free", "").await.status(), 200);
    let control = begin.elapsed();
    let begin = Instant::now();
    guarded.get(target, "").await;
    begin.elapsed().saturating_sub(control)
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort();
    of[of.len() / 2]
}

fn is(answer: &Answer, (status, code): (u16, &str)) -> bool {
    (answer.status(), answer.head.get("x-postern-error")) == (status, Some(code))
}

/// Repeats a burst until the store has answered all of it in time: where the machine was too busy for that, no count is due.
async fn undisturbed<T>(redis: &Redis, replicas: &[Guarded; 2], burst: impl AsyncFn() -> T) -> T {
    let failed = async || errors(&replicas[0]).await + errors(&replicas[1]).await;
    for _ in 0..20 {
        for replica in replicas {
            recovered(replica).await;
        }
        redis.say("FLUSHALL").await;
        let before = failed().await;
        let outcome = burst().await;
        if failed().await == before {
            return outcome;
        }
    }
    panic!("no round trip within {DEADLINE:?}, twenty times")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_admit_the_limit_together() {
    let redis = Redis::start().await;
    let replicas = two_replicas(
        &redis,
        json!([limit("local", 20, "Local"), limit("deny", 1000, "Deny")]),
    )
    .await;
    let hits = || replicas[0].backend.hits() + replicas[1].backend.hits();
    let burst = async || {
        let before = hits();
        let plain = join_all((0..32).map(|nth| replicas[nth % 2].get("/local", "")));
        let upgrades = join_all((0..32).map(|nth| replicas[nth % 2].front.upgrade(HOST, "/local", "")));
        let (plain, upgrades) = tokio::join!(plain, upgrades);
        let refused = plain.into_iter().filter(|answer| answer.status() != 200);
        let refused: Vec<_> = refused.chain(upgrades.into_iter().filter_map(Result::err)).collect();
        (hits() - before, refused)
    };
    let (admitted, refused) = undisturbed(&redis, &replicas, burst).await;
    assert_eq!((admitted, refused.len()), (20, 64 - 20));
    assert!(
        refused
            .iter()
            .all(|answer| is(answer, LIMITED) && answer.head.has("retry-after"))
    );
    // Another rule's count is its own.
    let told = async |nth: usize| {
        replicas[nth]
            .get("/deny", "")
            .await
            .head
            .get("ratelimit")
            .map(str::to_owned)
    };
    let standings = undisturbed(&redis, &replicas, async || [told(0).await, told(1).await]).await;
    let left = standings.map(|standing| standing.expect("is told").split(';').nth(1).map(str::to_owned));
    assert_eq!(left, [Some("r=999".to_owned()), Some("r=998".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_open_the_maximum_of_sockets_together() {
    let redis = Redis::start().await;
    let most = json!({"name": "most", "connectionLimit": {"max": 6, "scope": "Shared"}});
    let replicas = two_replicas(&redis, json!([most, limit("deny", 1000, "Deny")])).await;
    let upgrade = async |nth: usize| replicas[nth % 2].front.upgrade(HOST, "/", "").await;
    let burst = async || {
        for replica in &replicas {
            eventually("no socket is left", || async {
                replica.front.postern.metric("postern_websockets_open", &[]).await == 0.0
            })
            .await;
        }
        let mut open: [Vec<Wire>; 2] = Default::default();
        for (nth, opened) in join_all((0..32).map(upgrade)).await.into_iter().enumerate() {
            match opened {
                Ok((_, socket)) => open[nth % 2].push(socket),
                Err(refused) => assert!(is(&refused, (429, "client:too_many_connections")), "{refused:?}"),
            }
        }
        open
    };
    let mut open = undisturbed(&redis, &replicas, burst).await;
    assert_eq!(open[0].len() + open[1].len(), 6);
    let (from, to) = if open[0].is_empty() { (1, 0) } else { (0, 1) };
    for _ in 0..open[from].len() {
        open[from].pop();
        let socket = replicas[to].opens("the other replica's has closed").await;
        open[to].push(socket);
    }
    assert_eq!(open[to].len(), 6);
    // Its own six, whether the store answers or not.
    assert!(upgrade(to).await.is_err());
    // Which has none itself; one that opens was not counted in time, and closes.
    eventually("the six are all for the other as well", || async {
        upgrade(from).await.is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_open_while_the_store_is_dead_are_counted_when_it_is_back() {
    let mut redis = Redis::start().await;
    let most = json!([
        {"name": "most", "match": [{"path": {"prefix": "/"}}], "connectionLimit": {"max": 2, "scope": "Shared"}},
        limit("deny", 1000, "Deny"),
    ]);
    let replicas = two_replicas(&redis, most).await;
    redis.kill();
    let mut open = Vec::new();
    for replica in &replicas {
        for _ in 0..2 {
            open.push(replica.front.open(HOST, "/").await);
        }
        assert!(
            replica.front.upgrade(HOST, "/", "").await.is_err(),
            "its own are the maximum"
        );
        assert!(errors(replica).await > 0.0);
    }
    redis.restart().await;
    for replica in &replicas {
        recovered(replica).await;
    }
    eventually("all four are known", || async { leases(&redis).await == 4 }).await;
    drop(open.split_off(2));
    eventually("the first two are all", || async { leases(&redis).await == 2 }).await;
    eventually("one without any goes by them", async || {
        replicas[1].front.upgrade(HOST, "/", "").await.is_err()
    })
    .await;
}

#[tokio::test]
async fn while_the_store_is_dead_each_rule_does_as_it_says() {
    let mut redis = Redis::start().await;
    let guarded = replica(redis.port, each(4)).await;
    guarded.passes("/local", "").await;
    redis.kill();
    // By its own count, of which nothing is used.
    guarded.passes("/local", "").await;
    guarded.passes("/local", "").await;
    guarded.refuses("/local", "", LIMITED.0, LIMITED.1).await;
    for answer in guarded.refuses("/deny", "", UNAVAILABLE.0, UNAVAILABLE.1).await {
        assert!(answer.head.has("retry-after"));
    }
    for _ in 0..5 {
        guarded.passes("/allow", "").await;
    }
    assert!(!guarded.get("/allow", "").await.head.has("ratelimit"));
    assert_eq!(errors(&guarded).await, 6.0 + 2.0 + 11.0);
    assert_eq!(guarded.decisions("deny", "enforce", "failed").await, 2.0);

    redis.restart().await;
    recovered(&guarded).await;
    let failed = errors(&guarded).await;
    // It has been started with nothing in it, and counts anew.
    guarded.passes("/local", "").await;
    guarded.passes("/local", "").await;
    guarded.refuses("/local", "", LIMITED.0, LIMITED.1).await;
    assert_eq!(errors(&guarded).await, failed);
}

#[tokio::test]
async fn a_flushed_store_begins_anew_and_fails_nobody() {
    let redis = Redis::start().await;
    let replicas = two_replicas(&redis, each(4)).await;
    for (one, other) in [(0, 1), (1, 0)] {
        replicas[one].passes("/deny", "").await;
        replicas[other].passes("/deny", "").await;
        for replica in &replicas {
            replica.refuses("/deny", "", LIMITED.0, LIMITED.1).await;
        }
        redis.say("FLUSHALL").await;
        redis.say("SCRIPT FLUSH").await;
    }
    for replica in &replicas {
        assert_eq!(errors(replica).await, 0.0);
    }
}

#[tokio::test]
async fn a_dead_store_is_not_waited_for() {
    let mut redis = Redis::start().await;
    let guarded = replica(redis.port, each(1_000_000)).await;
    redis.kill();
    for target in ["/local", "/deny", "/allow"] {
        let mut costs = Vec::new();
        for _ in 0..20 {
            costs.push(cost(&guarded, target).await);
        }
        // Had each waited its time out, none would cost less.
        assert!(median(costs) < DEADLINE / 2, "{target}");
    }
    assert_eq!(errors(&guarded).await, 60.0);
}

#[tokio::test]
async fn a_paused_store_is_waited_for_once_and_by_nobody_after() {
    const ROUNDS: u64 = 5;
    let redis = Redis::start().await;
    let rules = (0..8).map(|nth| limit(&format!("nth-{nth}"), 1_000_000, "Allow"));
    let rules = rules.chain([limit("deny", 1_000_000, "Deny")]);
    let guarded = replica(redis.port, rules.collect()).await;
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        recovered(&guarded).await;
        redis.say("FLUSHALL").await;
        let failed = errors(&guarded).await;
        redis.pause();
        first.push(cost(&guarded, "/allow").await);
        for _ in 0..20 {
            others.push(cost(&guarded, "/allow").await);
        }
        let answer = guarded.get("/allow", "").await;
        assert_eq!(
            (answer.status(), answer.head.has("ratelimit")),
            (200, false),
            "let through"
        );
        let refused = guarded.get("/deny", "").await;
        assert!(is(&refused, UNAVAILABLE), "{refused:?}");
        assert_eq!(errors(&guarded).await - failed, 8.0 * 22.0 + 1.0, "round {round}");
        redis.resume();
        // What had been sent to it it does now: the first rule's call of the first request, and nothing else.
        let asked: u64 = taken(&redis).await.values().sum();
        assert!(asked <= 1, "asked {asked} times for 176 rules of 22 requests");
    }
    // Eight rules wait no longer than one.
    let first = median(first);
    assert!(first < BOUND, "{first:?}");
    let others = median(others);
    assert!(others < DEADLINE / 2, "{others:?}");
}

#[tokio::test]
async fn a_slow_store_takes_one_deadline_of_a_request_and_not_one_of_each_rule() {
    const REQUESTS: u64 = 20;
    let redis = Redis::start().await;
    let latency = Arc::<AtomicU64>::default();
    let port = slow(redis.port, latency.clone()).await;
    let rules = (0..8).map(|nth| limit(&format!("nth-{nth}"), 1_000_000, "Allow"));
    let rules = rules.chain([limit("deny", 1_000_000, "Deny")]);
    let guarded = replica(port, rules.collect()).await;
    recovered(&guarded).await;
    redis.say("FLUSHALL").await;
    let before = errors(&guarded).await;

    // In time for one call, and not for two.
    latency.store(DEADLINE.as_millis() as u64 * 3 / 5, Relaxed);
    let mut costs = Vec::new();
    for _ in 0..REQUESTS {
        costs.push(cost(&guarded, "/allow").await);
    }
    let all = median(costs);
    assert!(all < BOUND, "{all:?}");
    let asked: u64 = taken(&redis).await.values().sum();
    assert!(asked <= 2 * REQUESTS, "asked {asked} times");
    assert!(asked > 0, "a store that answers in time is asked");
    let failed = errors(&guarded).await - before;
    assert!(failed >= (7 * REQUESTS) as f64, "{failed}");

    // Far too late for any: it goes the way of one that is paused.
    latency.store(DEADLINE.as_millis() as u64 * 10, Relaxed);
    let mut costs = Vec::new();
    for _ in 0..REQUESTS {
        costs.push(cost(&guarded, "/allow").await);
    }
    let all = median(costs);
    assert!(all < DEADLINE / 2, "{all:?}");
    latency.store(0, Relaxed);
    recovered(&guarded).await;
}

#[tokio::test]
async fn without_a_store_a_policy_that_needs_one_lets_nobody_pass() {
    let most = json!({"name": "most", "connectionLimit": {"max": 1, "scope": "Shared"}});
    for rule in [limit("few", 1, "Allow"), most] {
        let guarded = Guarded::start(Transport::Plain, json!([rule])).await;
        for target in ["/", "/allow"] {
            guarded.refuses(target, "", 503, "config:policy_invalid").await;
        }
    }
}

/// The same store, whose every answer comes so many milliseconds later.
async fn slow(store: u16, latency: Arc<AtomicU64>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("is bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let store = TcpStream::connect(("127.0.0.1", store)).await.expect("connects");
            let (mut asking, mut asked) = client.into_split();
            let (mut answering, mut told) = store.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut asking, &mut told).await });
            let (sender, mut answers) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
            let latency = latency.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = answering.read(&mut bytes).await {
                    let due = Instant::now() + Duration::from_millis(latency.load(Relaxed));
                    if sender.send((due, bytes[..count].to_vec())).await.is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(async move {
                while let Some((due, answer)) = answers.recv().await {
                    tokio::time::sleep_until(due.into()).await;
                    if asked.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}
