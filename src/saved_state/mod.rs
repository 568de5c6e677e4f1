//! What the apiserver has said, on disk: a process that starts while the apiserver is away serves it. When it is saved, and
//! what comes of it at a start, is publish's.

mod file;
mod saver;
mod state;

pub use file::{StateFile, Unusable};
pub use saver::{Counters, Saver};
pub use state::SavedState;
