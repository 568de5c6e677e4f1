//! What has changed and is not compiled yet. What is compiled in a moment goes at once: endpoints, routes, keys, what is gone.
//! What takes a while, regular expressions and large documents, is prepared elsewhere first, and then goes one object at a time;
//! the namespace that has taken the least lately goes first. So the change of one namespace waits for one object of others,
//! whatever they write.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::compile::policy::prepare::{Prepared, Slow};
use crate::object::{Kind, ObjectId};
use crate::runtime::usage::Usage;
use crate::store::{Changes, Store};

/// Nothing is here that was compiled.
#[derive(Default)]
pub struct Turns {
    light: Changes,
    /// By namespace, in the order in which they came. None is empty.
    heavy: BTreeMap<Arc<str>, VecDeque<Step>>,
    /// Those of `heavy` of which something is prepared.
    preparing: BTreeMap<ObjectId, Preparing>,
    usage: Usage,
    /// Whether what is light went last.
    was_light: bool,
    /// Whose turn it is, and what was prepared for it.
    namespace: Option<Arc<str>>,
    prepared: Vec<Preparing>,
}

/// What of a namespace is compiled together.
enum Step {
    Object(ObjectId),
    /// What asks for routes, after the policies that were written before: it is not to be served without them.
    Routes(BTreeSet<ObjectId>),
}

enum Preparing {
    /// Not begun.
    Wanted(Slow, u8),
    /// Under way, the so-manieth time. With what it is by now, if that has changed.
    Running(u8, Option<Slow>),
    /// To be compiled.
    Done { _kept: Prepared, tries: u8 },
}

/// What changes faster than it can be prepared is compiled as it is, now and then.
const MAX_TRIES: u8 = 3;

impl Turns {
    /// More has changed; what it is now stands in the store.
    pub fn add(&mut self, changes: Changes, store: &Store) {
        let mut routes = Vec::new();
        self.light.observed.extend(changes.observed.iter().cloned());
        for id in changes.all() {
            match (Slow::of(&id, store), id.kind) {
                (Some(slow), _) => self.queue(id, slow),
                (None, Kind::Deployment) => routes.push(id),
                (None, _) => {
                    self.forget(&id);
                    self.light.extend([id]);
                }
            }
        }
        for id in routes {
            match self.heavy.get_mut(id.namespace()) {
                None => self.light.extend([id]),
                Some(steps) => match steps.back_mut() {
                    Some(Step::Routes(routes)) => {
                        routes.insert(id);
                    }
                    _ => steps.push_back(Step::Routes([id].into())),
                },
            }
        }
    }

    /// What is to be compiled next. None: nothing has changed.
    pub fn next(&mut self) -> Option<Changes> {
        self.namespace = None;
        let light = !self.light.is_empty() || !self.light.observed.is_empty();
        let has_heavy = self.heavy.values().any(|steps| self.is_ready(steps));
        if light && (!has_heavy || !self.was_light) {
            self.was_light = true;
            return Some(mem::take(&mut self.light));
        }
        self.was_light = false;
        let now = Instant::now();
        let used = |namespace: &Arc<str>| self.usage.of(namespace, now);
        let ready = self.heavy.iter().filter(|(_, steps)| self.is_ready(steps));
        let next = ready
            .map(|(namespace, _)| namespace)
            .min_by(|a, b| used(a).total_cmp(&used(b)))?;
        let next = next.clone();
        let steps = self.heavy.get_mut(&next)?;
        let mut changes = Changes::default();
        match steps.pop_front()? {
            Step::Object(id) => {
                self.prepared.extend(self.preparing.remove(&id));
                changes.extend([id]);
            }
            Step::Routes(ids) => changes.extend(ids),
        }
        // What follows it is compiled in a moment.
        if let Some(Step::Routes(ids)) = steps.pop_front_if(|step| matches!(step, Step::Routes(_))) {
            changes.extend(ids);
        }
        if steps.is_empty() {
            self.heavy.remove(&next);
        }
        self.namespace = Some(next);
        Some(changes)
    }

    /// All at once, for a compile of everything.
    pub fn all(&mut self) -> Changes {
        self.namespace = None;
        self.preparing.clear();
        let mut changes = mem::take(&mut self.light);
        for step in mem::take(&mut self.heavy).into_values().flatten() {
            match step {
                Step::Object(id) => changes.extend([id]),
                Step::Routes(ids) => changes.extend(ids),
            }
        }
        changes
    }

    /// How long what was next has taken.
    pub fn took(&mut self, time: Duration) {
        self.prepared.clear();
        if let Some(namespace) = self.namespace.take() {
            self.usage.add(&namespace, time, Instant::now());
        }
    }

    /// Whether something can be compiled.
    pub fn has_next(&self) -> bool {
        !self.light.is_empty()
            || !self.light.observed.is_empty()
            || self.heavy.values().any(|steps| self.is_ready(steps))
    }

    /// What is to be prepared; `done` is to hear of each.
    pub fn take_wanted(&mut self) -> Vec<(ObjectId, Slow)> {
        let wanted = self.preparing.iter_mut().filter_map(|(id, preparing)| {
            let Preparing::Wanted(_, tries) = preparing else {
                return None;
            };
            let running = Preparing::Running(*tries, None);
            match mem::replace(preparing, running) {
                Preparing::Wanted(slow, _) => Some((id.clone(), slow)),
                _ => None,
            }
        });
        wanted.collect()
    }

    /// It was prepared; what has changed meanwhile is prepared again, a few times.
    pub fn done(&mut self, id: &ObjectId, prepared: Prepared) {
        if let Some(preparing) = self.preparing.get_mut(id)
            && let Preparing::Running(tries, newer) = preparing
        {
            let tries = *tries;
            *preparing = match newer.take().filter(|_| tries < MAX_TRIES) {
                Some(slow) => Preparing::Wanted(slow, tries + 1),
                None => Preparing::Done { _kept: prepared, tries },
            };
        }
    }

    fn is_ready(&self, steps: &VecDeque<Step>) -> bool {
        match steps.front() {
            Some(Step::Object(id)) => matches!(self.preparing.get(id), None | Some(Preparing::Done { .. })),
            Some(Step::Routes(_)) => true,
            None => false,
        }
    }

    /// Keeps its place if it has one: the store has its last version.
    fn queue(&mut self, id: ObjectId, slow: Slow) {
        match self.preparing.get_mut(&id) {
            Some(Preparing::Running(_, newer)) => *newer = Some(slow),
            Some(Preparing::Wanted(older, _)) => *older = slow,
            Some(Preparing::Done { tries, .. }) if *tries >= MAX_TRIES => {}
            Some(preparing) => {
                if let Preparing::Done { tries, .. } = *preparing {
                    *preparing = Preparing::Wanted(slow, tries + 1);
                }
            }
            None => {
                self.preparing.insert(id.clone(), Preparing::Wanted(slow, 1));
            }
        }
        let steps = self.heavy.entry(id.namespace().clone()).or_default();
        if !steps
            .iter()
            .any(|step| matches!(step, Step::Object(known) if *known == id))
        {
            steps.push_back(Step::Object(id));
        }
    }

    /// It is gone, or has become small: it need not wait.
    fn forget(&mut self, id: &ObjectId) {
        let Some(steps) = self.heavy.get_mut(id.namespace()) else {
            return;
        };
        self.preparing.remove(id);
        steps.retain(|step| !matches!(step, Step::Object(known) if known == id));
        if steps.is_empty() {
            self.heavy.remove(id.namespace());
        }
    }
}

#[cfg(test)]
mod tests;
