//! What the watches say while a saved state is served. It is held back until all kinds are listed, and then takes that
//! state's place at once: of two worlds one could have a Deployment, and the other the policy that guards it.

use std::collections::{BTreeMap, BTreeSet};

use strum::VariantArray;

use crate::object::{Kind, ObjectId, ObjectKey};
use crate::store::{Batch, Event, Object};

/// It grows with the number of objects, not with that of events.
#[derive(Debug, Default)]
pub struct Gathering {
    latest: BTreeMap<ObjectId, Object>,
    /// What there is of each kind that is listed, and not gone since.
    listed: BTreeMap<Kind, BTreeSet<ObjectKey>>,
}

impl Gathering {
    /// Takes the place of what was said before of the same objects.
    pub fn take(&mut self, batch: Batch) {
        for event in batch.events {
            match event {
                Event::Apply(object) => {
                    let id = object.id();
                    if let Some(keys) = self.listed.get_mut(&id.kind) {
                        keys.insert(id.key.clone());
                    }
                    self.latest.insert(id, object);
                }
                Event::Delete(id) => {
                    if let Some(keys) = self.listed.get_mut(&id.kind) {
                        keys.remove(&id.key);
                    }
                    self.latest.remove(&id);
                }
                Event::Listed(kind, keys) => {
                    self.latest.retain(|id, _| id.kind != kind || keys.contains(&id.key));
                    self.listed.insert(kind, keys);
                }
            }
        }
    }

    /// Whether every kind has been listed.
    pub fn is_complete(&self) -> bool {
        self.listed.len() == Kind::VARIANTS.len()
    }

    /// What makes the world that was listed of any other. An object that is there and could not be decoded stays as it was.
    pub fn into_events(self) -> Vec<Event> {
        let lists = self.listed.into_iter();
        let lists = lists.map(|(kind, keys)| Event::Listed(kind, keys));
        lists.chain(self.latest.into_values().map(Event::Apply)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::{Just, Strategy, any, prop_assert_eq};
    use proptest::{collection, prop_oneof};

    use super::*;
    use crate::store::{Service, Store};

    fn key(name: u8) -> ObjectKey {
        ObjectKey::new("acme", &name.to_string())
    }

    fn service(name: u8, version: bool) -> Object {
        Object::Service(Service {
            key: key(name),
            external_name: version,
            selectorless: false,
            ports: Vec::new(),
        })
    }

    /// A list says its objects, then their keys.
    fn list(objects: &BTreeMap<u8, bool>) -> Vec<Event> {
        let applied = objects
            .iter()
            .map(|(name, version)| Event::Apply(service(*name, *version)));
        let keys = objects.keys().map(|name| key(*name)).collect();
        applied.chain([Event::Listed(Kind::Service, keys)]).collect()
    }

    fn steps() -> impl Strategy<Value = Vec<Event>> {
        let name = || 0..6_u8;
        prop_oneof![
            (name(), any::<bool>()).prop_map(|(name, version)| vec![Event::Apply(service(name, version))]),
            name().prop_map(|name| vec![Event::Delete(ObjectId::new(Kind::Service, key(name)))]),
            collection::btree_map(name(), any::<bool>(), 0..6).prop_map(|objects| list(&objects)),
            Just(Vec::new()),
        ]
    }

    fn batch(events: Vec<Event>) -> Batch {
        let seen = Instant::now();
        Batch { events, seen }
    }

    fn services(store: &Store) -> Vec<(ObjectKey, bool)> {
        let keys = store.keys(Kind::Service).into_iter();
        keys.map(|key| (key.clone(), store.service(&key).unwrap().external_name))
            .collect()
    }

    proptest::proptest! {
        #[test]
        fn what_was_held_back_makes_the_same_of_the_saved_objects(
            saved in collection::btree_map(0..6_u8, any::<bool>(), 0..6),
            steps in collection::vec(steps(), 0..12),
            last in collection::btree_map(0..6_u8, any::<bool>(), 0..6),
            after in collection::vec(steps(), 0..4),
        ) {
            let mut at_once = Store::default();
            let saved = saved.iter().map(|(name, version)| Event::Apply(service(*name, *version)));
            at_once.apply(batch(saved.collect()));
            let mut later = Store::default();
            later.apply(batch(at_once.keys(Kind::Service).into_iter().map(|key| {
                Event::Apply(Object::Service((**at_once.service(&key).unwrap()).clone()))
            }).collect()));
            let mut gathering = Gathering::default();
            for events in steps.into_iter().chain([list(&last)]).chain(after) {
                at_once.apply(batch(events.clone()));
                gathering.take(batch(events));
            }
            later.apply(batch(gathering.into_events()));
            prop_assert_eq!(services(&later), services(&at_once));
        }
    }

    #[test]
    fn it_is_complete_when_every_kind_was_listed() {
        let mut gathering = Gathering::default();
        for kind in Kind::VARIANTS {
            assert!(!gathering.is_complete());
            gathering.take(batch(vec![Event::Listed(*kind, BTreeSet::new())]));
        }
        assert!(gathering.is_complete());
    }
}
