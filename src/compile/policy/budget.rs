//! What the policies of one namespace may take together, and those of all. In a namespace the older ones go first; where all
//! namespaces together want more than there is, those that want least get all they want, and the others equal shares.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compile::problem::Problem;
use crate::condition::ConditionReason;
use crate::object::ObjectKey;
use crate::policy::memory::Memory;

/// What every policy that can be compiled takes, whether it is taken or not.
#[derive(Default)]
pub struct Budgets {
    wanted: BTreeMap<ObjectKey, Wanted>,
    /// Bytes that are taken, by namespace, and in all.
    taken: BTreeMap<Arc<str>, usize>,
    all: usize,
    /// What a namespace may take now.
    bound: Option<usize>,
}

struct Wanted {
    created: i64,
    /// Of what is written and of the last good version; the first for which there is room is in force.
    versions: Vec<Memory>,
    /// Which one that is. As many as there are: none.
    taken: usize,
}

/// Bytes that the policies of one namespace may take.
pub const MAX_NAMESPACE: usize = 32 * 1024 * 1024;
/// Bytes that all policies may take.
pub const MAX_PROCESS: usize = 256 * 1024 * 1024;

impl Budgets {
    /// Which of a policy's versions is in force, for what the others take now. `settle` has the last word; until then nothing is
    /// kept that goes past a bound, so that all together never take much more than they may.
    pub fn take(&mut self, key: &ObjectKey, created: i64, versions: &[Memory]) -> Option<usize> {
        let is_known = |wanted: &Wanted| wanted.created == created && wanted.versions.starts_with(versions);
        if !self.wanted.get(key).is_some_and(is_known) {
            // What had no room a moment ago has none beside the version that is to stand in for it.
            let had_none = |wanted: &&Wanted| {
                wanted.created == created
                    && wanted.taken == wanted.versions.len()
                    && versions.starts_with(&wanted.versions)
            };
            let known = self.wanted.get(key).filter(had_none);
            let from = known.map_or(0, |wanted| wanted.versions.len());
            self.forget(key);
            let (near, all) = (self.taken_by(&key.namespace), self.all);
            let fits = |more: usize| near + more <= MAX_NAMESPACE && all + more <= MAX_PROCESS;
            let fitting = versions[from..]
                .iter()
                .position(|memory| memory.total() == 0 || fits(memory.total()));
            let wanted = Wanted {
                created,
                versions: versions.to_vec(),
                taken: fitting.map_or(versions.len(), |at| from + at),
            };
            self.change(&key.namespace, 0, wanted.memory().total());
            self.wanted.insert(key.clone(), wanted);
        }
        let taken = self.wanted.get(key)?.taken;
        (taken < versions.len()).then_some(taken)
    }

    /// It is gone, or nothing of it can be compiled.
    pub fn forget(&mut self, key: &ObjectKey) {
        if let Some(wanted) = self.wanted.remove(key) {
            self.change(&key.namespace, wanted.memory().total(), 0);
        }
    }

    /// Which versions are in force, whatever the order in which all came. Returns the policies for which that is another one now,
    /// those that take less first.
    pub fn settle(&mut self) -> Vec<ObjectKey> {
        let bound = self.fair_bound();
        let mut oldest_first: Vec<_> = self.wanted.iter_mut().collect();
        oldest_first.sort_by_key(|(key, wanted)| (key.namespace.clone(), wanted.created, *key));
        let (mut changed, mut sums) = (Vec::new(), BTreeMap::<Arc<str>, usize>::new());
        for (key, wanted) in oldest_first {
            let sum = sums.entry(key.namespace.clone()).or_default();
            let fits = |memory: &Memory| memory.total() == 0 || *sum + memory.total() <= bound;
            let taken = wanted.versions.iter().position(fits).unwrap_or(wanted.versions.len());
            *sum += wanted.versions.get(taken).map_or(0, |memory| memory.total());
            if taken != wanted.taken {
                changed.push((taken < wanted.taken, key.clone()));
                wanted.taken = taken;
            }
        }
        self.all = sums.values().sum();
        self.taken = sums;
        self.bound = Some(bound);
        changed.sort();
        changed.into_iter().map(|(_, key)| key).collect()
    }

    /// Why what is written of a policy is not taken.
    pub fn problem(&self, key: &ObjectKey, written: Memory) -> Problem {
        let kib = |bytes: usize| bytes.div_ceil(1024);
        let taken = kib(self.taken_by(&key.namespace));
        let bound = kib(self.bound.unwrap_or(MAX_NAMESPACE));
        let message = format!(
            "it would take {} KiB of memory (regexes {}, OpenAPI documents {}, keys and users {}); the policies of its namespace \
             take {taken} KiB of the {bound} KiB that they may take together",
            kib(written.total()),
            kib(written.regexes),
            kib(written.documents),
            kib(written.keys),
        );
        Problem::of_object(ConditionReason::Invalid, message)
    }

    /// Bytes that the policies of each namespace take.
    pub fn by_namespace(&self) -> &BTreeMap<Arc<str>, usize> {
        &self.taken
    }

    fn taken_by(&self, namespace: &Arc<str>) -> usize {
        self.taken.get(namespace).copied().unwrap_or_default()
    }

    fn change(&mut self, namespace: &Arc<str>, less: usize, more: usize) {
        let taken = self.taken.entry(namespace.clone()).or_default();
        *taken = *taken + more - less;
        self.all = self.all + more - less;
        if *taken == 0 {
            self.taken.remove(namespace);
        }
    }

    /// The bound of a namespace by which all together fit.
    fn fair_bound(&self) -> usize {
        let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, wanted) in &self.wanted {
            let most = wanted.versions.iter().map(|memory| memory.total()).max();
            *totals.entry(&key.namespace).or_default() += most.unwrap_or_default();
        }
        let mut least_first: Vec<_> = totals.into_values().map(|total| total.min(MAX_NAMESPACE)).collect();
        least_first.sort_unstable();
        let (mut left, mut others) = (MAX_PROCESS, least_first.len());
        for total in least_first {
            let share = left / others;
            if total > share {
                return share;
            }
            left -= total;
            others -= 1;
        }
        MAX_NAMESPACE
    }
}

impl Wanted {
    fn memory(&self) -> Memory {
        self.versions.get(self.taken).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
