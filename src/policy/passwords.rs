//! Which passwords were lately verified, and with what result: to hash one is slow by design, and clients show theirs with every
//! request. Holds no password and no hash of one that could be tried elsewhere: all is keyed by a secret of this process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::SystemRandom;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::runtime::work;

/// The passwords that one rule has verified. Allocated at the first use.
#[derive(Default)]
pub struct Passwords(OnceLock<Arc<Shared>>);

struct Shared {
    /// None, and nothing is remembered, where the system had no randomness.
    key: Option<hmac::Key>,
    known: Mutex<HashMap<[u8; 32], Known>>,
    /// A rule hashes one at a time, so that a flood of guesses at it leaves room for other rules; and requests that come
    /// together with one password wait for one result.
    turn: Arc<Semaphore>,
}

/// None: of something that is not to be remembered.
#[derive(Clone, Copy)]
pub struct Tag(Option<[u8; 32]>);

#[derive(Clone, Copy)]
struct Known {
    holds: bool,
    until: Instant,
}

const MAX_KNOWN: usize = 1024;
const HOLDS_FOR: Duration = Duration::from_secs(600);
const FAILS_FOR: Duration = Duration::from_secs(10);

impl Passwords {
    /// For all that a verification goes by.
    pub fn tag(&self, parts: &[&[u8]]) -> Tag {
        let tag = self.shared().key.as_ref().and_then(|key| {
            let mut context = hmac::Context::with_key(key);
            for part in parts {
                context.update(&part.len().to_be_bytes());
                context.update(part);
            }
            context.sign().as_ref().try_into().ok()
        });
        Tag(tag)
    }

    /// What lately came of the same.
    pub fn recall(&self, tag: Tag) -> Option<bool> {
        self.shared().recall(tag)
    }

    /// What `hash` returns, or did for the same tag lately. It runs on a thread that may block, to its end, even if nobody
    /// waits any more; for how long to wait is for the caller to say. None: it panicked.
    pub async fn verify(
        &self,
        namespace: &Arc<str>,
        tag: Tag,
        hash: impl FnOnce() -> bool + Send + 'static,
    ) -> Option<bool> {
        let shared = self.shared().clone();
        if let Some(holds) = shared.recall(tag) {
            return Some(holds);
        }
        // Never closed.
        let turn = shared.turn.clone().acquire_owned().await.ok()?;
        if let Some(holds) = shared.recall(tag) {
            return Some(holds);
        }
        let hashing = work::aside(namespace, move || {
            let started = Instant::now();
            let holds = hash();
            tracing::debug!(took = ?started.elapsed(), "hashed a password");
            shared.remember(tag, holds);
            drop(turn);
            holds
        });
        hashing.await
    }

    fn shared(&self) -> &Arc<Shared> {
        self.0.get_or_init(Default::default)
    }
}

impl Shared {
    fn recall(&self, tag: Tag) -> Option<bool> {
        let known = self.known.lock();
        let known = known.get(&tag.0?).filter(|known| Instant::now() < known.until);
        known.map(|known| known.holds)
    }

    fn remember(&self, tag: Tag, holds: bool) {
        let Some(tag) = tag.0 else {
            return;
        };
        let now = Instant::now();
        let until = now + if holds { HOLDS_FOR } else { FAILS_FOR };
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.retain(|_, known| now < known.until);
        }
        if known.len() >= MAX_KNOWN {
            // Guesses go first: they are not to push out who is known.
            let first = known.iter().min_by_key(|(_, known)| (known.holds, known.until));
            if let Some(tag) = first.map(|(tag, _)| *tag) {
                known.remove(&tag);
            }
        }
        known.insert(tag, Known { holds, until });
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            key: hmac::Key::generate(HMAC_SHA256, &SystemRandom::new()).ok(),
            known: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::mpsc;

    use tokio::time::{advance, timeout};

    use super::*;

    async fn verified(passwords: &Passwords, tag: Tag, hash: impl FnOnce() -> bool + Send + 'static) -> Option<bool> {
        passwords.verify(&"acme".into(), tag, hash).await
    }

    #[derive(Clone, Default)]
    struct Counted(Arc<AtomicUsize>);

    impl Counted {
        /// A hash that says `holds`.
        fn hash(&self, holds: bool) -> impl FnOnce() -> bool + Send + 'static {
            let counted = self.clone();
            move || {
                counted.0.fetch_add(1, SeqCst);
                holds
            }
        }

