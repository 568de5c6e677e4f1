//! Who owns a hostname, and what is served under it. Names are claimed by being listed; the oldest claim decides the
//! namespace, and within it each path goes to the oldest Deployment that has it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::snapshot::{HostName, PathMatch, Route};
use crate::store::ObjectKey;

/// All names that are claimed.
#[derive(Default)]
pub struct Names {
    names: HashMap<HostName, Claims>,
    /// Exact names that are claimed, by the parent that a wildcard over them would have.
    below: HashMap<Arc<str>, HashSet<Arc<str>>>,
}

/// The claims to one name, oldest first.
#[derive(Default)]
struct Claims {
    list: Vec<Claim>,
    /// The claim that decides the namespace, as of the last `settle`.
    owner: Option<Age>,
}

/// A Deployment lists a name.
pub struct Claim {
    age: Age,
    right: Right,
    /// As of the last `settle`.
    outcome: Option<Outcome>,
}

/// The order in which claims win: the older is the less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    pub created: i64,
    pub key: ObjectKey,
}

/// What a claim rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// The name is the Deployment's assigned one, or granted to its namespace.
    Given,
    /// Nothing but having been first.
    Age,
    /// Names are granted, and this one is not.
    None,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The namespace has the name; `lost` are the paths that older Deployments of it have.
    Served { lost: Box<[Lost]> },
    /// The name is another namespace's.
    Conflict { owner: ObjectKey },
    /// Names are granted, and this one is not.
    NotGranted,
    /// The name is under another namespace's wildcard.
    UnderWildcard { owner: ObjectKey },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Position among the Deployment's rules.
    pub rule: usize,
    pub to: ObjectKey,
}

/// What became of a name.
pub struct Settled {
    /// In the order of `Host::routes`. None: nobody owns the name. Empty: its owner has no usable path, and no wildcard of
    /// another's may answer in its place.
    pub routes: Option<Box<[Route]>>,
    /// Deployments that fare otherwise than before.
    pub affected: Vec<ObjectKey>,
    pub owner_changed: bool,
}

impl Names {
    pub fn claim(&mut self, name: &HostName, claim: Claim) {
        let claims = self.names.entry(name.clone()).or_insert_with(|| {
            if let (HostName::Exact(exact), Some(HostName::Wildcard(parent))) = (name, name.wildcard_above()) {
                self.below.entry(parent).or_default().insert(exact.clone());
            }
            Claims::default()
        });
        match claims.list.binary_search_by(|known| known.age.cmp(&claim.age)) {
            Ok(at) => claims.list[at] = claim,
            Err(at) => claims.list.insert(at, claim),
        }
    }

    /// The name itself is forgotten by the next `settle`, if this was the last claim.
    pub fn withdraw(&mut self, name: &HostName, age: &Age) {
        if let Some(claims) = self.names.get_mut(name)
            && let Ok(at) = claims.list.binary_search_by(|known| known.age.cmp(age))
        {
            claims.list.remove(at);
        }
    }

    pub fn outcome(&self, name: &HostName, age: &Age) -> Option<&Outcome> {
        let claims = &self.names.get(name)?.list;
        let at = claims.binary_search_by(|known| known.age.cmp(age)).ok()?;
        claims[at].outcome.as_ref()
    }

    /// The exact names that are claimed under a wildcard, in no order.
    pub fn below(&self, wildcard: &HostName) -> impl Iterator<Item = HostName> {
        let parent = match wildcard {
            HostName::Wildcard(parent) => self.below.get(parent),
            HostName::Exact(_) => None,
        };
        parent.into_iter().flatten().cloned().map(HostName::Exact)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.names.len().max(self.below.values().map(HashSet::len).sum())
    }

