//! A cache in a part of the snapshot: made of the part at its first use, and gone with it. Like a `Slot` it is no part of
//! the content, so it is neither compared nor printed; unlike one, nothing pairs it.

use std::fmt;
use std::sync::OnceLock;

/// Boxed, since most parts are compiled and never used.
pub struct Lazy<T>(OnceLock<Box<T>>);

impl<T: Default> Lazy<T> {
    /// The cache, empty at its first use.
    pub fn get(&self) -> &T {
        self.0.get_or_init(Box::default)
    }
}

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> PartialEq for Lazy<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> fmt::Debug for Lazy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lazy")
    }
}
