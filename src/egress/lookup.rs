//! The addresses of names, as one namespace asks for them. The system's resolver takes a thread until it has an answer, which
//! is long where a name's servers give none, and nothing can take the thread back before. So a namespace has a share of these
//! threads, a name takes one at a time however many ask, who asks waits for a bounded time, and every answer, none
//! included, is remembered for a moment.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::runtime::turns::Turns;

/// The names that one namespace asks for, shared by all clones.
#[derive(Clone, Debug)]
pub struct Lookups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    namespace: Arc<str>,
    threads: Turns,
    names: Mutex<HashMap<Box<str>, Name>>,
}

#[derive(Clone, Debug)]
enum Name {
    /// Since then, in line or on a thread.
    Asked(Instant, watch::Receiver<Option<Addresses>>),
    /// Until then.
    Known(Instant, Addresses),
}

/// Without ports. Empty: the name leads nowhere.
type Addresses = Arc<[SocketAddr]>;

/// Threads that look names up, in all namespaces that go by the same `threads`. Well below the 512 that a runtime may have,
/// of which passwords and files need some.
const THREADS: usize = 128;
/// Those that one namespace may have: 32 namespaces whose names all hang are needed to keep another waiting.
const SHARE: usize = 4;
/// The longest that anybody waits for a name. It leaves a moment to connect.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long an answer serves. Short, for addresses change; long enough that a name which fails takes no thread for each
/// request.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Names of one namespace that are asked for or remembered.
const MAX_NAMES: usize = 256;

/// The threads of all namespaces, for `Lookups::new`.
pub fn threads() -> Turns {
    Turns::with_share(THREADS, SHARE)
}

impl Lookups {
    /// Nothing is known yet.
    pub fn new(namespace: Arc<str>, threads: Turns) -> Self {
        Self(Arc::new(Shared {
            namespace,
            threads,
            names: Mutex::default(),
        }))
    }

    /// Empty: the name leads nowhere, or nobody knows in time.
    pub async fn find(&self, name: &str) -> Addresses {
        match name.parse::<IpAddr>() {
            Ok(address) => Arc::new([SocketAddr::new(address, 0)]),
            Err(_) => self.find_by(name, resolve).await,
        }
    }

    async fn find_by<F>(&self, name: &str, resolve: impl FnOnce(Box<str>) -> F) -> Addresses
    where
        F: Future<Output = Addresses> + Send + 'static,
    {
        match self.ask(name, resolve) {
            Some(Name::Known(_, found)) => found,
            Some(Name::Asked(since, mut found)) => {
                // Of a name that has hung for long nobody waits any more.
                match timeout_at(since + PATIENCE, found.wait_for(Option::is_some)).await {
                    Ok(Ok(found)) => found.clone().unwrap_or_default(),
                    Ok(Err(_)) | Err(_) => Arc::default(),
                }
            }
            None => Arc::default(),
        }
    }

    /// None: there is no room for another name.
    fn ask<F>(&self, name: &str, resolve: impl FnOnce(Box<str>) -> F) -> Option<Name>
    where
        F: Future<Output = Addresses> + Send + 'static,
    {
        let now = Instant::now();
        let mut names = self.0.names.lock();
        if let Some(known) = names.get(name).filter(|name| name.is_of_use(now)) {
            return Some(known.clone());
        }
        if names.len() >= MAX_NAMES {
            names.retain(|_, name| name.is_of_use(now));
        }
        if names.len() >= MAX_NAMES {
            return None;
        }
        let (tell, found) = watch::channel(None);
        let asked = Name::Asked(now, found);
        names.insert(name.into(), asked.clone());
        drop(names);
        let (shared, name, resolved) = (self.0.clone(), Box::from(name), resolve(name.into()));
        // A task of its own: the first caller may be gone long before a thread is free.
        tokio::spawn(async move {
            let turn = shared.threads.take(&shared.namespace).await;
            // Another, so that one that panics has led nowhere.
            let found = tokio::spawn(resolved).await.unwrap_or_default();
            drop(turn);
            let known = Name::Known(Instant::now() + REMEMBERED, found.clone());
            shared.names.lock().insert(name, known);
            tell.send_replace(Some(found));
        });
        Some(asked)
    }
}

impl Name {
    fn is_of_use(&self, now: Instant) -> bool {
        match self {
            Self::Asked(..) => true,
            Self::Known(until, _) => now < *until,
        }
    }
}

async fn resolve(name: Box<str>) -> Addresses {
    match lookup_host((&*name, 0)).await {
        Ok(found) => found.collect(),
        Err(_) => Arc::default(),
    }
}

#[cfg(test)]
mod tests;
