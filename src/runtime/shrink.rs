//! Tables that are large for a while: a storm's table is not kept for the few entries that stay.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

/// Gives memory back once less than an eighth of it is in use. Room for as many again is left, so that a table which shrinks
/// does not grow at the next entry.
pub fn shrink<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    if table.capacity() / 8 > table.len().max(8) {
        table.shrink_to(2 * table.len());
    }
}
