//! The addresses of names. The system's resolver takes a thread for as long as it takes, which is long where a name's servers
//! do not answer; so each name is looked up once at a time, however many ask, and not too many names are. Remembers nothing.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::net::lookup_host;
use tokio::sync::{Semaphore, watch};

/// Lookups that are under way, shared by all clones.
#[derive(Clone, Debug)]
pub struct Lookups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    running: Mutex<HashMap<Box<str>, watch::Receiver<Found>>>,
    at_once: Semaphore,
}

/// Without ports. None: not yet.
type Found = Option<Arc<[SocketAddr]>>;

/// Ends with the lookup, however that ends.
struct Running {
    shared: Arc<Shared>,
    name: Box<str>,
}

/// Well below the threads that may block, of which passwords and files need some.
const MAX_AT_ONCE: usize = 64;

impl Lookups {
    /// Empty: it leads nowhere. To be bounded by the caller.
    pub async fn find(&self, name: &str) -> Arc<[SocketAddr]> {
        self.find_by(name, resolve).await
    }

    async fn find_by<F>(&self, name: &str, resolve: impl FnOnce(Box<str>) -> F) -> Arc<[SocketAddr]>
    where
        F: Future<Output = Arc<[SocketAddr]>> + Send + 'static,
    {
        let mut found = self.begun(name, resolve);
        match found.wait_for(Option::is_some).await {
            Ok(found) => found.clone().unwrap_or_default(),
            Err(_closed) => Arc::default(),
        }
    }

    fn begun<F>(&self, name: &str, resolve: impl FnOnce(Box<str>) -> F) -> watch::Receiver<Found>
    where
        F: Future<Output = Arc<[SocketAddr]>> + Send + 'static,
    {
        let mut running = self.0.running();
        if let Some(found) = running.get(name) {
            return found.clone();
        }
        let (tell, found) = watch::channel(None);
        running.insert(name.into(), found.clone());
        drop(running);
        let running = Running {
            shared: self.0.clone(),
            name: name.into(),
        };
        let resolved = resolve(name.into());
        // A task of its own: the first caller may be gone long before a thread is free.
        tokio::spawn(async move {
            // Never closed.
            let Ok(_permit) = running.shared.at_once.acquire().await else {
                return;
            };
            tell.send_replace(Some(resolved.await));
        });
        found
    }
}

async fn resolve(name: Box<str>) -> Arc<[SocketAddr]> {
    match lookup_host((&*name, 0)).await {
        Ok(found) => found.collect(),
        Err(_) => Arc::default(),
    }
}

impl Default for Lookups {
    fn default() -> Self {
        Self(Arc::new(Shared {
            running: Mutex::default(),
            at_once: Semaphore::new(MAX_AT_ONCE),
        }))
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashMap<Box<str>, watch::Receiver<Found>>> {
        self.running.lock()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.running().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;

    use futures_util::future::join_all;
    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;

    /// A resolver that answers when it is told to.
    #[derive(Clone, Default)]
    struct Resolver {
        begun: Arc<AtomicUsize>,
        answer: Arc<Notify>,
    }

    impl Resolver {
        fn ask(&self) -> impl FnOnce(Box<str>) -> futures_util::future::BoxFuture<'static, Arc<[SocketAddr]>> + use<> {
            let Self { begun, answer } = self.clone();
            move |_name| {
                Box::pin(async move {
                    begun.fetch_add(1, SeqCst);
                    answer.notified().await;
                    Arc::from([SocketAddr::from(([192, 0, 2, 1], 0))])
                })
            }
        }

        async fn begins(&self, count: usize) {
            while self.begun.load(SeqCst) < count {
                yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_for_all_who_ask_together_and_again_for_who_asks_later() {
        let (lookups, resolver) = (Lookups::default(), Resolver::default());
        for round in 1..=2 {
            let answered = async {
                resolver.begins(round).await;
                resolver.answer.notify_one();
            };
            let asking = join_all((0..1000).map(|_| lookups.find_by("gate.example", resolver.ask())));
            let (found, ()) = tokio::join!(asking, answered);
            assert!(found.iter().all(|found| found.len() == 1));
            assert_eq!(resolver.begun.load(SeqCst), round);
            while !lookups.0.running().is_empty() {
                yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn who_does_not_wait_leaves_no_second_lookup_behind() {
        let (lookups, resolver) = (Lookups::default(), Resolver::default());
        for _ in 0..100 {
            let mut asking = Box::pin(lookups.find_by("gate.example", resolver.ask()));
            assert!(futures_util::poll!(&mut asking).is_pending());
            yield_now().await;
        }
        assert_eq!(resolver.begun.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn no_more_names_are_looked_up_at_once_than_there_is_room_for() {
        let (lookups, resolver) = (Lookups::default(), Resolver::default());
        let names: Vec<_> = (0..2 * MAX_AT_ONCE).map(|number| format!("{number}.example")).collect();
        let asking = join_all(names.iter().map(|name| lookups.find_by(name, resolver.ask())));
        let answered = async {
            resolver.begins(MAX_AT_ONCE).await;
            for answered in 1..=names.len() {
                for _ in 0..10 {
                    yield_now().await;
                }
                let begun = resolver.begun.load(SeqCst);
                assert!(begun < MAX_AT_ONCE + answered, "{begun} with {answered} to be answered");
                resolver.answer.notify_one();
            }
        };
        let (found, ()) = tokio::join!(asking, answered);
        assert!(found.iter().all(|found| found.len() == 1));
        assert_eq!(resolver.begun.load(SeqCst), names.len());
    }

    #[tokio::test]
    async fn a_lookup_that_panics_leads_nowhere_and_is_forgotten() {
        let lookups = Lookups::default();
        let broken = |_name| async { panic!("broken") };
        assert!(lookups.find_by("gate.example", broken).await.is_empty());
        while !lookups.0.running().is_empty() {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_system_knows_localhost_and_addresses() {
        let lookups = Lookups::default();
        for name in ["localhost", "127.0.0.1", "::1"] {
            let found = lookups.find(name).await;
            assert!(
                !found.is_empty() && found.iter().all(|found| found.ip().is_loopback()),
                "{name}"
            );
        }
        assert!(lookups.find("nowhere.invalid").await.is_empty());
    }
}
