//! When which certificate is ordered: renewal, back-off, and the bounds over all and for each namespace. No I/O and no clock: the
//! time is passed in, in Unix seconds, and so is chance. What an order is, `order` knows.
//!
//! Tally are few, and tenants make up as many names as they like. So the namespace that has begun the fewest within the
//! hour goes next, none may have all of an hour's, and new names leave some of them to renewals: whatever others want, a
//! certificate is renewed long before it ends.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::object::{ObjectId, ObjectKey};

/// A certificate that a Deployment wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub hostname: Arc<str>,
    /// Where the certificate is kept.
    pub secret: ObjectKey,
    /// The validity of the certificate that exists. None: no certificate can be used.
    pub validity: Option<Validity>,
}

/// In Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: i64,
    pub not_after: i64,
}

/// One order to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub hostname: Arc<str>,
    pub secret: ObjectKey,
}

/// What comes of an order that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    Ordinary,
    /// The server has asked for fewer orders.
    RateLimited,
}

#[derive(Debug, Default)]
pub struct Schedule {
    /// By Secret: Deployments of a namespace may share a hostname, and then share its certificate.
    entries: BTreeMap<ObjectKey, Entry>,
    /// The Secrets that each object wants filled.
    wanted: BTreeMap<ObjectId, Vec<ObjectKey>>,
    queue: BTreeSet<(i64, ObjectKey)>,
    /// The orders that began within the last hour.
    begun: VecDeque<Begun>,
    in_flight: usize,
}

#[derive(Debug)]
struct Begun {
    at: i64,
    namespace: Arc<str>,
    /// There was no certificate.
    new: bool,
}

#[derive(Debug)]
struct Entry {
    hostname: Arc<str>,
    /// Empty: nobody wants it any more. It is remembered until its rest is over, lest deleting and creating an object
    /// were a way around the back-off.
    wanted_by: BTreeSet<ObjectId>,
    validity: Option<Validity>,
    failures: u32,
    /// Not before this time.
    rest: i64,
    in_flight: bool,
    queued: Option<i64>,
}

impl Schedule {
    /// All that an object wants now; nothing, if it is gone. Returns the hostnames for which it needs no order any more.
    pub fn track(&mut self, object: ObjectId, wanted: Vec<Wanted>, now: i64) -> Vec<Arc<str>> {
        let mut content = Vec::new();
        let secrets: Vec<_> = wanted.iter().map(|wanted| wanted.secret.clone()).collect();
        let old = self.wanted.remove(&object).unwrap_or_default();
        for secret in old.iter().filter(|secret| !secrets.contains(secret)) {
            if let Some(entry) = self.entries.get_mut(secret) {
                entry.wanted_by.remove(&object);
                content.push(entry.hostname.clone());
                self.enqueue(secret);
            }
        }
        for Wanted {
            hostname,
            secret,
            validity,
        } in wanted
        {
            if validity.is_some_and(|validity| now < validity.renewal(&hostname)) {
                content.push(hostname.clone());
            }
            let entry = self.entries.entry(secret.clone()).or_insert_with(|| Entry {
                hostname,
                wanted_by: BTreeSet::new(),
                validity,
                failures: 0,
                rest: i64::MIN,
                in_flight: false,
                queued: None,
            });
            entry.wanted_by.insert(object.clone());
            entry.validity = validity;
            self.enqueue(&secret);
        }
        if !secrets.is_empty() {
            self.wanted.insert(object, secrets);
        }
        content
    }

    /// Who wants the certificate in this Secret.
    pub fn wanted_by(&self, secret: &ObjectKey) -> impl Iterator<Item = &ObjectId> {
        self.entries.get(secret).into_iter().flat_map(|entry| &entry.wanted_by)
    }

