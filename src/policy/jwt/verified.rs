//! Tokens that one rule has verified, so that a client that sends the same one again costs a hash in place of a signature.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;

use super::keys::KeySet;
use crate::policy::principal::Principal;
use crate::tls::Fingerprint;

/// Lasts no longer than the rule as it is: an edited one remembers nothing.
#[derive(Default)]
pub struct Verified(Mutex<HashMap<Digest, Entry>>);

/// The SHA-256 digest of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

struct Entry {
    /// What it was verified by: a key that is taken from the set takes its tokens along.
    keys: Arc<KeySet>,
    principal: Arc<Principal>,
    /// In Unix seconds.
    end: f64,
}

const MAX_TOKENS: usize = 1024;

impl Digest {
    /// Of the token's text as it came.
    pub fn of(token: &str) -> Self {
        Self(Fingerprint::from(digest(&SHA256, token.as_bytes())).0)
    }
}

impl Verified {
    /// Whom the token names; None: it is not remembered, was verified by other keys, or ends before `now`, in Unix
    /// seconds.
    pub fn find(&self, token: &Digest, keys: &Arc<KeySet>, now: i64) -> Option<Arc<Principal>> {
        let entries = self.0.lock();
        let entry = entries.get(token)?;
        let holds = Arc::ptr_eq(&entry.keys, keys) && (now as f64) < entry.end;
        holds.then(|| entry.principal.clone())
    }

    /// `end` is in Unix seconds: from then on the token is verified again, and refused.
    pub fn remember(&self, token: Digest, keys: &Arc<KeySet>, principal: &Arc<Principal>, end: f64) {
        let entry = Entry {
            keys: keys.clone(),
            principal: principal.clone(),
            end,
        };
        let mut entries = self.0.lock();
        // Whoever has a token of his own for each request must not push out all others': half of them go, whichever.
        if entries.len() >= MAX_TOKENS && !entries.contains_key(&token) {
            let mut odd = false;
            entries.retain(|_, entry| {
                odd = !odd;
                odd && Arc::ptr_eq(&entry.keys, keys)
            });
        }
        entries.insert(token, entry);
    }
}

// By hand: hashes of credentials are no log's to hold.
impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verified")
    }
}
