//! What the idle connections are synchronised with. It is a file of its own so that a test can put loom's in its place.

pub use std::sync::atomic::{AtomicU8, AtomicU64};

pub use futures_util::task::AtomicWaker;
pub use parking_lot::Mutex;