        fn times(&self) -> usize {
            self.0.load(SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_is_remembered_for_its_while() {
        let (passwords, hashes) = (Passwords::default(), Counted::default());
        let right = passwords.tag(&[b"ann", b"right"]);
        let wrong = passwords.tag(&[b"ann", b"wrong"]);
        let verify = async |tag, holds| verified(&passwords, tag, hashes.hash(holds)).await;
        assert_eq!(
            (verify(right, true).await, verify(wrong, false).await),
            (Some(true), Some(false))
        );
        advance(FAILS_FOR - Duration::from_millis(1)).await;
        assert_eq!(
            (verify(right, false).await, verify(wrong, true).await),
            (Some(true), Some(false))
        );
        assert_eq!(hashes.times(), 2);
        advance(Duration::from_millis(1)).await;
        assert_eq!(
            (verify(right, false).await, verify(wrong, true).await),
            (Some(true), Some(true))
        );
        assert_eq!(hashes.times(), 3);
        advance(HOLDS_FOR - FAILS_FOR).await;
        assert_eq!(verify(right, false).await, Some(false));
        assert_eq!(hashes.times(), 4);
    }

    #[tokio::test]
    async fn requests_that_come_together_wait_for_one_result() {
        let (passwords, hashes) = (Passwords::default(), Counted::default());
        let tag = passwords.tag(&[b"ann"]);
        let all = (0..32).map(|_| verified(&passwords, tag, hashes.hash(true)));
        let all = futures_util::future::join_all(all).await;
        assert!(all.iter().all(|holds| *holds == Some(true)));
        assert_eq!(hashes.times(), 1);
    }

    #[tokio::test]
    async fn a_hash_that_nobody_waits_for_ends_and_is_remembered() {
        let (passwords, hashes) = (Passwords::default(), Counted::default());
        let tag = passwords.tag(&[b"ann"]);
        let (release, wait) = mpsc::sync_channel::<()>(1);
        let hash = hashes.hash(true);
        let slow = move || {
            let _ = wait.recv();
            hash()
        };
        assert!(
            timeout(Duration::from_millis(20), verified(&passwords, tag, slow))
                .await
                .is_err()
        );
        // Its turn is still taken: a flood of clients that hang up hashes no more than one at a time.
        let next = verified(&passwords, passwords.tag(&[b"bob"]), hashes.hash(true));
        assert!(timeout(Duration::from_millis(20), next).await.is_err());
        release.send(()).unwrap();
        assert_eq!(verified(&passwords, tag, hashes.hash(false)).await, Some(true));
        assert_eq!(hashes.times(), 1);
    }

    #[tokio::test]
    async fn a_hash_that_panics_costs_its_request_alone() {
        let passwords = Passwords::default();
        let tag = passwords.tag(&[b"ann"]);
        assert_eq!(verified(&passwords, tag, || panic!("broken")).await, None);
        assert_eq!(verified(&passwords, tag, || true).await, Some(true));
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded_and_guesses_push_nobody_out() {
        let (passwords, hashes) = (Passwords::default(), Counted::default());
        let ann = passwords.tag(&[b"ann"]);
        verified(&passwords, ann, hashes.hash(true)).await;
        for guess in 0..2 * MAX_KNOWN {
            let tag = passwords.tag(&[&guess.to_be_bytes()]);
            passwords.shared().remember(tag, false);
        }
        assert_eq!(passwords.shared().known.lock().len(), MAX_KNOWN);
        assert_eq!(verified(&passwords, ann, hashes.hash(false)).await, Some(true));
    }

    #[test]
    fn a_tag_is_of_all_its_parts_and_of_this_process() {
        let passwords = Passwords::default();
        let tag = |parts: &[&[u8]]| passwords.tag(parts).0.unwrap();
        assert_eq!(tag(&[b"a", b"b"]), tag(&[b"a", b"b"]));
        assert_ne!(tag(&[b"a", b"b"]), tag(&[b"ab", b""]));
        assert_ne!(tag(&[b"a", b"b"]), tag(&[b"a", b"b", b""]));
        assert_ne!(Some(tag(&[b"a"])), Passwords::default().tag(&[b"a"]).0);
    }
}