    /// What was on its way is given up; back-off and counts stay.
    pub fn give_up_all(&mut self) {
        self.in_flight = 0;
        let secrets: Vec<_> = self.entries.keys().cloned().collect();
        for secret in secrets {
            if let Some(entry) = self.entries.get_mut(&secret) {
                entry.in_flight = false;
            }
            self.enqueue(&secret);
        }
    }

    /// The next order, begun. Namespaces take turns; of one's own, first those that have not failed: many that fail keep none
    /// that would succeed waiting. And of those renewals.
    pub fn begin(&mut self, now: i64) -> Option<Job> {
        self.forget(now);
        if self.in_flight >= IN_FLIGHT {
            return None;
        }
        let room = self.room();
        let due = self.queue.iter().take_while(|(due, _)| *due <= now);
        let ready = due.filter_map(|(due, secret)| {
            let entry = self.entries.get(secret)?;
            let own = room.of(&secret.namespace);
            let rank = (own.count, entry.failures, entry.is_new(), *due, secret);
            room.full_until(secret, entry).is_none().then_some(rank)
        });
        let (.., due, secret) = ready.min()?;
        let secret = secret.clone();
        self.queue.remove(&(due, secret.clone()));
        let entry = self.entries.get_mut(&secret)?;
        entry.queued = None;
        entry.in_flight = true;
        self.in_flight += 1;
        self.begun.push_back(Begun {
            at: now,
            namespace: secret.namespace.clone(),
            new: entry.is_new(),
        });
        Some(Job {
            hostname: entry.hostname.clone(),
            secret,
        })
    }

    /// From when on `begin` may have something, if nothing changes before.
    pub fn wake(&mut self, now: i64) -> Option<i64> {
        self.forget(now);
        if self.in_flight >= IN_FLIGHT {
            return None;
        }
        let room = self.room();
        let mut wake = None;
        for (due, secret) in &self.queue {
            if wake.is_some_and(|wake| wake <= *due) {
                break;
            }
            let full = self
                .entries
                .get(secret)
                .and_then(|entry| room.full_until(secret, entry));
            let ready = full.map_or(*due, |until| until.max(*due));
            wake = Some(wake.map_or(ready, |wake: i64| wake.min(ready)));
        }
        wake
    }

    /// The certificate was obtained, or was there after all.
    pub fn succeed(&mut self, secret: &ObjectKey, validity: Validity, now: i64) {
        if let Some(entry) = self.land(secret) {
            entry.validity = Some(validity);
            entry.failures = 0;
            entry.rest = now.saturating_add(SETTLE).min(validity.renewal(&entry.hostname));
        }
        self.enqueue(secret);
    }

    /// Returns after how many seconds it is tried again. `chance` is within 0..1.
    pub fn fail(&mut self, secret: &ObjectKey, setback: Setback, now: i64, chance: f64) -> i64 {
        let mut rest = 0;
        if let Some(entry) = self.land(secret) {
            entry.failures = entry.failures.saturating_add(1);
            rest = back_off(entry.failures, chance);
            if setback == Setback::RateLimited {
                rest = rest.max(HOUR);
            }
            entry.rest = now.saturating_add(rest);
        }
        self.enqueue(secret);
        rest
    }

