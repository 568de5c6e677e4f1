//! The thread that writes states to the file, one after the other and not too often: nobody waits for it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, oneshot};
use tracing::{debug, info, warn};

use super::file::StateFile;
use super::state::SavedState;
use crate::store::Shared;

type State = SavedState<Shared>;

/// How attempts to save ended: postern_state_saves_total by result.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub saved: Counter,
    pub failed: Counter,
}

/// Takes states. When it is dropped, the thread ends with the state that it was given last.
#[derive(Debug)]
pub struct Saver {
    states: SyncSender<State>,
    free: Arc<Notify>,
}

/// The least time between two states.
const PAUSE: Duration = Duration::from_secs(1);
/// And, as a multiple of the time that the last one took: large states that change all the time take a tenth of a core.
const SHARE: u32 = 9;

impl Saver {
    /// Begins to wait for states. The answer comes when all of them are written.
    pub fn start(file: StateFile, counters: Counters) -> io::Result<(Self, oneshot::Receiver<()>)> {
        // Room for one that was called for, and the last one of all right behind it.
        let (states, received) = sync_channel(2);
        let free = Arc::new(Notify::new());
        let (ended, end) = oneshot::channel();
        let writer = Writer {
            file,
            counters,
            failing: None,
        };
        let notify = free.clone();
        thread::Builder::new().name("saver".to_owned()).spawn(move || {
            writer.run(&received, &notify);
            // Nobody may be there any more to hear it.
            let _ = ended.send(());
        })?;
        Ok((Self { states, free }, end))
    }

    /// Resolves when a state can be taken, once for each.
    pub async fn free(&self) {
        self.free.notified().await;
    }

    /// Takes a state: one each time that `free` has resolved, and one more at the end. Never waits.
    pub fn save(&self, state: State) {
        if self.states.try_send(state).is_err() {
            debug!("the saver takes no state");
        }
    }
}

struct Writer {
    file: StateFile,
    counters: Counters,
    /// What failed last. None: nothing has since something was saved.
    failing: Option<io::ErrorKind>,
}

impl Writer {
    fn run(mut self, states: &Receiver<State>, free: &Notify) {
        free.notify_one();
        while let Ok(state) = states.recv() {
            let took = self.save(state);
            match states.recv_timeout(PAUSE.max(took * SHARE)) {
                // Only one that is the last comes uncalled for.
                Ok(last) => drop(self.save(last)),
                Err(RecvTimeoutError::Timeout) => free.notify_one(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn save(&mut self, state: State) -> Duration {
        let started = Instant::now();
        let written = self.file.write(&state);
        let took = started.elapsed();
        let file = self.file.path();
        match written {
            Ok(()) => {
                self.counters.saved.inc();
                if self.failing.take().is_some() {
                    info!(file = %file.display(), "the state is saved again");
                }
                debug!(file = %file.display(), ?took, objects = state.objects.len(), "state saved");
            }
            Err(error) => {
                self.counters.failed.inc();
                // Once for each kind: it is tried again with every change.
                if self.failing.replace(error.kind()) != Some(error.kind()) {
                    warn!(file = %file.display(), %error, "cannot save the state: a restart without the apiserver would serve an older one or none");
                }
            }
        }
        took
    }
}

#[cfg(test)]
mod tests;
