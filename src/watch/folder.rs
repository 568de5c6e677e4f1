//! A folder of manifests as a source: first complete lists, then per change the difference. Which events of the file
//! system matter stands here; what files say, in manifests.rs.

mod error;

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use error::FolderError;
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::manifests::{GRACE, Manifests, Problem};
use crate::store::Batch;

/// A watched folder. Events wait from the moment it is opened.
pub struct Folder {
    reader: Reader,
    /// What was there when it was opened; None once that was sent.
    first: Option<Batch>,
    events: Receiver<notify::Event>,
    /// Events came faster than they were read, and some were dropped: everything has to be looked at.
    overflowed: Arc<AtomicBool>,
    _watcher: RecommendedWatcher,
}

/// The part that reads files, on a thread that may block.
struct Reader {
    root: PathBuf,
    manifests: Manifests,
    /// By file, how it looked from outside when it was read.
    stamps: BTreeMap<PathBuf, Stamp>,
    /// Files that could not be found, and since when.
    missing: BTreeMap<Arc<Path>, Instant>,
    /// What could not be used, since somebody asked last.
    problems: Vec<Problem>,
}

/// What tells a file's versions apart without opening it: length, time of change, inode.
#[derive(PartialEq)]
struct Stamp(u64, Option<SystemTime>, u64);

/// What has to be looked at.
enum Look {
    Nowhere,
    At(Vec<PathBuf>),
    Everywhere,
}

impl Folder {
    /// Watches the folder and all folders in it, and reads what is there. Fails if it is no folder, cannot be watched, or
    /// holds anything that cannot be used: there is no last good version that could stand in for it, and an app without its
    /// policy is worse than none. `lenient` goes without what is broken.
    pub async fn open(root: &Path, lenient: bool) -> Result<Self, FolderError> {
        let (mut folder, first) = Self::unread(root)?.look(Look::Everywhere).await;
        let mut first = first?;
        let problems = folder.reader.take_problems();
        if !lenient && !problems.is_empty() {
            return Err(FolderError::Unusable(problems));
        }
        for Problem { file, line, reason } in problems {
            warn!(file = %file.display(), line, reason, "invalid manifest: nothing stands in for it");
        }
        info!(folder = %folder.reader.root.display(), objects = first.events.len(), "manifests read");
        first.events.extend(folder.reader.manifests.lists());
        folder.first = Some(first);
        Ok(folder)
    }

    fn unread(root: &Path) -> Result<Self, FolderError> {
        if !root.is_dir() {
            return Err(FolderError::NotAFolder(root.to_owned()));
        }
        let root = root.canonicalize().map_err(|e| FolderError::Read(root.to_owned(), e))?;
        let (sender, events) = channel(EVENTS);
        let overflowed = Arc::new(AtomicBool::new(false));
        let overflow = overflowed.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let lost = match event {
                // Dropped here: our own reading makes as many events as there are files.
                Ok(event) if !concerns(&event) => false,
                Ok(event) => sender.try_send(event).is_err(),
                Err(error) => {
                    warn!(%error, "the watch on the manifests failed: reading all of them again");
                    true
                }
            };
            if lost {
                overflow.store(true, Ordering::Relaxed);
                // So that somebody looks at the flag; if the queue is full, somebody will anyway.
                let _ = sender.try_send(notify::Event::new(EventKind::Other));
            }
        })
        .map_err(|e| FolderError::Watch(root.clone(), e))?;
        watcher
            .watch(&root, RecursiveMode::Recursive)
            .map_err(|e| FolderError::Watch(root.clone(), e))?;
        Ok(Self {
            reader: Reader {
                root,
                manifests: Manifests::default(),
                stamps: BTreeMap::new(),
                missing: BTreeMap::new(),
                problems: Vec::new(),
            },
            first: None,
            events,
            overflowed,
            _watcher: watcher,
        })
    }

    /// Sends what is there, then what changes, until the receiver is gone.
    pub async fn watch(mut self, sender: &Sender<Batch>) {
        let mut batch = self.first.take();
        loop {
            if let Some(batch) = batch.filter(|batch| !batch.events.is_empty())
                && sender.send(batch).await.is_err()
            {
                return;
            }
            let look = tokio::select! {
                look = self.next() => look,
                () = sender.closed() => return,
            };
            let (folder, seen) = self.look(look).await;
            self = folder;
            for Problem { file, line, reason } in self.reader.take_problems() {
                warn!(file = %file.display(), line, reason, "invalid manifest: its last good version stays in force");
            }
            batch = match seen {
                Ok(batch) => Some(batch),
                Err(failure) => {
                    error!(error = %failure, "cannot read the manifests: the last ones read stay in force");
                    None
                }
            };
        }
    }

    /// What has changed, read on a thread that may block.
    async fn look(mut self, look: Look) -> (Self, Result<Batch, FolderError>) {
        let seen = Instant::now();
        let read = spawn_blocking(move || {
            let looked = self.reader.look(look);
            let batch = looked.map(|()| Batch {
                events: self.reader.manifests.changes(seen),
                seen,
            });
            (self, batch)
        });
        match read.await.map_err(|e| e.try_into_panic()) {
            Ok(done) => done,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and this with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }

    /// Waits until something has to be looked at; what is queued already is taken along.
    async fn next(&mut self) -> Look {
        let mut queued = Vec::new();
        loop {
            let due = self.reader.due();
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.events.recv_many(&mut queued, EVENTS) => {}
                () = timer => return Look::At(Vec::new()),
            }
            let mut paths = Vec::new();
            if self.overflowed.swap(false, Ordering::Relaxed) {
                return Look::Everywhere;
            }
            for event in queued.drain(..) {
                match self.reader.concern(&event) {
                    Look::Nowhere => {}
                    Look::At(more) => paths.extend(more),
                    Look::Everywhere => return Look::Everywhere,
                }
            }
            if !paths.is_empty() {
                paths.sort();
                paths.dedup();
                return Look::At(paths);
            }
        }
    }
}

