//! The objects of one kind, and which of them changed since the changes were last taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::changes::Changes;
use super::objects::EndpointSlice;
use crate::object::{Kind, ObjectId, ObjectKey};

/// What is kept of an object.
pub trait Stored: PartialEq {
    fn key(&self) -> &ObjectKey;

    /// Equal in all that compile reads.
    fn asks_the_same(&self, other: &Self) -> bool {
        self == other
    }

    /// Why the object could not be decoded. None: all of it is understood.
    fn undecodable(&self) -> Option<Arc<str>> {
        None
    }

    /// Whether the status at the source is still that of the version before. A kind without a status has always the same.
    fn has_same_status(&self, _before: Option<&Self>) -> bool {
        true
    }
}

#[derive(Debug)]
pub(super) struct Table<T> {
    objects: BTreeMap<ObjectKey, Arc<T>>,
    changed: BTreeSet<ObjectKey>,
    observed: BTreeSet<ObjectKey>,
}

/// EndpointSlices, found by their Service too. A change of a slice counts as one of its Service.
#[derive(Debug, Default)]
pub(super) struct Slices {
    table: Table<EndpointSlice>,
    /// By Service, then by slice name.
    by_service: BTreeMap<ObjectKey, BTreeMap<Arc<str>, Arc<EndpointSlice>>>,
    services: BTreeSet<ObjectKey>,
}

/// What the tables of all kinds have in common.
pub(super) trait AnyTable {
    fn remove(&mut self, key: &ObjectKey);

    /// The keys that are here and not in this set.
    fn missing(&self, keys: &BTreeSet<ObjectKey>) -> Vec<ObjectKey>;

    fn len(&self) -> usize;

    fn keys(&self) -> BTreeSet<ObjectKey>;

    /// Moves the keys that changed into `changes`.
    fn report(&mut self, kind: Kind, changes: &mut Changes);
}

impl<T: Stored> Table<T> {
    /// An equal object is no change.
    pub fn put(&mut self, new: T) {
        let key = new.key();
        let old = self.objects.get(key).map(Arc::as_ref);
        if old == Some(&new) {
            return;
        }
        if old.is_none_or(|old| !old.asks_the_same(&new)) {
            self.changed.insert(key.clone());
        }
        if !new.has_same_status(old) {
            self.observed.insert(key.clone());
        }
        self.objects.insert(key.clone(), Arc::new(new));
    }
}

impl<T> Table<T> {
    /// None: there is none under this key.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<T>> {
        self.objects.get(key)
    }

    /// In the order of their keys.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<T>> {
        self.objects.values()
    }
}

impl<T> AnyTable for Table<T> {
    fn remove(&mut self, key: &ObjectKey) {
        if self.objects.remove(key).is_some() {
            self.changed.insert(key.clone());
        }
    }

    fn missing(&self, keys: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
        let missing = self.objects.keys().filter(|key| !keys.contains(key));
        missing.cloned().collect()
    }

    fn len(&self) -> usize {
        self.objects.len()
    }

    fn keys(&self) -> BTreeSet<ObjectKey> {
        self.objects.keys().cloned().collect()
    }

    fn report(&mut self, kind: Kind, changes: &mut Changes) {
        changes.add(kind, std::mem::take(&mut self.changed));
        let observed = std::mem::take(&mut self.observed).into_iter();
        changes.observed.extend(observed.map(|key| ObjectId::new(kind, key)));
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            changed: BTreeSet::new(),
            observed: BTreeSet::new(),
        }
    }
}

impl Slices {
    /// An equal slice is no change. The label that names its Service can change.
    pub fn put(&mut self, new: EndpointSlice) {
        let key = new.key.clone();
        let old = self.table.get(&key);
        if old.is_some_and(|old| **old == new) {
            return;
        }
        if old.is_some_and(|old| old.service != new.service) {
            self.forget(&key);
        }
        self.table.put(new);
        if let Some(new) = self.table.get(&key) {
            let service = service(new);
            let siblings = self.by_service.entry(service.clone()).or_default();
            siblings.insert(key.name, new.clone());
            self.services.insert(service);
        }
    }

    /// In the order of their keys.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.table.objects()
    }

    /// In the order of the slices' names.
    pub fn of(&self, service: &ObjectKey) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.by_service.get(service).into_iter().flat_map(BTreeMap::values)
    }

    fn forget(&mut self, key: &ObjectKey) {
        let Some(service) = self.table.get(key).map(|slice| service(slice)) else {
            return;
        };
        if let Some(siblings) = self.by_service.get_mut(&service) {
            siblings.remove(&key.name);
            if siblings.is_empty() {
                self.by_service.remove(&service);
            }
        }
        self.services.insert(service);
    }
}

impl AnyTable for Slices {
    /// A deletion does not carry the label that names the Service.
    fn remove(&mut self, key: &ObjectKey) {
        self.forget(key);
        self.table.remove(key);
    }

    fn missing(&self, keys: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
        self.table.missing(keys)
    }

    fn len(&self) -> usize {
        self.table.len()
    }

    fn keys(&self) -> BTreeSet<ObjectKey> {
        self.table.keys()
    }

    fn report(&mut self, _: Kind, changes: &mut Changes) {
        self.table.changed.clear();
        changes.add(Kind::Service, std::mem::take(&mut self.services));
    }
}

fn service(slice: &EndpointSlice) -> ObjectKey {
    ObjectKey {
        namespace: slice.key.namespace.clone(),
        name: slice.service.clone(),
    }
}
