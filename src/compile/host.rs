//! Who owns a hostname, and what is served under it. Names are claimed by being listed; the oldest claim decides the
//! namespace, and within it each path goes to the oldest Deployment that has it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::intent::{Age, Right};
use crate::hostname::HostName;
use crate::matching::Matches;
use crate::object::ObjectId;
use crate::snapshot::{self, ClientTls, HostTls, Route};
use crate::tls::Certificate;

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

/// An object asks for a name.
pub struct Claim {
    age: Age,
    right: Right,
    /// As of the last `settle`.
    outcome: Option<Outcome>,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The namespace has the name; `lost` are the rules that older objects of it have.
    Served { lost: Box<[Lost]>, tls: HostnameTls },
    /// The name is another namespace's.
    Conflict { owner: ObjectId },
    /// The name is assigned to this claim's object, but granted to another namespace, which claims it too.
    Outranked { owner: ObjectId },
    /// Names are granted, and this one is not.
    NotGranted,
    /// The name is under another namespace's wildcard.
    UnderWildcard { owner: ObjectId },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Position in `Intent::rules`.
    pub rule: usize,
    pub to: ObjectId,
}

/// What TLS a name has, as one of those who share it sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostnameTls {
    /// Whether it has certificates of its own, whoever's they are.
    pub own: bool,
    /// Whose certificates are served, where this claim has others.
    pub certificates_of: Option<ObjectId>,
    /// By whose rule clients are met, where this claim has another.
    pub client_of: Option<ObjectId>,
}

/// What an object has to offer under a name.
#[derive(Clone, Copy, Default)]
pub struct HostOffer<'a> {
    pub routes: &'a [Route],
    pub certificates: &'a [Arc<Certificate>],
    pub client: Option<&'a Arc<ClientTls>>,
}

/// What became of a name.
pub struct Settled {
    /// In the order of `Host::routes`. None: nobody owns the name. Empty: its owner has no usable path, and no wildcard of
    /// another's may answer in its place.
    pub host: Option<(Box<[Route]>, HostTls)>,
    /// Objects that fare otherwise than before.
    pub affected: Vec<ObjectId>,
    pub owner_changed: bool,
}

impl Names {
    /// A claim of the same age takes the place of the one before. It is judged by the next `settle`.
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

    /// As of the last `settle`. None: there is no such claim, or it was not judged yet.
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

    /// The claim that decides whose the name is.
    pub fn owner(&self, name: &HostName) -> Option<&ObjectId> {
        Some(&self.names.get(name)?.owner.as_ref()?.id)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.names.len().max(self.below.values().map(HashSet::len).sum())
    }

