//! What a folder's files say, file by file and object by object, and what of it changed. It opens no file and watches
//! nothing: that is folder.rs' part.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use strum::VariantArray;
use tracing::warn;

use super::files;
use crate::object::{Kind, ObjectId};
use crate::store::{Event, Object};

/// How long something has to be gone until it counts as deleted. Editors save by moving files about, checkouts write one
/// file after the other; a deletion closes sockets.
pub const GRACE: Duration = Duration::from_millis(250);

/// The files of a folder, and what they claim.
#[derive(Default)]
pub struct Manifests {
    files: BTreeMap<Arc<Path>, Vec<Document>>,
    /// By object, who says something about it.
    claims: BTreeMap<ObjectId, Vec<Claim>>,
    /// What was told last.
    told: BTreeMap<ObjectId, Arc<Object>>,
    /// Objects that no file names any more, but that are not yet told to be deleted.
    vanishing: BTreeMap<ObjectId, Instant>,
    /// Objects that may have changed since `changes` was asked last.
    touched: BTreeSet<ObjectId>,
    /// Since `take_problems` was asked last.
    problems: Vec<Problem>,
    hasher: RandomState,
}

/// What cannot be used of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {reason}", .file.display(), .line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct Problem {
    pub file: PathBuf,
    /// None: it concerns the file as a whole.
    pub line: Option<usize>,
    /// It quotes nothing of a Secret.
    pub reason: String,
}

/// Documents are told apart by a keyed hash of their text: those that are unchanged are not parsed again.
struct Document {
    hash: u64,
    objects: Vec<ObjectId>,
    broken: bool,
    /// Not so if it was kept for some of its objects: seen again, it is parsed again.
    whole: bool,
}

struct Claim {
    file: Arc<Path>,
    document: u64,
    object: Arc<Object>,
}

impl Manifests {
    /// A file's new content. While any part of it cannot be understood, what its last version said and the new one does
    /// not stays: a half-saved file must not cut sockets.
    pub fn load(&mut self, path: &Path, text: &str) {
        let file: Arc<Path> = match self.files.get_key_value(path) {
            Some((file, _)) => file.clone(),
            None => path.into(),
        };
        let mut old: HashMap<u64, Document> = self.remove_documents(path);
        let mut documents: Vec<Document> = Vec::new();
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        let mut fresh: Vec<(usize, Vec<Object>)> = Vec::new();
        for part in files::documents(text) {
            let hash = self.hasher.hash_one(part.text);
            if !seen.insert(hash) {
                warn!(file = %path.display(), line = part.line, "duplicate document: the second one is ignored");
            } else if let Entry::Occupied(known) = old.entry(hash)
                && known.get().whole
            {
                documents.push(known.remove());
            } else {
                let (document, objects) = Document::parse(hash, path, part, &mut self.problems);
                fresh.push((documents.len(), objects));
                documents.push(document);
            }
        }
        if documents.iter().any(|document| document.broken) {
            keep_last_good(&mut documents, &mut fresh, &mut old);
        }
        for document in old.into_values() {
            self.drop_claims(path, document.hash, &document.objects);
        }
        for (place, objects) in fresh {
            self.add_claims(&file, &mut documents[place], objects);
        }
        self.files.insert(file, documents);
    }

    /// A file is gone.
    pub fn remove(&mut self, path: &Path) {
        for document in self.remove_documents(path).into_values() {
            self.drop_claims(path, document.hash, &document.objects);
        }
    }

    /// The paths of all known files, in their order.
    pub fn files(&self) -> impl Iterator<Item = &Arc<Path>> {
        self.files.keys()
    }

    /// Whether any known file lies in this folder.
    pub fn holds(&self, folder: &Path) -> bool {
        self.files
            .range::<Path, _>((Bound::Included(folder), Bound::Unbounded))
            .next()
            .is_some_and(|(file, _)| file.starts_with(folder))
    }

