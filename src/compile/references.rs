//! What is referred to by name: who refers to it, what came of it, and its last good version. The cost of a change grows
//! with the number of those who refer to what changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use crate::api::condition::ConditionReason;
use crate::api::deployment::CaKind;
use crate::object::{ObjectId, ObjectKey, Purpose};

pub struct References<K, T> {
    entries: HashMap<K, Entry<T>>,
    /// The last good version of what is referred to, with its object's uid: another object's is not served in its place.
    good: HashMap<K, (Arc<str>, T)>,
    /// Referred to since the last `resolve`.
    new: BTreeSet<K>,
    /// Perhaps referred to by nobody any more.
    idle: BTreeSet<K>,
}

struct Entry<T> {
    users: HashSet<User>,
    found: Found<T>,
}

/// Who refers to something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum User {
    /// An object that asks for routes.
    Object(ObjectId),
    Policy(ObjectKey),
    /// The installation, for its default certificates.
    Installation,
}

/// Both, while the last good version stands in for a broken one.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<T> {
    pub part: Option<T>,
    pub problem: Option<Unusable>,
}

/// Why an object cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("does not exist, or is not of type kubernetes.io/tls")]
    NoTlsSecret,
    #[error("does not exist, or does not have the label postern.dev/use: {0}")]
    NotFound(Purpose),
    #[error("does not have the label postern.dev/use: {0}")]
    NotLabelled(Purpose),
    /// What it holds is no good; the text says why, and quotes nothing of it.
    #[error("{text}")]
    Invalid { reason: ConditionReason, text: Arc<str> },
}

/// An object as it was looked up: its uid and what was read out of it.
pub type Read<T> = Result<(Arc<str>, Result<T, Unusable>), Unusable>;

impl<K: Clone + Ord + Hash, T: Clone + PartialEq> References<K, T> {
    /// The reference leads nowhere until `resolve`.
    pub fn add_user(&mut self, key: &K, user: User) {
        let new = &mut self.new;
        let entry = self.entries.entry(key.clone()).or_insert_with(|| {
            new.insert(key.clone());
            Entry {
                users: HashSet::new(),
                found: Found::nothing(),
            }
        });
        entry.users.insert(user);
    }

    pub fn remove_user(&mut self, key: &K, user: &User) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.users.remove(user);
            self.idle.insert(key.clone());
        }
    }

    /// Looks up again what changed, and what is newly referred to; adds those who see something else than before.
    pub fn resolve<'a>(
        &mut self,
        changed: impl Iterator<Item = &'a K>,
        look_up: impl Fn(&K) -> Read<T>,
        affected: &mut BTreeSet<User>,
    ) where
        K: 'a,
    {
        for key in std::mem::take(&mut self.idle) {
            if self.entries.get(&key).is_some_and(|entry| entry.users.is_empty()) {
                self.entries.remove(&key);
                self.good.remove(&key);
            }
        }
        let mut due = std::mem::take(&mut self.new);
        due.extend(changed.cloned());
        for key in due {
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            let good = self.good.remove(&key);
            let (found, good) = judge(look_up(&key), good);
            if let Some(good) = good {
                self.good.insert(key, good);
            }
            if entry.found != found {
                entry.found = found;
                affected.extend(entry.users.iter().cloned());
            }
        }
    }

    /// None: nobody has referred to it.
    pub fn find(&self, key: &K) -> Option<&Found<T>> {
        Some(&self.entries.get(key)?.found)
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    /// Nothing but the last good versions.
    pub fn last_good(&self) -> Self {
        Self {
            good: self.good.clone(),
            ..Self::default()
        }
    }

    /// Last good versions of what nobody refers to: after a compile of everything.
    pub fn sweep(&mut self) {
        let entries = &self.entries;
        self.good.retain(|key, _| entries.contains_key(key));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len().max(self.good.len())
    }
}

/// Only a broken version is stood in for: what is deleted, or no longer meant for us, is gone.
fn judge<T: Clone>(read: Read<T>, good: Option<(Arc<str>, T)>) -> (Found<T>, Option<(Arc<str>, T)>) {
    let found = |part, problem| Found { part, problem };
    match read {
        Ok((uid, Ok(part))) => (found(Some(part.clone()), None), Some((uid, part))),
        Ok((uid, Err(problem @ Unusable::Invalid { .. }))) => {
            let good = good.filter(|(of, _)| *of == uid);
            (found(good.as_ref().map(|(_, part)| part.clone()), Some(problem)), good)
        }
        Ok((_, Err(problem))) | Err(problem) => (found(None, Some(problem)), None),
    }
}

impl Unusable {
    pub fn reason(&self, kind: CaKind) -> ConditionReason {
        use ConditionReason as R;
        match (self, kind) {
            (Self::NoTlsSecret | Self::NotFound(_), CaKind::Secret) => R::SecretNotFound,
            (Self::NoTlsSecret | Self::NotFound(_), CaKind::ConfigMap) => R::ConfigMapNotFound,
            (Self::NotLabelled(_), CaKind::Secret) => R::SecretNotLabelled,
            (Self::NotLabelled(_), CaKind::ConfigMap) => R::ConfigMapNotLabelled,
            (Self::Invalid { reason, .. }, _) => *reason,
        }
    }
}

impl<T> Found<T> {
    const fn nothing() -> Self {
        Self {
            part: None,
            problem: None,
        }
    }
}

impl<K, T> Default for References<K, T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            good: HashMap::new(),
            new: BTreeSet::new(),
            idle: BTreeSet::new(),
        }
    }
}