impl Reader {
    fn look(&mut self, look: Look) -> Result<(), FolderError> {
        let paths = match look {
            Look::Nowhere => Vec::new(),
            Look::At(paths) => paths,
            Look::Everywhere => {
                let mut found = Vec::new();
                list(&self.root, 0, &mut found, &mut self.problems)
                    .map_err(|e| FolderError::Read(self.root.clone(), e))?;
                found.extend(self.manifests.files().map(|file| file.to_path_buf()));
                found.sort();
                found.dedup();
                // To open a file makes an event, and too many events make us look everywhere.
                found.retain(|path| match (path.metadata(), self.stamps.get(path)) {
                    (Ok(metadata), Some(known)) => Stamp::of(&metadata) != *known,
                    _ => true,
                });
                found
            }
        };
        let now = Instant::now();
        let overdue = self
            .missing
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= GRACE);
        let overdue: Vec<PathBuf> = overdue.map(|(path, _)| path.to_path_buf()).collect();
        for path in paths.into_iter().chain(overdue) {
            match read(&path) {
                Ok((stamp, text)) => {
                    self.missing.remove(&*path);
                    self.manifests.load(&path, &text);
                    self.stamps.insert(path, stamp);
                }
                // A link that leads nowhere was put there; any other name has just vanished.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_new_link(&path) => {
                    let since = *self.missing.entry(path.as_path().into()).or_insert(now);
                    if now.duration_since(since) >= GRACE {
                        self.missing.remove(&*path);
                        self.stamps.remove(&path);
                        self.manifests.remove(&path);
                    }
                }
                Err(error) => {
                    self.problems.push(Problem {
                        file: path,
                        line: None,
                        reason: format!("cannot be read: {error}"),
                    });
                }
            }
        }
        Ok(())
    }

    fn is_new_link(&self, path: &Path) -> bool {
        !self.stamps.contains_key(path) && path.is_symlink()
    }

    fn take_problems(&mut self) -> Vec<Problem> {
        let mut problems = std::mem::take(&mut self.problems);
        problems.append(&mut self.manifests.take_problems());
        problems
    }

    fn due(&self) -> Option<Instant> {
        let missing = self.missing.values().min().map(|since| *since + GRACE);
        [missing, self.manifests.due()].into_iter().flatten().min()
    }

    fn concern(&self, event: &notify::Event) -> Look {
        if event.need_rescan() {
            return Look::Everywhere;
        }
        let mut paths = Vec::new();
        for path in &event.paths {
            let Ok(inside) = path.strip_prefix(&self.root) else {
                continue;
            };
            let hidden = |prefix: &'static [u8]| {
                inside
                    .components()
                    .any(|part| matches!(part, Component::Normal(name) if name.as_encoded_bytes().starts_with(prefix)))
            };
            // A mounted ConfigMap is a link to a link to a folder: `..data` is moved to the next version's.
            if hidden(b"..") || inside.as_os_str().is_empty() {
                return Look::Everywhere;
            }
            if hidden(b".") {
                continue;
            }
            if path.is_dir() || self.manifests.holds(path) && !is_manifest(path) {
                return Look::Everywhere;
            }
            if is_manifest(path) {
                paths.push(path.clone());
            }
        }
        if paths.is_empty() {
            Look::Nowhere
        } else {
            Look::At(paths)
        }
    }
}

/// Whether an event can mean that a file says something else now.
fn concerns(event: &notify::Event) -> bool {
    match event.kind {
        // On Linux a file that was written is looked at when it is closed, not while it is half written.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_)) => !cfg!(target_os = "linux"),
        EventKind::Create(CreateKind::File) if cfg!(target_os = "linux") => {
            event.paths.iter().any(|path| path.is_symlink())
        }
        _ => true,
    }
}

/// Manifests in a folder and those below it. Hidden files and folders are an editor's or a ConfigMap's own business.
fn list(folder: &Path, depth: usize, found: &mut Vec<PathBuf>, problems: &mut Vec<Problem>) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            if depth >= MAX_DEPTH {
                warn!(folder = %path.display(), "folder ignored: it is nested too deep");
            } else if let Err(error) = list(&path, depth + 1, found, problems) {
                problems.push(Problem {
                    file: path,
                    line: None,
                    reason: format!("this folder cannot be read: {error}"),
                });
            }
        } else if is_manifest(&path) {
            found.push(path);
        }
    }
    Ok(())
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self(metadata.len(), metadata.modified().ok(), inode)
    }
}

fn read(path: &Path) -> io::Result<(Stamp, String)> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 64 MiB"));
    }
    Ok((Stamp::of(&metadata), std::fs::read_to_string(path)?))
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

const EVENTS: usize = 4096;
/// A loop of links ends here.
const MAX_DEPTH: usize = 16;
const MAX_SIZE: u64 = 64 << 20;

#[cfg(test)]
mod tests;
