//! What is referred to by name: who refers to it, what came of it, and its last good version. The cost of a change grows
//! with the number of those who refer to what changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::condition::ConditionReason;
use crate::object::{Data, Kind, ObjectId, ObjectKey, Purpose};
use crate::store::{Changes, Holder, Store};

/// What Secrets and ConfigMaps of one purpose hold.
pub struct References<T> {
    entries: HashMap<ObjectId, Entry<T>>,
    /// The last good version of what is referred to, with the object that it was read out of: another object's is not served
    /// in its place.
    good: HashMap<ObjectId, (Holder, T)>,
    /// Referred to since the last `resolve`.
    new: BTreeSet<ObjectId>,
    /// Perhaps referred to by nobody any more.
    idle: BTreeSet<ObjectId>,
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

/// An object as it was looked up, and what was read out of it.
pub type Read<T> = Result<(Holder, Result<T, Unusable>), Unusable>;

impl<T: Clone + PartialEq> References<T> {
    /// The reference leads nowhere until `resolve`.
    pub fn add_user(&mut self, id: &ObjectId, user: User) {
        let new = &mut self.new;
        let entry = self.entries.entry(id.clone()).or_insert_with(|| {
            new.insert(id.clone());
            Entry {
                users: HashSet::new(),
                found: Found::nothing(),
            }
        });
        entry.users.insert(user);
    }

    /// What nobody refers to any more is forgotten by the next `resolve`.
    pub fn remove_user(&mut self, id: &ObjectId, user: &User) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.users.remove(user);
            self.idle.insert(id.clone());
        }
    }

    /// Looks up again what changed, and what is newly referred to; adds those who see something else than before.
    pub fn resolve(
        &mut self,
        changes: &Changes,
        look_up: impl Fn(&ObjectId) -> Read<T>,
        affected: &mut BTreeSet<User>,
    ) {
        for id in std::mem::take(&mut self.idle) {
            if self.entries.get(&id).is_some_and(|entry| entry.users.is_empty()) {
                self.entries.remove(&id);
                self.good.remove(&id);
            }
        }
        let mut due = std::mem::take(&mut self.new);
        let changed = changes.ids([Kind::ConfigMap, Kind::Secret]);
        due.extend(changed.filter(|id| self.entries.contains_key(id)));
        for id in due {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            let good = self.good.remove(&id);
            let (found, good) = judge(look_up(&id), good);
            if let Some(good) = good {
                self.good.insert(id, good);
            }
            if entry.found != found {
                entry.found = found;
                affected.extend(entry.users.iter().cloned());
            }
        }
    }

    /// None: nobody has referred to it.
    pub fn find(&self, id: &ObjectId) -> Option<&Found<T>> {
        Some(&self.entries.get(id)?.found)
    }

    /// The objects that are referred to.
    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.entries.keys()
    }

    /// Nothing but the last good versions.
    pub fn last_good(&self) -> Self {
        Self {
            good: self.good.clone(),
            ..Self::default()
        }
    }

    /// The last good versions that stand in for what is broken at present.
    pub fn stand_ins(&self) -> impl Iterator<Item = &Holder> {
        let broken = self.entries.iter().filter(|(_, entry)| entry.found.problem.is_some());
        broken.filter_map(|(id, _)| self.good.get(id)).map(|(holder, _)| holder)
    }

    /// Last good versions of what nobody refers to: after a compile of everything.
    pub fn sweep(&mut self) {
        let entries = &self.entries;
        self.good.retain(|id, _| entries.contains_key(id));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len().max(self.good.len())
    }
}

/// Only a broken version is stood in for: what is deleted, or no longer meant for us, is gone.
fn judge<T: Clone>(read: Read<T>, good: Option<(Holder, T)>) -> (Found<T>, Option<(Holder, T)>) {
    let found = |part, problem| Found { part, problem };
    match read {
        Ok((holder, Ok(part))) => (found(Some(part.clone()), None), Some((holder, part))),
        Ok((holder, Err(problem @ Unusable::Invalid { .. }))) => {
            let good = good.filter(|(of, _)| of.uid() == holder.uid());
            (found(good.as_ref().map(|(_, part)| part.clone()), Some(problem)), good)
        }
        Ok((_, Err(problem))) | Err(problem) => (found(None, Some(problem)), None),
    }
}

/// Reads a Secret or a ConfigMap that has to be labelled for this purpose.
pub fn labelled<T>(
    store: &Store,
    id: &ObjectId,
    purpose: Purpose,
    read: impl Fn(&Data) -> Result<T, Unusable>,
) -> Read<T> {
    let holder = store.holder(id).ok_or(Unusable::NotFound(purpose))?;
    let read = match holder.purpose() {
        Some(label) if label == purpose.label() => read(holder.data()),
        _ => Err(Unusable::NotLabelled(purpose)),
    };
    Ok((holder, read))
}

impl Unusable {
    /// `kind`: that of the object that cannot be used.
    pub fn reason(&self, kind: Kind) -> ConditionReason {
        use ConditionReason as R;
        match (self, kind) {
            (Self::NoTlsSecret | Self::NotFound(_), Kind::ConfigMap) => R::ConfigMapNotFound,
            (Self::NoTlsSecret | Self::NotFound(_), _) => R::SecretNotFound,
            (Self::NotLabelled(_), Kind::ConfigMap) => R::ConfigMapNotLabelled,
            (Self::NotLabelled(_), _) => R::SecretNotLabelled,
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

impl<T> Default for References<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            good: HashMap::new(),
            new: BTreeSet::new(),
            idle: BTreeSet::new(),
        }
    }
}
