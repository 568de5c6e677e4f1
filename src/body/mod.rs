//! The bodies of requests: how they are read from either side, which time they may take, and how much of them is kept.

pub mod clock;
pub mod incoming;
pub mod replayable;
pub mod request;
