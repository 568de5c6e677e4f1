//! Work that a tenant or a client can make long: hashes, signatures, large bodies, many conditions. It runs where it holds up no
//! request, and namespaces take turns at it.
//!
//! What takes up to a few milliseconds runs where it is asked for (`in_turn`), while another thread takes over what else was to
//! be done there. What takes longer (`aside`) has threads of its own, with a low priority: the kernel lets those of the data
//! plane go first. Among them a namespace that has used little lately has better ones than one that has used much, so that the
//! first login of one does not stand behind a thousand guesses at another.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use super::turns::Turns;
use super::usage::Usage;

/// Short pieces at once: on half of the cores, and the other half is for those who have nothing to do with them.
static SHORT: LazyLock<Turns> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Turns::new((cores / 2).max(1))
});
static FRESH: LazyLock<Threads> = LazyLock::new(|| Threads::start("work", 4, 10));
static SPENT: LazyLock<Threads> = LazyLock::new(|| Threads::start("work-spent", 2, 19));
static USAGE: LazyLock<Mutex<Usage>> = LazyLock::new(Mutex::default);

/// A piece of some milliseconds at most, in the namespace's turn.
pub async fn in_turn<T>(namespace: &Arc<str>, work: impl FnOnce() -> T) -> T {
    let _turn = SHORT.take(namespace).await;
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // There is no other thread to take over.
        _ => work(),
    }
}

/// A piece that may take a second, in the namespace's turn. It runs to its end even if nobody waits any more. None: it panicked.
pub async fn aside<T: Send + 'static>(namespace: &Arc<str>, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let has_left = USAGE.lock().of(namespace, Instant::now()) < ALLOWANCE;
    let threads = if has_left { &FRESH } else { &SPENT };
    let turn = threads.turns.take(namespace).await;
    let (tell, told) = oneshot::channel();
    let (namespace, here) = (namespace.clone(), Handle::current());
    threads.run(Box::new(move || {
        // The time is that of the runtime which asks.
        let _entered = here.enter();
        let started = Instant::now();
        let done = work();
        USAGE.lock().add(&namespace, started.elapsed(), Instant::now());
        drop(turn);
        // Nobody may wait any more.
        let _ = tell.send(done);
    }));
    told.await.ok()
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads of one priority.
struct Threads {
    turns: Turns,
    jobs: SyncSender<Job>,
}

impl Threads {
    fn start(name: &str, count: usize, niceness: i32) -> Self {
        // A turn for each thread: a job never waits here for more than a moment.
        let (jobs, waiting) = sync_channel::<Job>(2 * count);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..count {
            let waiting = waiting.clone();
            let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
                // Linux: that of this thread alone. Where it fails, all threads are equal.
                let _ = rustix::process::setpriority_process(None, niceness);
                serve(&waiting);
            });
            if let Err(error) = started {
                tracing::error!(%error, "cannot start a thread");
            }
        }
        let turns = Turns::with_share(count, 1);
        Self { turns, jobs }
    }

    fn run(&self, job: Job) {
        // Fails only without any thread: the job is dropped then, which its caller hears.
        let _ = self.jobs.send(job);
    }
}

fn serve(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let next = waiting.lock().recv();
        let Ok(job) = next else { return };
        // The panic hook has told of it; the thread is needed by others.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

/// In seconds: a namespace that has used more lately is behind the others.
const ALLOWANCE: f64 = 0.5;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_is_done_elsewhere_and_a_panic_costs_itself() {
        let here = thread::current().id();
        let namespace = Arc::from("work-once");
        assert_ne!(aside(&namespace, || thread::current().id()).await, Some(here));
        for _ in 0..8 {
            assert_eq!(aside(&namespace, || panic!("broken")).await, None::<()>);
        }
        assert_eq!(aside(&namespace, || 7).await, Some(7));
    }

    /// Each of many namespaces has used up what it may and goes on; another has not.
    #[tokio::test]
    async fn who_has_used_little_does_not_stand_behind_those_who_have_used_much() {
        let names: Vec<Arc<str>> = (0..10).map(|nth| format!("work-hostile-{nth}").into()).collect();
        for name in &names {
            USAGE.lock().add(name, Duration::from_secs(20), Instant::now());
        }
        let (held, release) = (Arc::new(Barrier::new(3)), Arc::new(Barrier::new(3)));
        let busy: Vec<_> = names
            .iter()
            .map(|name| {
                let (name, held, release) = (name.clone(), held.clone(), release.clone());
                tokio::spawn(async move {
                    aside(&name, move || {
                        held.wait();
                        release.wait();
                    })
                    .await
                })
            })
            .collect();
        let first = held.clone();
        tokio::task::spawn_blocking(move || first.wait())
            .await
            .expect("two of them run");
        let quiet = aside(&Arc::from("work-quiet"), || "at once").await;
        assert_eq!(quiet, Some("at once"));
        let waiting = tokio::task::spawn_blocking(move || {
            release.wait();
            // The others come in pairs as well.
            for _ in 0..4 {
                held.wait();
                release.wait();
            }
        });
        for one in busy {
            assert_eq!(one.await.expect("ends"), Some(()));
        }
        waiting.await.expect("ends");
    }
}
