//! A table of runtime state by a stable identity.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

#[derive(Debug)]
pub struct Table<K, V> {
    pub entries: HashMap<K, Weak<V>>,
    /// Dead entries are swept when the table has grown past this.
    sweep_at: usize,
}

impl<K: Clone + Eq + Hash, V: Default> Table<K, V> {
    pub fn get_or_insert(&mut self, key: &K) -> Arc<V> {
        if let Some(state) = self.entries.get(key).and_then(Weak::upgrade) {
            return state;
        }
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, state| state.strong_count() > 0);
            self.sweep_at = 64 + self.entries.len() * 2;
        }
        let state = Arc::new(V::default());
        self.entries.insert(key.clone(), Arc::downgrade(&state));
        state
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            sweep_at: 64,
        }
    }
}
