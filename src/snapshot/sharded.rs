//! A map in many parts: a copy shares them all, a change copies one. It keeps the cost of a new snapshot near the
//! cost of the change, at 10,000 entries and at 100,000.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::content;

/// Enough that a shard stays small at 100,000 entries, few enough that copying the list of shards is microseconds.
const SHARDS: usize = 1024;

/// A map by hash of the key.
pub struct Sharded<K, V>(Box<[Arc<Shard<K, V>>]>);

struct Shard<K, V> {
    map: HashMap<K, V>,
    /// Sum of the entries' content hashes: order does not matter.
    hash: u64,
}

impl<K, V> Sharded<K, V>
where
    K: Clone + Eq + Hash + Serialize,
    V: Clone + Serialize,
{
    /// None: there is no such key.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0[index(key)].map.get(key)
    }

    /// Takes the place of a value under the same key.
    pub fn insert(&mut self, key: K, value: V) {
        let shard = Arc::make_mut(&mut self.0[index(&key)]);
        shard.hash = shard.hash.wrapping_add(content::hash(&(&key, &value)));
        if let Some(old) = shard.map.insert(key.clone(), value) {
            shard.hash = shard.hash.wrapping_sub(content::hash(&(&key, &old)));
        }
    }

    /// A key that is not there is no error.
    pub fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let shard = &mut self.0[index(key)];
        if shard.map.contains_key(key) {
            let shard = Arc::make_mut(shard);
            if let Some((key, old)) = shard.map.remove_entry(key) {
                shard.hash = shard.hash.wrapping_sub(content::hash(&(&key, &old)));
            }
        }
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().flat_map(|shard| &shard.map)
    }

    /// Of the content alone, whatever was done to get there.
    pub fn hash(&self) -> u64 {
        self.0.iter().fold(0, |sum, shard| sum.wrapping_add(shard.hash))
    }
}

// `DefaultHasher::new` has fixed keys: names chosen to collide share a shard, and nothing worse, since inside a shard the
// map has random keys.
fn index<Q: Hash + ?Sized>(key: &Q) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    (hasher.finish() % SHARDS as u64) as usize
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Shard {
            map: HashMap::new(),
            hash: 0,
        });
        Self((0..SHARDS).map(|_| empty.clone()).collect())
    }
}

impl<K, V> Clone for Sharded<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Clone, V: Clone> Clone for Shard<K, V> {
    fn clone(&self) -> Self {
        Self {
            map: self.map.clone(),
            hash: self.hash,
        }
    }
}

impl<K: Eq + Hash, V: PartialEq> PartialEq for Sharded<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .all(|(a, b)| Arc::ptr_eq(a, b) || a.map == b.map)
    }
}

impl<K: fmt::Debug + Ord, V: fmt::Debug> fmt::Debug for Sharded<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sorted: BTreeMap<_, _> = self.0.iter().flat_map(|shard| &shard.map).collect();
        f.debug_map().entries(sorted).finish()
    }
}

/// Sorted by key, so that equal snapshots print the same bytes.
impl<K: Serialize + Ord, V: Serialize> Serialize for Sharded<K, V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let sorted: BTreeMap<_, _> = self.0.iter().flat_map(|shard| &shard.map).collect();
        to.collect_map(sorted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;

    use super::*;
    use proptest::prelude::*;

    type Table = Sharded<Arc<str>, Arc<u32>>;

    fn build<'a>(entries: impl IntoIterator<Item = (&'a str, u32)>) -> Table {
        let mut table = Table::default();
        for (key, value) in entries {
            table.insert(key.into(), Arc::new(value));
        }
        table
    }

    proptest! {
        #[test]
        fn it_is_a_map_whose_hash_depends_on_its_content_alone(
            steps in vec(("[a-e]{1,2}", prop::option::weighted(0.7, 0..3u32)), 0..100),
        ) {
            let mut table = Table::default();
            let mut model = BTreeMap::new();
            for (key, value) in steps {
                match value {
                    Some(value) => {
                        table.insert(key.as_str().into(), Arc::new(value));
                        model.insert(key.clone(), value);
                    }
                    None => {
                        table.remove(key.as_str());
                        model.remove(&key);
                    }
                }
                prop_assert_eq!(table.get(key.as_str()).map(|v| **v), model.get(&key).copied());
            }
            let rebuilt = build(model.iter().rev().map(|(key, value)| (key.as_str(), *value)));
            prop_assert_eq!(table.iter().count(), model.len());
            prop_assert!(table == rebuilt);
            prop_assert_eq!(table.hash(), rebuilt.hash());
            prop_assert_eq!(serde_json::to_value(&table).unwrap(), serde_json::to_value(&model).unwrap());
        }
    }

    #[test]
    fn a_copy_does_not_see_later_changes() {
        let mut table = build([("a", 1), ("b", 2)]);
        let copy = table.clone();
        table.insert("a".into(), Arc::new(3));
        table.remove("b");
        assert!(copy == build([("a", 1), ("b", 2)]));
        assert!(table == build([("a", 3)]));
        assert_ne!(copy.hash(), table.hash());
    }

    #[test]
    fn a_change_copies_one_shard() {
        let table = build([("a", 1), ("b", 2), ("c", 3)]);
        let mut changed = table.clone();
        changed.insert("a".into(), Arc::new(4));
        let copied = table.0.iter().zip(&changed.0).filter(|(a, b)| !Arc::ptr_eq(a, b));
        assert_eq!(copied.count(), 1);
    }
}
