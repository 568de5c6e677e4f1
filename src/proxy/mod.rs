//! The data plane: accepts connections, answers or forwards each request, and hands upgraded ones to `websocket`.
//! It reads the configuration only through `live`, once per request.

pub mod balance;
pub mod body;
pub mod connection;
pub mod dial;
pub mod error;
pub mod exchange;
pub mod forward;
pub mod headers;
pub mod listener;
pub mod pool;
pub mod target;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::live::LiveCell;
use crate::state::State;

/// What every connection shares.
#[derive(Debug)]
pub struct Proxy {
    pub live: Arc<LiveCell>,
    pub state: Arc<State>,
    /// Cancelled when connections are to finish what they do and close.
    pub draining: CancellationToken,
    pub connections: connection::Count,
}
