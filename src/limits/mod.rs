//! The counting behind rate limits and connection limits: in this process, and in Redis for all replicas together.

pub mod shared;
pub mod sockets;
pub mod windows;
