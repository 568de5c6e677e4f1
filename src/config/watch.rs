//! The settings over time: the file is read again when it changes. Hot keys apply, others are named as waiting for a
//! restart, and an edit with a mistake in it changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::error::{Error, Invalid};
use super::flags::{Args, Flags};
use super::settings::Settings;
use super::{checked, effective, file};

/// An editor writes a file in several steps; it has come to rest when nothing happened for this long.
const QUIET: Duration = Duration::from_millis(50);
/// A file that never rests is read all the same.
const MAX_STEPS: usize = 20;
/// The kernel tells nothing about network file systems and some bind mounts.
const REREAD: Duration = Duration::from_secs(10);

/// The settings now and after every edit. The first must be right, or this fails. Runs until all receivers are dropped.
pub fn watch(args: Args) -> Result<watch::Receiver<Arc<Settings>>, Error> {
    // Watched before it is read, so that no edit falls between.
    let changes = args.config.as_deref().map(Changes::of);
    let flags = effective(&args)?;
    let (sender, receiver) = watch::channel(Arc::new(flags.settings()?));
    match (args.config, changes) {
        (Some(path), Some(changes)) => {
            tokio::spawn(Watched::new(path, args.flags, flags).follow(changes, sender));
        }
        // Receivers wait for a change that never comes, rather than see a closed channel.
        _ => drop(tokio::spawn(async move { sender.closed().await })),
    }
    Ok(receiver)
}

/// The settings file, and what of it applies.
pub(super) struct Watched {
    path: PathBuf,
    /// Flags and environment, beneath the file.
    base: Flags,
    /// What applies now.
    running: Flags,
    /// What the file last said, or why it could not be read.
    last: Option<Result<String, String>>,
    /// Keys already named as waiting for a restart.
    waiting: Vec<String>,
}

impl Watched {
    /// `base` is what the file overrides, `running` what applies until the file is read again.
    pub(super) fn new(path: PathBuf, base: Flags, running: Flags) -> Self {
        Self {
            path,
            base,
            running,
            last: None,
            waiting: Vec::new(),
        }
    }

    async fn follow(mut self, mut changes: Changes, sender: watch::Sender<Arc<Settings>>) {
        loop {
            self.reread(&sender);
            tokio::select! {
                () = sender.closed() => return,
                () = changes.next() => {}
                () = sleep(REREAD) => {}
            }
        }
    }

    /// Sends new settings if the file's text is another than last time and all of it can be used; an error is logged
    /// once per text.
    pub(super) fn reread(&mut self, sender: &watch::Sender<Arc<Settings>>) {
        let read = file::read(&self.path).map_err(|error| error.to_string());
        if self.last.as_ref() == Some(&read) {
            return;
        }
        let result = read
            .clone()
            .and_then(|text| self.apply(&text).map_err(|error| error.to_string()));
        self.last = Some(read);
        match result {
            Ok(settings) => {
                let settings = Arc::new(settings);
                let changed = sender.send_if_modified(|current| {
                    let changed = **current != *settings;
                    *current = settings;
                    changed
                });
                if changed {
                    info!(file = %self.path.display(), "settings changed");
                }
            }
            Err(error) => {
                error!(file = %self.path.display(), error, "invalid settings file: the previous settings stay in force");
            }
        }
    }

    fn apply(&mut self, text: &str) -> Result<Settings, Invalid> {
        let next = checked(&self.base, text)?;
        let (running, waiting) = self.running.adopt(&next)?;
        let settings = running.settings()?;
        if waiting != self.waiting && !waiting.is_empty() {
            warn!(file = %self.path.display(), keys = ?waiting, "some changed settings need a restart: the old values apply until then");
        }
        self.waiting = waiting;
        self.running = running;
        Ok(settings)
    }
}

/// Something may have changed at a path. Not what.
struct Changes {
    events: mpsc::Receiver<()>,
    /// Ends the events when dropped. None: the kernel would not watch, and only rereading notices an edit.
    _watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Watches the folder: a file that is replaced (editors, the `..data` link of a mounted ConfigMap) is another file.
    fn of(path: &Path) -> Self {
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let (sender, events) = mpsc::channel(1);
        let notice = move |event: notify::Result<notify::Event>| {
            // Our own reading is an access, too.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                // Full: one that was not yet looked at says the same.
                let _ = sender.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(notice).and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        if let Err(error) = &watcher {
            warn!(%error, reread = ?REREAD, "cannot watch the settings file's folder: the file is read at intervals instead");
        }
        Self {
            events,
            _watcher: watcher.ok(),
        }
    }

    /// Something happened, and has come to rest.
    async fn next(&mut self) {
        if self.events.recv().await.is_none() {
            return std::future::pending().await;
        }
        for _ in 0..MAX_STEPS {
            if timeout(QUIET, self.events.recv()).await.is_err() {
                return;
            }
        }
    }
}
