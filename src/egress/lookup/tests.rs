use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use futures_util::future::{BoxFuture, join_all, pending};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{advance, timeout};

use super::*;

/// A resolver that answers when it is told to.
#[derive(Clone, Default)]
struct Resolver {
    begun: Arc<AtomicUsize>,
    answer: Arc<Notify>,
}

impl Resolver {
    fn ask(&self) -> impl FnOnce(Box<str>) -> BoxFuture<'static, Addresses> + use<> {
        let Self { begun, answer } = self.clone();
        move |_name| {
            Box::pin(async move {
                begun.fetch_add(1, SeqCst);
                answer.notified().await;
                address()
            })
        }
    }

    async fn begins(&self, count: usize) {
        while self.begun.load(SeqCst) < count {
            yield_now().await;
        }
    }

    fn begun(&self) -> usize {
        self.begun.load(SeqCst)
    }
}

fn address() -> Addresses {
    Arc::from([SocketAddr::from(([192, 0, 2, 1], 0))])
}

fn of(namespace: &str, threads: &Turns) -> Lookups {
    Lookups::new(namespace.into(), threads.clone())
}

fn lookups() -> Lookups {
    of("acme", &threads())
}

async fn settled() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// Names that take a thread each and never give it back.
async fn hang(lookups: &Lookups, count: usize) {
    for number in 0..count {
        let name = format!("{number}.example");
        let asking = lookups.find_by(&name, |_| pending());
        assert!(futures_util::poll!(Box::pin(asking)).is_pending());
    }
    settled().await;
}

async fn answers_at_once(lookups: &Lookups, name: &str) -> bool {
    let found = lookups.find_by(name, |_| async { address() });
    let found = timeout(Duration::from_millis(1), found).await;
    found.is_ok_and(|found| found.len() == 1)
}

#[tokio::test(start_paused = true)]
async fn a_name_is_looked_up_once_for_all_who_ask_until_its_answer_is_old() {
    let (lookups, resolver) = (lookups(), Resolver::default());
    for round in 1..=2 {
        let answered = async {
            resolver.begins(round).await;
            resolver.answer.notify_one();
        };
        let asking = join_all((0..1000).map(|_| lookups.find_by("gate.example", resolver.ask())));
        let (found, ()) = tokio::join!(asking, answered);
        assert!(found.iter().all(|found| found.len() == 1));
        advance(REMEMBERED - Duration::from_millis(1)).await;
        assert_eq!(lookups.find_by("gate.example", resolver.ask()).await.len(), 1);
        assert_eq!(resolver.begun(), round);
        advance(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_leads_nowhere_is_not_asked_for_again_at_once() {
    let lookups = lookups();
    let nowhere = |_name| async { Addresses::default() };
    assert!(lookups.find_by("gate.example", nowhere).await.is_empty());
    assert!(!answers_at_once(&lookups, "gate.example").await);
    advance(REMEMBERED).await;
    assert!(answers_at_once(&lookups, "gate.example").await);
}

#[tokio::test]
async fn who_does_not_wait_leaves_no_second_lookup_behind() {
    let (lookups, resolver) = (lookups(), Resolver::default());
    for _ in 0..100 {
        let mut asking = Box::pin(lookups.find_by("gate.example", resolver.ask()));
        assert!(futures_util::poll!(&mut asking).is_pending());
        yield_now().await;
    }
    assert_eq!(resolver.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn names_of_one_namespace_that_never_answer_keep_no_other_waiting() {
    let threads = threads();
    let hostile: Vec<_> = (0..10)
        .map(|number| of(&format!("hostile-{number}"), &threads))
        .collect();
    for hostile in &hostile {
        hang(hostile, 64).await;
    }
    let quiet = of("quiet", &threads);
    assert!(answers_at_once(&quiet, "gate.example").await);
    assert!(
        answers_at_once(&quiet, "0.example").await,
        "a name is each namespace's own"
    );
    assert!(!answers_at_once(&hostile[0], "gate.example").await, "it has its share");
    advance(Duration::from_secs(3600)).await;
    assert!(answers_at_once(&quiet, "later.example").await);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_has_no_more_threads_than_its_share_though_nobody_waits_for_them() {
    let (lookups, resolver) = (lookups(), Resolver::default());
    for number in 0..64 {
        let name = format!("{number}.example");
        let asking = lookups.find_by(&name, resolver.ask());
        assert!(timeout(Duration::from_millis(1), asking).await.is_err());
    }
    advance(Duration::from_secs(60)).await;
    settled().await;
    assert_eq!(resolver.begun(), SHARE);
    // A thread that ends is the next name's.
    resolver.answer.notify_one();
    settled().await;
    assert_eq!(resolver.begun(), SHARE + 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_hangs_is_waited_for_once_and_answers_when_it_does_at_last() {
    let (lookups, resolver) = (lookups(), Resolver::default());
    let since = Instant::now();
    assert!(lookups.find_by("gate.example", resolver.ask()).await.is_empty());
    assert_eq!(since.elapsed(), PATIENCE);
    let since = Instant::now();
    assert!(lookups.find_by("gate.example", resolver.ask()).await.is_empty());
    assert_eq!(since.elapsed(), Duration::ZERO);
    resolver.answer.notify_one();
    settled().await;
    assert_eq!(lookups.find_by("gate.example", resolver.ask()).await, address());
    assert_eq!(resolver.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn names_are_bounded_and_old_answers_make_room() {
    let lookups = lookups();
    for number in 0..MAX_NAMES {
        assert!(answers_at_once(&lookups, &format!("{number}.example")).await);
    }
    assert!(!answers_at_once(&lookups, "more.example").await);
    assert_eq!(lookups.0.names.lock().len(), MAX_NAMES);
    advance(REMEMBERED).await;
    assert!(answers_at_once(&lookups, "more.example").await);
    assert_eq!(lookups.0.names.lock().len(), 1);
}

#[tokio::test]
async fn a_lookup_that_panics_leads_nowhere_and_gives_its_thread_back() {
    let lookups = lookups();
    for number in 0..2 * SHARE {
        let broken = |_name| async { panic!("broken") };
        assert!(lookups.find_by(&format!("{number}.example"), broken).await.is_empty());
    }
    assert!(answers_at_once(&lookups, "gate.example").await);
}

#[tokio::test]
async fn the_system_knows_localhost_and_addresses() {
    let lookups = lookups();
    for name in ["localhost", "127.0.0.1", "::1"] {
        let found = lookups.find(name).await;
        assert!(
            !found.is_empty() && found.iter().all(|found| found.ip().is_loopback()),
            "{name}"
        );
    }
    assert!(lookups.find("nowhere.invalid").await.is_empty());
}

#[tokio::test]
async fn an_address_needs_no_thread() {
    let lookups = lookups();
    hang(&lookups, SHARE).await;
    assert_eq!(lookups.find("192.0.2.1").await, address());
}
