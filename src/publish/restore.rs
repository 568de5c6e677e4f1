//! The saved state: served from the start until the sources have said everything, and saved whenever something else is served.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tracing::{info, warn};

use super::gathering::Gathering;
use super::{Publisher, Work};
use crate::compile::source::SOURCES;
use crate::compile::{Input, Previous, compile};
use crate::config::Routing;
use crate::object::Kind;
use crate::saved_state::{SavedState, Saver};
use crate::snapshot::Listener;
use crate::store::{Batch, Changes, Event, Object, Shared, Store};

impl Work {
    /// A batch of the sources. Notes when what will be served now was seen.
    pub(super) fn take(&mut self, batch: Batch, seen: &mut Vec<Instant>) {
        match &mut self.gathering {
            Some(gathering) => gathering.take(batch),
            None => {
                seen.push(batch.seen);
                self.store.apply(batch);
            }
        }
    }

    /// Once the sources have said everything, it takes the place of the saved state. Returns whether it does now.
    pub(super) fn replace_saved(&mut self) -> bool {
        let Some(complete) = self.gathering.take_if(|gathering| gathering.is_complete()) else {
            return false;
        };
        apply(&mut self.store, complete.into_events());
        true
    }
}

impl Publisher {
    /// Serves a saved state, until the sources have said everything.
    pub(super) fn restore(
        &self,
        work: &mut Work,
        saved: SavedState<Object>,
        routing: &Routing,
        listener: &Arc<Listener>,
    ) {
        let SavedState {
            saved_at,
            objects,
            stand_ins,
        } = saved;
        let since = Timestamp::from_second(saved_at).unwrap_or_default();
        warn!(saved_at = %since, objects = objects.len(), "serving the saved state until the apiserver has been listed");
        *self.figures.stale_since.lock() = Some(since);
        (work.store, work.previous) = restored(objects, stand_ins, routing, listener);
        work.gathering = Some(Gathering::default());
        self.publish(work, routing, listener);
    }

    /// The sources have said everything, and that is served. The leader hears of all of it: it was told nothing before.
    pub(super) fn forget_saved(&self, work: &mut Work) {
        *self.figures.stale_since.lock() = None;
        work.unsaved = true;
        info!("the apiserver has been listed: the saved state is no longer served");
        let mut everything = Changes::default();
        let sources = SOURCES.iter().map(|source| source.kind);
        for kind in sources.chain([Kind::SentinelPolicy]) {
            everything.add(kind, work.store.keys(kind));
        }
        let reports = work.previous.reports();
        let reports: Vec<_> = reports
            .map(|report| (report.id.clone(), Some(report.clone())))
            .collect();
        self.report(&work.store, &everything, &work.previous, &reports);
    }

    /// Hands over what is served, if it was not saved yet.
    pub(super) fn save(&self, work: &mut Work) {
        if !std::mem::take(&mut work.unsaved) {
            return;
        }
        let Some(saver) = &self.saver else { return };
        saver.save(state(&work.store, &work.previous, Timestamp::now()));
    }
}

/// What has to be saved, so that the same is served of it.
pub fn state(store: &Store, previous: &Previous, now: Timestamp) -> SavedState<Shared> {
    SavedState {
        saved_at: now.as_second(),
        objects: store.objects().filter(|object| previous.uses(object)).collect(),
        stand_ins: previous.stand_ins().collect(),
    }
}

/// A store with these objects, and what a compile of it has to know of the past. The last good versions of Secrets and
/// ConfigMaps come of compiling them before the versions that are broken.
pub fn restored(
    objects: Vec<Object>,
    stand_ins: Vec<Object>,
    routing: &Routing,
    listener: &Arc<Listener>,
) -> (Store, Previous) {
    let mut previous = Previous::default();
    let mut holders = Vec::new();
    for object in stand_ins {
        match object {
            Object::SentinelPolicy(policy) => previous.remember(Arc::new(policy)),
            other => holders.push(other),
        }
    }
    let stood_in_for: BTreeSet<_> = holders.iter().map(Object::id).collect();
    let (broken, sound): (Vec<_>, Vec<_>) = objects
        .into_iter()
        .partition(|object| stood_in_for.contains(&object.id()));
    let mut store = Store::default();
    apply(&mut store, sound.into_iter().chain(holders).map(Event::Apply).collect());
    if !broken.is_empty() {
        let changes = Changes::default();
        let input = Input {
            store: &store,
            changes: &changes,
            listener,
        };
        previous = compile(&input, routing, previous).previous.last_good();
        apply(&mut store, broken.into_iter().map(Event::Apply).collect());
    }
    (store, previous)
}

fn apply(store: &mut Store, events: Vec<Event>) {
    let seen = Instant::now();
    store.apply(Batch { events, seen });
}

/// Resolves when a state can be saved; never, where none is.
pub(super) async fn free(saver: Option<&Saver>) {
    match saver {
        Some(saver) => saver.free().await,
        None => pending().await,
    }
}
