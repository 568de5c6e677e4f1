//! What joins runtime state to the parts of a snapshot and outlives each snapshot.

pub mod handshakes;
pub mod lazy;
pub mod shrink;
pub mod slot;
pub mod table;
pub mod traffic;
pub mod turns;

pub use lazy::Lazy;
pub use slot::Slot;
pub use table::Table;
pub use traffic::Traffic;