    fn land(&mut self, secret: &ObjectKey) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(secret).filter(|entry| entry.in_flight)?;
        entry.in_flight = false;
        self.in_flight -= 1;
        Some(entry)
    }

    fn enqueue(&mut self, secret: &ObjectKey) {
        let Some(entry) = self.entries.get_mut(secret) else {
            return;
        };
        if let Some(due) = entry.queued.take() {
            self.queue.remove(&(due, secret.clone()));
        }
        if entry.in_flight {
            return;
        }
        let due = match entry.validity {
            Some(validity) if !entry.wanted_by.is_empty() => validity.renewal(&entry.hostname).max(entry.rest),
            _ => entry.rest,
        };
        entry.queued = Some(due);
        self.queue.insert((due, secret.clone()));
    }

    /// What is over: orders of more than an hour ago, and the rests of those that nobody wants any more.
    fn forget(&mut self, now: i64) {
        while self
            .begun
            .front()
            .is_some_and(|begun| begun.at.saturating_add(HOUR) <= now)
        {
            self.begun.pop_front();
        }
        let due = self.queue.iter().take_while(|(due, _)| *due <= now);
        let unwanted = due.filter(|(_, secret)| self.entries.get(secret).is_none_or(|e| e.wanted_by.is_empty()));
        for (due, secret) in unwanted.cloned().collect::<Vec<_>>() {
            self.entries.remove(&secret);
            self.queue.remove(&(due, secret));
        }
    }

    fn room(&self) -> Room<'_> {
        let mut room = Room::default();
        for begun in &self.begun {
            room.all.add(begun.at);
            room.namespaces.entry(&begun.namespace).or_default().add(begun.at);
            if begun.new {
                room.new.add(begun.at);
            }
        }
        room
    }
}

/// What has begun within the hour.
#[derive(Default)]
struct Room<'a> {
    all: Tally,
    new: Tally,
    namespaces: HashMap<&'a str, Tally>,
}

/// The orders of one kind within the hour.
#[derive(Clone, Copy, Default)]
struct Tally {
    count: usize,
    /// When the first of them began.
    first: i64,
}

impl Room<'_> {
    fn of(&self, namespace: &str) -> Tally {
        self.namespaces.get(namespace).copied().unwrap_or_default()
    }

    /// Until when this one may not begin, because as many as may of some kind that it is of have begun.
    fn full_until(&self, secret: &ObjectKey, entry: &Entry) -> Option<i64> {
        let all = self.all.full_until(PER_HOUR);
        let new = self.new.full_until(NEW_PER_HOUR).filter(|_| entry.is_new());
        let own = self.of(&secret.namespace).full_until(NAMESPACE_PER_HOUR);
        all.max(new).max(own)
    }
}

impl Tally {
    fn add(&mut self, at: i64) {
        if self.count == 0 {
            self.first = at;
        }
        self.count += 1;
    }

    fn full_until(self, limit: usize) -> Option<i64> {
        (self.count >= limit).then(|| self.first.saturating_add(HOUR))
    }
}

impl Entry {
    /// Not a renewal.
    fn is_new(&self) -> bool {
        self.validity.is_none()
    }
}

impl Validity {
    /// At two thirds of the lifetime and somewhat later. How much later is settled by the certificate, so that every look
    /// at it, and every leader, finds the same time.
    pub fn renewal(self, hostname: &str) -> i64 {
        let lifetime = self.not_after.saturating_sub(self.not_before).max(0);
        let mut chance = DefaultHasher::new();
        (hostname, self.not_after).hash(&mut chance);
        let spread = MAX_SPREAD.min(lifetime / 24).max(1);
        let later = chance.finish() % spread.unsigned_abs();
        self.not_before
            .saturating_add(lifetime / 3 * 2)
            .saturating_add(later.cast_signed())
    }
}

/// One minute, then three times as long each time, up to six hours.
fn back_off(failures: u32, chance: f64) -> i64 {
    let steady = 3_i64
        .saturating_pow(failures.saturating_sub(1))
        .saturating_mul(60)
        .min(5 * HOUR);
    steady + (steady as f64 * 0.2 * chance) as i64
}

const HOUR: i64 = 3600;
const MAX_SPREAD: i64 = 4 * HOUR;
const IN_FLIGHT: usize = 4;
/// Let's Encrypt takes 300 new orders of an account in three hours.
const PER_HOUR: usize = 90;
/// Those for names that have no certificate: what is left is for renewals.
const NEW_PER_HOUR: usize = 60;
/// Those of one namespace.
const NAMESPACE_PER_HOUR: usize = 45;
/// What was obtained is believed for a while, since the watch may lag behind.
const SETTLE: i64 = 60;

#[cfg(test)]
mod tests;
