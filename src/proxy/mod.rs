//! The data plane: accepts connections, answers or forwards each request, and hands upgraded ones to `websocket`.
//! It reads the configuration only through `live`, once per request.

pub mod admission;
pub mod authorize;
pub mod backend;
pub mod body;
mod challenge;
pub mod client;
pub mod client_origin;
pub mod connections;
pub mod context;
pub mod error;
pub mod exchange;
pub mod forward;
pub mod h1;
pub mod h2;
pub mod headers;
pub mod linger;
pub mod listener;
pub mod peer;
pub mod permit;
pub mod request_log;
mod route;
pub mod target;
pub mod tls;
pub mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use connections::Connections;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::live::LiveCell;
use crate::live::state::State;
use crate::policy::Services;
use crate::snapshot::Listener;
use crate::telemetry::Telemetry;

/// What every connection shares.
#[derive(Debug)]
pub struct Proxy {
    /// Where requests find the snapshot in force.
    pub live: Arc<LiveCell>,
    /// Runtime state, which outlives every snapshot.
    pub state: Arc<State>,
    /// What TLS handshakes go by.
    pub tls: tls::server::Server,
    /// What rules are evaluated with.
    pub services: Arc<Services>,
    /// Whether HTTP/1 clients are told to come back by another connection.
    is_leaving: AtomicBool,
    /// Where requests are told of.
    pub telemetry: Arc<Telemetry>,
    /// Cancelled when connections are to finish what they do and close.
    draining: CancellationToken,
    is_draining: AtomicBool,
    /// The client connections that are open, and how many there may be.
    pub connections: Arc<Connections>,
    /// What a drain waits for: the client connections but for those that carry sockets alone.
    pub unfinished: TaskTracker,
}

impl Proxy {
    /// Nothing is accepted yet: `listener` does that.
    pub fn new(
        live: Arc<LiveCell>,
        state: Arc<State>,
        tls: tls::server::Server,
        services: Arc<Services>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self {
            connections: Arc::new(Connections::new(state.clone())),
            live,
            state,
            tls,
            services,
            is_leaving: AtomicBool::new(false),
            telemetry,
            draining: CancellationToken::new(),
            is_draining: AtomicBool::new(false),
            unfinished: TaskTracker::new(),
        }
    }

    /// What the listeners go by now; before the first compile, what they go by without any setting.
    pub fn listener(&self) -> Arc<Listener> {
        self.live
            .look()
            .as_ref()
            .map_or_else(Arc::default, |live| live.snapshot.listener.clone())
    }

    /// From now on each answer is its connection's last, and says so (RFC 9112 section 9.6): a connection that later closed
    /// while idle could meet a request on its way. HTTP/2's GOAWAY says which requests were not seen, and can wait.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Connections close when their request is answered, idle ones at once. Open sockets stay.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        self.draining.cancel();
    }
}
