//! What joins runtime state to the parts of a snapshot and outlives each snapshot.

pub mod descriptors;
pub mod handshakes;
pub mod lazy;
pub mod memory;
pub mod shares;
pub mod shrink;
pub mod slot;
pub mod table;
pub mod traffic;
pub mod turns;
pub mod usage;
pub mod work;

pub use lazy::Lazy;
pub use slot::Slot;
pub use table::Table;
pub use traffic::Traffic;
