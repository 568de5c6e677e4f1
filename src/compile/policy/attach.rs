//! Which policies apply to which objects: by the policy's targets, and by the object that names the policy. All objects count
//! here, of whatever class, since a policy's status tells of them all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::compile::intent::Age;
use crate::compile::source::Candidate;
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::store::Targets;

#[derive(Default)]
pub struct Attachments {
    candidates: BTreeMap<ObjectId, Candidate>,
    policies: BTreeMap<ObjectKey, Reach>,
    /// The policies before each object, and the objects behind each policy, oldest first.
    before: HashMap<ObjectId, BTreeSet<ObjectKey>>,
    behind: HashMap<ObjectKey, BTreeSet<Age>>,
}

/// Whom a policy stands before, beside those that name it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    Targets(Arc<Targets>),
    /// It is not understood whom: everybody in its namespace.
    Namespace,
    Nobody,
}

impl Reach {
    fn holds(&self, id: &ObjectId, candidate: &Candidate) -> bool {
        match self {
            Self::Targets(targets) => id.kind == Kind::Deployment && targets.hold(&id.key.name, &candidate.labels),
            Self::Namespace => true,
            Self::Nobody => false,
        }
    }
}

impl Attachments {
    /// Returns the policies before which things have changed: those that stood or stand before it.
    pub fn set_object(&mut self, id: &ObjectId, new: Option<Candidate>) -> BTreeSet<ObjectKey> {
        if self.candidates.get(id) == new.as_ref() {
            return BTreeSet::new();
        }
        let mut touched = self.before.remove(id).unwrap_or_default();
        if let Some(old) = self.candidates.remove(id) {
            let age = age(id, old.created);
            for policy in &touched {
                forget(&mut self.behind, policy, &age);
            }
        }
        if let Some(new) = new {
            let reaching = within(&self.policies, id.namespace())
                .filter(|(policy, reach)| new.policies.contains(policy) || reach.holds(id, &new));
            let before: BTreeSet<ObjectKey> = reaching.map(|(policy, _)| policy.clone()).collect();
            for policy in &before {
                self.behind
                    .entry(policy.clone())
                    .or_default()
                    .insert(age(id, new.created));
            }
            touched.extend(before.iter().cloned());
            if !before.is_empty() {
                self.before.insert(id.clone(), before);
            }
            self.candidates.insert(id.clone(), new);
        }
        touched
    }

    /// Returns the objects before which it stood or stands, if these are not the same.
    pub fn set_policy(&mut self, key: &ObjectKey, new: Option<Reach>) -> BTreeSet<ObjectId> {
        if self.policies.get(key) == new.as_ref() {
            return BTreeSet::new();
        }
        let old = self.behind.remove(key).unwrap_or_default();
        for age in &old {
            forget(&mut self.before, &age.id, key);
        }
        self.policies.remove(key);
        let mut behind = BTreeSet::new();
        if let Some(reach) = new {
            let reached = candidates_within(&self.candidates, &key.namespace)
                .filter(|(id, candidate)| candidate.policies.contains(key) || reach.holds(id, candidate));
            behind = reached.map(|(id, candidate)| age(id, candidate.created)).collect();
            for age in &behind {
                self.before.entry(age.id.clone()).or_default().insert(key.clone());
            }
            self.policies.insert(key.clone(), reach);
        }
        let touched = old.symmetric_difference(&behind).map(|age| age.id.clone()).collect();
        if !behind.is_empty() {
            self.behind.insert(key.clone(), behind);
        }
        touched
    }

    /// Those that stand before an object.
    pub fn before(&self, id: &ObjectId) -> impl Iterator<Item = &ObjectKey> {
        self.before.get(id).into_iter().flatten()
    }

    /// The objects that a policy stands before, oldest first.
    pub fn behind(&self, policy: &ObjectKey) -> impl ExactSizeIterator<Item = &ObjectId> {
        static NONE: BTreeSet<Age> = BTreeSet::new();
        self.behind.get(policy).unwrap_or(&NONE).iter().map(|age| &age.id)
    }

    /// Whether the installation of this class tells of a policy: that of the oldest object behind it, or anyone.
    pub fn tells(&self, policy: &ObjectKey, class: &str) -> bool {
        let classes = self
            .behind(policy)
            .filter_map(|id| self.candidates.get(id)?.class.as_deref());
        classes.into_iter().next().is_none_or(|oldest| oldest == class)
    }

    /// Whether the object was seen, of whatever class.
    pub fn is_there(&self, id: &ObjectId) -> bool {
        self.candidates.contains_key(id)
    }

    /// The objects that were seen.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectId> {
        self.candidates.keys()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let edges = self.before.len().max(self.behind.len());
        self.candidates.len().max(self.policies.len()).max(edges)
    }
}

fn age(id: &ObjectId, created: i64) -> Age {
    Age {
        created,
        id: id.clone(),
    }
}

fn candidates_within<'a>(
    map: &'a BTreeMap<ObjectId, Candidate>,
    namespace: &'a Arc<str>,
) -> impl Iterator<Item = (&'a ObjectId, &'a Candidate)> {
    // No object has an empty name, so the kind does not matter.
    let first = ObjectKey {
        namespace: namespace.clone(),
        name: "".into(),
    };
    let first = ObjectId::new(Kind::Deployment, first);
    map.range(first..)
        .take_while(move |(id, _)| id.namespace() == namespace)
}

/// The entries of one namespace.
pub fn within<'a, T>(
    map: &'a BTreeMap<ObjectKey, T>,
    namespace: &Arc<str>,
) -> impl Iterator<Item = (&'a ObjectKey, &'a T)> {
    let first = ObjectKey {
        namespace: namespace.clone(),
        name: "".into(),
    };
    map.range(first..).take_while(|(key, _)| key.namespace == *namespace)
}

fn forget<K: std::hash::Hash + Eq, V: Ord>(edges: &mut HashMap<K, BTreeSet<V>>, of: &K, to: &V) {
    if let Some(set) = edges.get_mut(of) {
        set.remove(to);
        if set.is_empty() {
            edges.remove(of);
        }
    }
}
