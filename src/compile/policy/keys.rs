//! API keys: every Secret that is labelled as one, read once when it changes. Which of them a rule takes is the rule's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::attach::within;
use crate::object::{ObjectKey, Purpose};
use crate::policy::api_key::{Key, Unusable};
use crate::store::{Labels, Secret, Store, selects};

#[derive(Default)]
pub struct Keys(BTreeMap<ObjectKey, Entry>);

/// One API key.
pub struct Entry {
    labels: Labels,
    /// What is wrong costs this key alone.
    pub key: Result<Arc<Key>, Arc<Unusable>>,
}

/// A Secret that changed, and by which labels it was or is selected.
pub struct Changed {
    pub key: ObjectKey,
    pub labels: Vec<Labels>,
}

impl Keys {
    /// Looks at Secrets that changed, whatever they are now.
    pub fn read(&mut self, changed: &BTreeSet<ObjectKey>, store: &Store) -> Vec<Changed> {
        let look = |key: &ObjectKey| {
            let new = store
                .secret(key)
                .filter(|secret| is_api_key(secret))
                .map(|secret| Entry {
                    labels: secret.labels.clone(),
                    key: Key::read(&key.name, &secret.data).map(Arc::new).map_err(Arc::new),
                });
            let mut labels: Vec<_> = new.iter().map(|entry| entry.labels.clone()).collect();
            let old = match new {
                Some(new) => self.0.insert(key.clone(), new),
                None => self.0.remove(key),
            };
            labels.extend(old.map(|old| old.labels));
            Changed {
                key: key.clone(),
                labels,
            }
        };
        changed.iter().map(look).collect()
    }

    /// None: there is no API key in this Secret.
    pub fn get(&self, key: &ObjectKey) -> Option<&Entry> {
        self.0.get(key)
    }

    /// In the order of their names.
    pub fn selected<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        wanted: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'a ObjectKey, &'a Entry)> {
        within(&self.0, namespace).filter(|(_, entry)| selects(wanted, &entry.labels))
    }

    /// The Secrets that hold API keys.
    pub fn secrets(&self) -> impl Iterator<Item = &ObjectKey> {
        self.0.keys()
    }
}

fn is_api_key(secret: &Secret) -> bool {
    secret.purpose.as_deref() == Some(Purpose::ApiKey.label())
}