    /// What differs from what was told last. Deletions come once they are `GRACE` old.
    pub fn changes(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        let mut touched = std::mem::take(&mut self.touched);
        let due = self
            .vanishing
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= GRACE);
        touched.extend(due.map(|(id, _)| id.clone()));
        for id in touched {
            match (self.winner(&id), self.told.get(&id)) {
                (Some(new), Some(old)) if *new == **old => {
                    self.vanishing.remove(&id);
                }
                (Some(new), _) => {
                    self.vanishing.remove(&id);
                    events.push(Event::Apply((*new).clone()));
                    self.told.insert(id, new);
                }
                (None, Some(_)) => {
                    let since = *self.vanishing.entry(id.clone()).or_insert(now);
                    if now.duration_since(since) >= GRACE {
                        self.vanishing.remove(&id);
                        self.told.remove(&id);
                        events.push(Event::Delete(id));
                    }
                }
                (None, None) => {}
            }
        }
        events
    }

    /// Complete lists of what has been told.
    pub fn lists(&self) -> Vec<Event> {
        let keys = |kind| {
            self.told
                .keys()
                .filter(move |id| id.kind == kind)
                .map(|id| id.key.clone())
                .collect()
        };
        Kind::VARIANTS
            .iter()
            .map(|&kind| Event::Listed(kind, keys(kind)))
            .collect()
    }

    /// What could not be used of the files that were loaded since this was asked last.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    /// When `changes` should be asked again although nothing was loaded.
    pub fn due(&self) -> Option<Instant> {
        self.vanishing.values().min().map(|since| *since + GRACE)
    }

    /// If several files define an object, the first by path counts; within a file, the first document.
    fn winner(&self, id: &ObjectId) -> Option<Arc<Object>> {
        let claims = self.claims.get(id)?;
        let place = |claim: &&Claim| {
            let documents = self.files.get(&claim.file).map(Vec::as_slice).unwrap_or_default();
            (
                claim.file.clone(),
                documents.iter().position(|document| document.hash == claim.document),
            )
        };
        let winner = match claims.as_slice() {
            [claim] => claim,
            claims => claims.iter().min_by_key(place)?,
        };
        for claim in claims.iter().filter(|claim| !std::ptr::eq(*claim, winner)) {
            warn!(
                kind = %id.kind, object = %id.key, file = %winner.file.display(), ignored = %claim.file.display(),
                "object defined in several files: the first file by path is used"
            );
        }
        Some(winner.object.clone())
    }

    fn remove_documents(&mut self, path: &Path) -> HashMap<u64, Document> {
        let documents = self.files.remove(path).unwrap_or_default();
        documents
            .into_iter()
            .map(|document| (document.hash, document))
            .collect()
    }

    fn add_claims(&mut self, file: &Arc<Path>, document: &mut Document, objects: Vec<Object>) {
        for object in objects {
            let id = object.id();
            document.objects.push(id.clone());
            let claim = Claim {
                file: file.clone(),
                document: document.hash,
                object: Arc::new(object),
            };
            self.claims.entry(id.clone()).or_default().push(claim);
            self.touched.insert(id);
        }
    }

    fn drop_claims(&mut self, path: &Path, document: u64, ids: &[ObjectId]) {
        for id in ids {
            if let Some(claims) = self.claims.get_mut(id) {
                claims.retain(|claim| !(claim.document == document && *claim.file == *path));
                if claims.is_empty() {
                    self.claims.remove(id);
                }
            }
            self.touched.insert(id.clone());
        }
    }
}

impl Document {
    /// A document that was not known before, and its objects, which it does not claim yet.
    fn parse(hash: u64, file: &Path, part: files::Document<'_>, problems: &mut Vec<Problem>) -> (Self, Vec<Object>) {
        let mut document = Self {
            hash,
            objects: Vec::new(),
            broken: false,
            whole: true,
        };
        let mut objects = Vec::new();
        for parsed in part.parse() {
            let refused = match parsed {
                Ok(object) => {
                    let told = |reason: Arc<str>| {
                        let ObjectId { kind, key } = object.id();
                        (part.line, format!("{kind:?} {key}: {reason}"))
                    };
                    let refused = object.undecodable().map(told);
                    objects.push(object);
                    refused
                }
                Err(error) => Some((error.line, error.told())),
            };
            if let Some((line, reason)) = refused {
                document.broken = true;
                problems.push(Problem {
                    file: file.to_owned(),
                    line: Some(line),
                    reason,
                });
            }
        }
        (document, objects)
    }
}

/// Some part of the file is broken: documents that it no longer holds stay, unless a good one took their place; a broken
/// Deployment does not take the place of its own last good version.
fn keep_last_good(documents: &mut Vec<Document>, fresh: &mut [(usize, Vec<Object>)], old: &mut HashMap<u64, Document>) {
    let last: BTreeSet<ObjectId> = old
        .values()
        .flat_map(|document| document.objects.iter().cloned())
        .collect();
    for (_, objects) in fresh.iter_mut() {
        objects.retain(|object| object.undecodable().is_none() || !last.contains(&object.id()));
    }
    let known = documents.iter().flat_map(|document| document.objects.iter().cloned());
    let new: BTreeSet<ObjectId> = known
        .chain(fresh.iter().flat_map(|(_, objects)| objects.iter().map(Object::id)))
        .collect();
    let (kept, replaced): (Vec<_>, Vec<_>) = old
        .drain()
        .map(|(_, document)| document)
        .partition(|document| document.objects.iter().any(|id| !new.contains(id)));
    old.extend(replaced.into_iter().map(|document| (document.hash, document)));
    for mut document in kept {
        let objects = std::mem::take(&mut document.objects);
        let (replaced, kept): (Vec<_>, _) = objects.into_iter().partition(|id| new.contains(id));
        documents.push(Document {
            objects: kept,
            whole: document.whole && replaced.is_empty(),
            ..document
        });
        // What was replaced is dropped as if it had stood in a document of its own.
        document.objects = replaced;
        old.insert(document.hash, document);
    }
}

#[cfg(test)]
mod tests;
