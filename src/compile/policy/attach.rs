//! Which policies stand before which Deployments: by the policy's targets, and by the Deployment that names the policy. All
//! Deployments count here, of whatever class, since a policy's status tells of them all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::compile::wanted::Age;
use crate::object::ObjectKey;
use crate::store::{self, Labels, Targets};

#[derive(Default)]
pub struct Attachments {
    candidates: BTreeMap<ObjectKey, Candidate>,
    policies: BTreeMap<ObjectKey, Reach>,
    /// The policies before each Deployment, and the Deployments behind each policy, oldest first.
    before: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    behind: HashMap<ObjectKey, BTreeSet<Age>>,
}

/// A Deployment, as far as it matters here.
#[derive(PartialEq)]
pub struct Candidate {
    created: i64,
    labels: Labels,
    /// The policies that it names.
    names: Box<[ObjectKey]>,
    /// None: it cannot be decoded.
    class: Option<Box<str>>,
}

/// Whom a policy stands before, beside those that name it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    Targets(Arc<Targets>),
    /// It is not understood whom: everybody in its namespace.
    Namespace,
    Nobody,
}

impl Candidate {
    pub fn of(object: &store::Deployment) -> Self {
        let spec = object.spec.as_ref().ok();
        let names = spec.map_or(&[][..], |spec| &spec.policies);
        Self {
            created: object.created,
            labels: object.labels.clone(),
            names: names
                .iter()
                .map(|name| ObjectKey::new(&object.key.namespace, name))
                .collect(),
            class: spec.map(|spec| spec.class_name.as_str().into()),
        }
    }
}

impl Reach {
    fn holds(&self, key: &ObjectKey, candidate: &Candidate) -> bool {
        match self {
            Self::Targets(targets) => targets.hold(&key.name, &candidate.labels),
            Self::Namespace => true,
            Self::Nobody => false,
        }
    }
}

impl Attachments {
    /// Returns the policies before which things have changed: those that stood or stand before it.
    pub fn set_deployment(&mut self, key: &ObjectKey, new: Option<Candidate>) -> BTreeSet<ObjectKey> {
        if self.candidates.get(key) == new.as_ref() {
            return BTreeSet::new();
        }
        let mut touched = self.before.remove(key).unwrap_or_default();
        if let Some(old) = self.candidates.remove(key) {
            let age = age(key, old.created);
            for policy in &touched {
                forget(&mut self.behind, policy, &age);
            }
        }
        if let Some(new) = new {
            let reaching = within(&self.policies, &key.namespace)
                .filter(|(policy, reach)| new.names.contains(policy) || reach.holds(key, &new));
            let before: BTreeSet<ObjectKey> = reaching.map(|(policy, _)| policy.clone()).collect();
            for policy in &before {
                self.behind
                    .entry(policy.clone())
                    .or_default()
                    .insert(age(key, new.created));
            }
            touched.extend(before.iter().cloned());
            if !before.is_empty() {
                self.before.insert(key.clone(), before);
            }
            self.candidates.insert(key.clone(), new);
        }
        touched
    }

    /// Returns the Deployments before which it stood or stands, if these are not the same.
    pub fn set_policy(&mut self, key: &ObjectKey, new: Option<Reach>) -> BTreeSet<ObjectKey> {
        if self.policies.get(key) == new.as_ref() {
            return BTreeSet::new();
        }
        let old = self.behind.remove(key).unwrap_or_default();
        for age in &old {
            forget(&mut self.before, &age.key, key);
        }
        self.policies.remove(key);
        let mut behind = BTreeSet::new();
        if let Some(reach) = new {
            let reached = within(&self.candidates, &key.namespace)
                .filter(|(deployment, candidate)| candidate.names.contains(key) || reach.holds(deployment, candidate));
            behind = reached
                .map(|(deployment, candidate)| age(deployment, candidate.created))
                .collect();
            for age in &behind {
                self.before.entry(age.key.clone()).or_default().insert(key.clone());
            }
            self.policies.insert(key.clone(), reach);
        }
        let touched = old.symmetric_difference(&behind).map(|age| age.key.clone()).collect();
        if !behind.is_empty() {
            self.behind.insert(key.clone(), behind);
        }
        touched
    }

    /// Those that stand before a Deployment.
    pub fn before(&self, deployment: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        self.before.get(deployment).into_iter().flatten()
    }

    /// The Deployments that a policy stands before, oldest first.
    pub fn behind(&self, policy: &ObjectKey) -> impl ExactSizeIterator<Item = &ObjectKey> {
        static NONE: BTreeSet<Age> = BTreeSet::new();
        self.behind.get(policy).unwrap_or(&NONE).iter().map(|age| &age.key)
    }

    /// Whether the installation of this class tells of a policy: that of the oldest Deployment behind it, or anyone.
    pub fn tells(&self, policy: &ObjectKey, class: &str) -> bool {
        let classes = self
            .behind(policy)
            .filter_map(|key| self.candidates.get(key)?.class.as_deref());
        classes.into_iter().next().is_none_or(|oldest| oldest == class)
    }

    pub fn is_deployment(&self, key: &ObjectKey) -> bool {
        self.candidates.contains_key(key)
    }

    pub fn deployments(&self) -> impl Iterator<Item = &ObjectKey> {
        self.candidates.keys()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        let edges = self.before.len().max(self.behind.len());
        self.candidates.len().max(self.policies.len()).max(edges)
    }
}

fn age(key: &ObjectKey, created: i64) -> Age {
    Age {
        created,
        key: key.clone(),
    }
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