    /// Judges all claims to a name. Wildcards must be settled before the names below them.
    pub fn settle<'a>(&mut self, name: &HostName, routes: impl Fn(&ObjectKey) -> &'a [Route]) -> Settled {
        let wildcard = name
            .wildcard_above()
            .and_then(|wildcard| self.names.get(&wildcard)?.owner.clone());
        let Some(claims) = self.names.get_mut(name) else {
            return Settled::nothing(false);
        };
        if claims.list.is_empty() {
            let owned = claims.owner.is_some();
            self.forget(name);
            return Settled::nothing(owned);
        }

        let barred = claims.barred(wildcard.as_ref());
        let entitled = |claim: &Claim| match claim.right {
            Right::Given => true,
            Right::Age => !barred.contains(&claim.age.key.namespace),
            Right::None => false,
        };
        let owner = claims
            .list
            .iter()
            .find(|claim| entitled(claim))
            .map(|claim| claim.age.clone());

        let mut taken: HashMap<&'a PathMatch, ObjectKey> = HashMap::new();
        let mut served = Vec::new();
        let mut affected = Vec::new();
        for claim in &mut claims.list {
            let key = &claim.age.key;
            let outcome = match (&owner, &wildcard) {
                _ if claim.right == Right::None => Outcome::NotGranted,
                (_, Some(above)) if !entitled(claim) => Outcome::UnderWildcard {
                    owner: above.key.clone(),
                },
                (Some(owner), _) if owner.key.namespace != key.namespace => Outcome::Conflict {
                    owner: owner.key.clone(),
                },
                _ => {
                    let mut lost = Vec::new();
                    for (rule, route) in routes(key).iter().enumerate() {
                        match taken.get(&route.path) {
                            Some(to) => lost.push(Lost { rule, to: to.clone() }),
                            None => {
                                taken.insert(&route.path, key.clone());
                                served.push(route.clone());
                            }
                        }
                    }
                    Outcome::Served { lost: lost.into() }
                }
            };
            if claim.outcome.as_ref() != Some(&outcome) {
                claim.outcome = Some(outcome);
                affected.push(key.clone());
            }
        }
        served.sort_by(|a, b| precedence(&a.path).cmp(&precedence(&b.path)));
        let owner_changed = claims.owner != owner;
        claims.owner = owner;
        Settled {
            routes: claims.owner.is_some().then(|| served.into()),
            affected,
            owner_changed,
        }
    }

    fn forget(&mut self, name: &HostName) {
        self.names.remove(name);
        if let (HostName::Exact(exact), Some(HostName::Wildcard(parent))) = (name, name.wildcard_above())
            && let Some(below) = self.below.get_mut(&parent)
        {
            below.remove(exact);
            if below.is_empty() {
                self.below.remove(&parent);
            }
        }
    }
}

impl Claims {
    /// Namespaces that may not have the name by age alone: the wildcard above it is another's, and older than their
    /// oldest claim. A name that was there before the wildcard stays.
    fn barred(&self, wildcard: Option<&Age>) -> BTreeSet<Arc<str>> {
        let mut oldest: HashMap<&Arc<str>, &Age> = HashMap::new();
        for claim in &self.list {
            oldest.entry(&claim.age.key.namespace).or_insert(&claim.age);
        }
        let barred = |namespace: &Arc<str>, oldest: &Age| {
            wildcard.is_some_and(|above| above.key.namespace != *namespace && above < oldest)
        };
        oldest
            .into_iter()
            .filter(|(namespace, oldest)| barred(namespace, oldest))
            .map(|(namespace, _)| namespace.clone())
            .collect()
    }
}

impl Claim {
    pub fn new(age: Age, right: Right) -> Self {
        Self {
            age,
            right,
            outcome: None,
        }
    }
}

impl Settled {
    fn nothing(owner_changed: bool) -> Self {
        Self {
            routes: None,
            affected: Vec::new(),
            owner_changed,
        }
    }
}

/// Exact paths before prefixes, the longer prefix first; the text breaks ties, so that the order is always the same.
fn precedence(path: &PathMatch) -> (bool, Reverse<usize>, &str) {
    match path {
        PathMatch::Exact(text) => (false, Reverse(0), text),
        PathMatch::Prefix(text) => (true, Reverse(text.len()), text),
    }
}
