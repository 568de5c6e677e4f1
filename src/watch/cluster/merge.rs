//! What the watches of one kind, one per scope, have said so far, and what each of their events changes. It asks nobody.

use std::collections::BTreeSet;

use kube::Resource;
use kube::runtime::watcher;
use tracing::warn;

use super::Counters;
use crate::object::{ObjectId, ObjectKey};
use crate::store::{Event, Kind, Object};
use crate::watch::trim;

/// What is known of one kind, by scope: keys alone, for `Event::Listed` speaks of all scopes together.
pub(super) struct Merge<F> {
    scopes: Vec<Scope>,
    kind: Kind,
    trim: F,
    /// Of this kind, all scopes together.
    pub(super) counters: Counters,
}

#[derive(Default)]
struct Scope {
    keys: BTreeSet<ObjectKey>,
    listed: bool,
    /// A list that is arriving. It may break off and start again.
    arriving: Option<Arriving>,
}

#[derive(Default)]
struct Arriving {
    keys: BTreeSet<ObjectKey>,
    events: Vec<Event>,
}

impl<F> Merge<F> {
    /// Nothing is known yet. `trim` is that of `watch_kind`.
    pub(super) fn new(scopes: usize, kind: Kind, trim: F, counters: Counters) -> Self {
        Self {
            scopes: (0..scopes).map(|_| Scope::default()).collect(),
            kind,
            trim,
            counters,
        }
    }

    /// Appends to `events` what an event of the scope of this index changes.
    pub(super) fn take<K: Resource>(&mut self, scope: usize, event: watcher::Event<K>, events: &mut Vec<Event>)
    where
        F: Fn(K) -> Result<Option<Object>, String>,
    {
        match event {
            watcher::Event::Init => self.scopes[scope].arriving = Some(Arriving::default()),
            watcher::Event::InitApply(object) => {
                if let Some((key, object)) = self.trimmed(object)
                    && let Some(arriving) = &mut self.scopes[scope].arriving
                {
                    arriving.add(key, object);
                }
            }
            watcher::Event::InitDone => self.end_list(scope, events),
            watcher::Event::Apply(object) => {
                if let Some((key, object)) = self.trimmed(object) {
                    self.apply(scope, key, object, events);
                }
            }
            watcher::Event::Delete(object) => {
                if let Some(key) = trim::key(object.meta()) {
                    self.forget(scope, key, events);
                }
            }
        }
    }

    /// Keys are told once every scope has been listed.
    fn end_list(&mut self, scope: usize, events: &mut Vec<Event>) {
        let scope = &mut self.scopes[scope];
        let Some(arrived) = scope.arriving.take() else { return };
        scope.keys = arrived.keys;
        scope.listed = true;
        events.extend(arrived.events);
        if self.scopes.iter().all(|scope| scope.listed) {
            let keys = self.scopes.iter().flat_map(|scope| scope.keys.iter().cloned());
            events.push(Event::Listed(self.kind, keys.collect()));
        }
    }

    fn apply(&mut self, scope: usize, key: ObjectKey, object: Trimmed, events: &mut Vec<Event>) {
        match object {
            Trimmed::Object(object) => {
                self.scopes[scope].keys.insert(key);
                events.push(Event::Apply(object));
            }
            Trimmed::Undecodable => {}
            // It may have concerned us until now.
            Trimmed::Irrelevant => self.forget(scope, key, events),
        }
    }

    /// An object that was made anew may be in another scope already: then it is not gone.
    fn forget(&mut self, scope: usize, key: ObjectKey, events: &mut Vec<Event>) {
        let gone = self.scopes[scope].keys.remove(&key);
        if gone && !self.scopes.iter().any(|other| other.keys.contains(&key)) {
            events.push(Event::Delete(ObjectId::new(self.kind, key)));
        }
    }

    fn trimmed<K: Resource>(&self, object: K) -> Option<(ObjectKey, Trimmed)>
    where
        F: Fn(K) -> Result<Option<Object>, String>,
    {
        let key = trim::key(object.meta())?;
        let trimmed = match (self.trim)(object) {
            Ok(Some(object)) => Trimmed::Object(object),
            Ok(None) => Trimmed::Irrelevant,
            Err(reason) => {
                self.counters.undecodable.inc();
                warn!(kind = ?self.kind, object = %key, reason, "invalid object: its last good version stays in force");
                Trimmed::Undecodable
            }
        };
        Some((key, trimmed))
    }
}

impl Arriving {
    fn add(&mut self, key: ObjectKey, object: Trimmed) {
        match object {
            Trimmed::Object(object) => self.events.push(Event::Apply(object)),
            // Its last good version, if there is one, stays.
            Trimmed::Undecodable => {}
            Trimmed::Irrelevant => return,
        }
        self.keys.insert(key);
    }
}

enum Trimmed {
    Object(Object),
    Irrelevant,
    Undecodable,
}

#[cfg(test)]
mod tests;
