//! Runtime state by stable key: what counts, pools and registers. It outlives every snapshot that refers to it, and goes
//! when no snapshot, request or socket does.

pub mod deployment;
pub mod endpoint;

pub use deployment::Deployment;
pub use endpoint::Endpoint;
