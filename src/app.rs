//! The only file that knows all parts: bind first, then spawn; returns the bound addresses and a handle to stop it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Settings;

/// A running Postern. Dropping it stops it at once; `shutdown` stops it in order.
pub struct App {
    pub addresses: Addresses,
}

/// What was bound: port 0 picks a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub http: SocketAddr,
    pub admin: SocketAddr,
}

impl App {
    /// Binds, spawns and returns. `settings` changes when the settings file does; hot keys take effect then.
    pub async fn start(_settings: watch::Receiver<Arc<Settings>>) -> anyhow::Result<Self> {
        todo!()
    }

    /// Resolves once the first full compile is served.
    pub async fn ready(&self) {
        todo!()
    }

    /// Resolves when a part that must not end has ended, with the reason: the process should exit then.
    pub async fn failed(&mut self) -> anyhow::Error {
        todo!()
    }

    /// Unready, serve on for the delay, stop accepting, finish requests, end sockets at the deadline.
    pub async fn shutdown(self) {
        todo!()
    }
}
