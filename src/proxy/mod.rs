//! The data plane: accepts connections, answers or forwards each request, and hands upgraded ones to `websocket`.
//! It reads the configuration only through `live`, once per request.

pub mod arrival;
pub mod balance;
pub mod body;
pub mod connection;
pub mod dial;
pub mod error;
pub mod exchange;
pub mod forward;
pub mod h2c;
pub mod headers;
pub mod incoming;
pub mod listener;
pub mod peer;
pub mod pool;
pub mod stream;
pub mod target;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::live::LiveCell;
use crate::state::State;

/// What every connection shares.
#[derive(Debug)]
pub struct Proxy {
    pub live: Arc<LiveCell>,
    pub state: Arc<State>,
    /// Cancelled when connections are to finish what they do and close.
    draining: CancellationToken,
    is_draining: AtomicBool,
    pub connections: connection::Count,
}

impl Proxy {
    pub fn new(live: Arc<LiveCell>, state: Arc<State>) -> Self {
        Self {
            live,
            state,
            draining: CancellationToken::new(),
            is_draining: AtomicBool::new(false),
            connections: connection::Count::default(),
        }
    }

    /// Connections close when their request is answered, idle ones at once. Open sockets stay.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        self.draining.cancel();
    }
}
