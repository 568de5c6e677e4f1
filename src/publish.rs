//! The one task that owns the store: wait, compile, pair, swap, report. Everything that changes what is served passes here,
//! one change after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tracing::{debug, info};

use crate::compile::{self, Compiled, Input, Previous};
use crate::config::{Routing, Settings};
use crate::live::{Live, LiveCell};
use crate::snapshot::RunState;
use crate::state::State;
use crate::status::{Mailbox, Update};
use crate::store::{Batch, ObjectKey, Store};
use crate::telemetry::metrics::Published;
use crate::websocket::socket::end_spread;

/// Over how long the sockets of a Deployment that is deleted or Stopped are ended.
const END_WINDOW: Duration = Duration::from_secs(30);

pub struct Publisher {
    pub live: Arc<LiveCell>,
    pub state: Arc<State>,
    pub figures: Arc<Published>,
    /// None where no status is written: a folder has no apiserver.
    pub mailbox: Option<Arc<Mailbox>>,
    /// Where the tunnels run: ending sockets is theirs, not the control runtime's.
    pub data_plane: tokio::runtime::Handle,
}

impl Publisher {
    /// Until the sources are gone. `ready` turns true with the first full compile.
    pub async fn run(
        self,
        mut batches: mpsc::Receiver<Batch>,
        mut settings: watch::Receiver<Arc<Settings>>,
        own: compile::OwnListeners,
        ready: watch::Sender<bool>,
    ) {
        let mut store = Store::default();
        let mut previous = Previous::default();
        let mut version = 0;
        loop {
            let mut seen = Vec::new();
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(batch) => take(&mut store, batch, &mut seen),
                    None => return,
                },
                changed = settings.changed() => if changed.is_err() { return },
            }
            // What came while the last compile ran is compiled with this one.
            while let Ok(batch) = batches.try_recv() {
                take(&mut store, batch, &mut seen);
            }
            if !store.is_complete() {
                continue;
            }
            let routing = settings.borrow_and_update().routing.clone();
            previous = self.compile(&mut store, &routing, previous, &mut version);
            ready.send_replace(true);
            for seen in seen {
                self.figures.propagation.observe(seen.elapsed());
            }
        }
    }
}
