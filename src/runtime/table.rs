//! A table of runtime state by a stable identity.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

/// Entries live as long as somebody else holds them; the table alone keeps none.
#[derive(Debug)]
pub struct Table<K, V> {
    /// Some may be dead.
    pub entries: HashMap<K, Weak<V>>,
    /// Dead entries are swept when the table has grown past this.
    sweep_at: usize,
}

impl<K: Clone + Eq + Hash, V: Default> Table<K, V> {
    /// The living state of this key, or a new one. Sweeps dead entries whenever the table has doubled.
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
