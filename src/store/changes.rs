//! Which objects have changed since the last look.

use std::collections::{BTreeMap, BTreeSet};

use crate::object::{Kind, ObjectId, ObjectKey};

/// Keys that changed since the changes were last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Objects that are new, gone, or differ in more than their status. A Service has changed with its slices too.
    changed: BTreeMap<Kind, BTreeSet<ObjectKey>>,
    /// Objects whose status at the source is another one now: compile does not care, the status writer does.
    pub observed: BTreeSet<ObjectId>,
}

impl Changes {
    /// The keys of this kind. Slices change with their Service.
    pub fn of(&self, kind: Kind) -> &BTreeSet<ObjectKey> {
        static NONE: BTreeSet<ObjectKey> = BTreeSet::new();
        self.changed.get(&kind).unwrap_or(&NONE)
    }

    /// The objects of these kinds.
    pub fn ids<const N: usize>(&self, kinds: [Kind; N]) -> impl Iterator<Item = ObjectId> {
        let of = |kind| self.of(kind).iter().map(move |key| ObjectId::new(kind, key.clone()));
        kinds.into_iter().flat_map(of)
    }

    /// All that have changed.
    pub fn all(&self) -> impl Iterator<Item = ObjectId> {
        let of = |(kind, keys): (&Kind, &BTreeSet<ObjectKey>)| {
            let kind = *kind;
            keys.iter()
                .map(move |key| ObjectId::new(kind, key.clone()))
                .collect::<Vec<_>>()
        };
        self.changed.iter().flat_map(of)
    }

    /// Objects of one kind that have changed.
    pub fn add(&mut self, kind: Kind, keys: BTreeSet<ObjectKey>) {
        if !keys.is_empty() {
            self.changed.entry(kind).or_default().extend(keys);
        }
    }

    /// Objects of any kind that have changed.
    pub fn extend(&mut self, objects: impl IntoIterator<Item = ObjectId>) {
        for ObjectId { key, kind } in objects {
            self.changed.entry(kind).or_default().insert(key);
        }
    }

    /// Nothing that compile reads has changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }
}