    /// Judges all claims to a name. Wildcards must be settled before the names below them.
    pub fn settle<'a>(&mut self, name: &HostName, offer: impl Fn(&ObjectId) -> HostOffer<'a>) -> Settled {
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
        let ruling = claims.ruling(wildcard);
        let serving = claims.list.iter().filter(|claim| ruling.refusal(claim).is_none());
        let tls = OldestTls::of(serving.map(|claim| (&claim.age.id, offer(&claim.age.id))));
        let mut served = ServedRoutes::default();
        let mut affected = Vec::new();
        for claim in &mut claims.list {
            let outcome = ruling.refusal(claim).unwrap_or_else(|| {
                let offer = offer(&claim.age.id);
                Outcome::Served {
                    lost: served.add(&claim.age.id, offer.routes),
                    tls: tls.seen_by(&offer),
                }
            });
            if claim.outcome.as_ref() != Some(&outcome) {
                claim.outcome = Some(outcome);
                affected.push(claim.age.id.clone());
            }
        }
        let owner_changed = claims.owner != ruling.owner;
        claims.owner = ruling.owner;
        let host = claims.owner.is_some().then(|| (served.in_order(), tls.into()));
        Settled {
            host,
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

/// Who may have a name, of those who claim it.
struct Ruling {
    /// The claim that decides the namespace.
    owner: Option<Age>,
    /// That claim rests on a grant.
    is_granted: bool,
    /// The owner of the wildcard above the name.
    wildcard: Option<Age>,
    /// Namespaces that may not have the name by age alone.
    barred: BTreeSet<Arc<str>>,
}

impl Ruling {
    /// Whether the claim counts at all.
    fn is_entitled(&self, claim: &Claim) -> bool {
        match claim.right {
            Right::Granted | Right::Assigned => true,
            Right::Age => !self.barred.contains(claim.age.id.namespace()),
            Right::None => false,
        }
    }

    /// None: the claim is served.
    fn refusal(&self, claim: &Claim) -> Option<Outcome> {
        let of = |age: &Age| age.id.clone();
        match (&self.owner, &self.wildcard) {
            _ if claim.right == Right::None => Some(Outcome::NotGranted),
            (_, Some(above)) if !self.is_entitled(claim) => Some(Outcome::UnderWildcard { owner: of(above) }),
            (Some(owner), _) if owner.id.namespace() != claim.age.id.namespace() => {
                let owner = of(owner);
                Some(match claim.right {
                    Right::Assigned if self.is_granted => Outcome::Outranked { owner },
                    _ => Outcome::Conflict { owner },
                })
            }
            _ => None,
        }
    }
}

/// The routes of those who share a name: what an older one matches, a younger one does not get.
#[derive(Default)]
struct ServedRoutes<'a> {
    taken: HashMap<&'a Matches, ObjectId>,
    routes: Vec<Route>,
}

impl<'a> ServedRoutes<'a> {
    /// Returns those that older objects have already.
    fn add(&mut self, id: &ObjectId, routes: &'a [Route]) -> Box<[Lost]> {
        let mut lost = Vec::new();
        for (rule, route) in routes.iter().enumerate() {
            match self.taken.get(&route.matches) {
                Some(to) => lost.push(Lost { rule, to: to.clone() }),
                None => {
                    self.taken.insert(&route.matches, id.clone());
                    self.routes.push(route.clone());
                }
            }
        }
        lost.into()
    }

    fn in_order(mut self) -> Box<[Route]> {
        snapshot::host::order(&mut self.routes);
        self.routes.into()
    }
}

/// What the oldest of those who share a name have to offer of TLS, and who they are: certificates and a rule for clients may
/// be two objects'.
#[derive(Default)]
struct OldestTls<'a> {
    certificates: Option<(ObjectId, &'a [Arc<Certificate>])>,
    client: Option<(ObjectId, &'a Arc<ClientTls>)>,
}

impl<'a> OldestTls<'a> {
    fn of<'k>(oldest_first: impl Iterator<Item = (&'k ObjectId, HostOffer<'a>)>) -> Self {
        let mut host = Self::default();
        for (id, offer) in oldest_first {
            if host.certificates.is_none() && !offer.certificates.is_empty() {
                host.certificates = Some((id.clone(), offer.certificates));
            }
            if host.client.is_none() {
                host.client = offer.client.map(|client| (id.clone(), client));
            }
        }
        host
    }

    fn seen_by(&self, offer: &HostOffer<'_>) -> HostnameTls {
        let other = self.certificates.as_ref().filter(|(_, served)| {
            let ours = offer.certificates;
            !ours.is_empty() && ours != *served
        });
        let client = offer.client.zip(self.client.as_ref());
        HostnameTls {
            own: self.certificates.is_some(),
            certificates_of: other.map(|(owner, _)| owner.clone()),
            client_of: client
                .filter(|(ours, (_, rule))| ours != rule)
                .map(|(_, (owner, _))| owner.clone()),
        }
    }
}

impl From<OldestTls<'_>> for HostTls {
    fn from(offer: OldestTls<'_>) -> Self {
        Self {
            certificates: offer.certificates.map(|(_, served)| served.into()).unwrap_or_default(),
            client: offer.client.map(|(_, rule)| rule.clone()),
        }
    }
}

impl Claims {
    /// `wildcard`: the owner of the wildcard above the name.
    fn ruling(&self, wildcard: Option<Age>) -> Ruling {
        let mut ruling = Ruling {
            owner: None,
            is_granted: false,
            barred: self.barred(wildcard.as_ref()),
            wildcard,
        };
        let granted = self.list.iter().find(|claim| claim.right == Right::Granted);
        ruling.is_granted = granted.is_some();
        let owner = granted.or_else(|| self.list.iter().find(|claim| ruling.is_entitled(claim)));
        ruling.owner = owner.map(|claim| claim.age.clone());
        ruling
    }

    /// Namespaces that may not have the name by age alone: the wildcard above it is another's, and older than their
    /// oldest claim. A name that was there before the wildcard stays.
    fn barred(&self, wildcard: Option<&Age>) -> BTreeSet<Arc<str>> {
        let mut oldest: HashMap<&Arc<str>, &Age> = HashMap::new();
        for claim in &self.list {
            oldest.entry(&claim.age.id.key.namespace).or_insert(&claim.age);
        }
        let barred = |namespace: &Arc<str>, oldest: &Age| {
            wildcard.is_some_and(|above| above.id.key.namespace != *namespace && above < oldest)
        };
        oldest
            .into_iter()
            .filter(|(namespace, oldest)| barred(namespace, oldest))
            .map(|(namespace, _)| namespace.clone())
            .collect()
    }
}

impl Claim {
    /// A claim that was not judged yet.
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
            host: None,
            affected: Vec::new(),
            owner_changed,
        }
    }
}
