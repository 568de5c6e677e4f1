//! SentinelPolicies: what each one says, compiled; its last good version, while an edit of it is broken; and before which
//! Deployments it stands. A policy that cannot be understood fails closed, for those whom it concerns and nobody else.

pub mod attach;
mod authentication;
pub mod budget;
pub mod invalid;
mod keys;
pub mod known;
mod limits;
pub mod lookups;
mod matching;
pub mod prepare;
mod references;
pub mod report;
mod rule;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::backend::Services;
use super::intent::{Intent, PolicyIntent};
use super::problem::Problem;
use super::references::User;
use super::report::Report;
use super::source::Candidate;
use crate::api::policy::{Mode, SentinelPolicySpec};
use crate::condition::ConditionReason;
use crate::config::Routing;
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::policy::{Policy, mode};
use crate::store::{self, Changes, Labels, Shared, Store, selects};
use attach::{Attachments, Reach, within};
use budget::Budgets;
use keys::{Changed, Keys};
use known::{Found, Good, Known, Standing};
use lookups::Lookups;
use references::{Reference, Sources, references};

/// All policies of all namespaces: they have no class.
#[derive(Default)]
pub struct Policies {
    known: BTreeMap<ObjectKey, Known>,
    /// The last good version of each.
    good: BTreeMap<ObjectKey, Good>,
    attachments: Attachments,
    keys: Keys,
    sources: Sources,
    budgets: Budgets,
}

/// What stands before a Deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Guard {
    #[default]
    Nothing,
    Policies(Arc<[Arc<Policy>]>),
    /// Nobody passes, by a policy that is broken or missing.
    Closed,
}

impl Policies {
    /// Takes a changed object in. Returns the policies that stood or stand before it.
    pub fn read_object(&mut self, id: &ObjectId, object: Option<Candidate>) -> BTreeSet<ObjectKey> {
        self.attachments.set_object(id, object)
    }

    /// Takes a changed policy in; what comes of it is found out by `judge`, once what it refers to is looked up. Returns the
    /// Deployments before which it no longer stands, or newly does.
    pub fn read(&mut self, key: &ObjectKey, store: &Store, services: &mut Services) -> BTreeSet<ObjectId> {
        let object = store.policy(key);
        // Another object's version is not served in its place.
        if self
            .good
            .get(key)
            .is_some_and(|good| object.is_none_or(|object| object.uid != good.object.uid))
        {
            self.good.remove(key);
        }
        let Some(object) = object else {
            self.refer(key, BTreeSet::new(), services);
            self.known.remove(key);
            self.budgets.forget(key);
            return self.attachments.set_policy(key, None);
        };
        let reach = match (&object.targets, self.good.get(key)) {
            (Ok(targets), _) => Reach::Targets(targets.clone()),
            (Err(_), Some(good)) => Reach::Targets(good.targets.clone()),
            (Err(_), None) if object.mode == Some(Mode::Shadow) && !object.has_enforced_rule => Reach::Nobody,
            (Err(_), None) => Reach::Namespace,
        };
        let mut touched = self.attachments.set_policy(key, Some(reach));
        match self.known.get_mut(key) {
            Some(known) => {
                let place = |object: &store::Policy| (object.priority, object.created);
                if place(&known.object) != place(object) {
                    touched.extend(self.attachments.behind(key).cloned());
                }
                known.object = object.clone();
            }
            None => {
                let known = Known {
                    object: object.clone(),
                    references: BTreeSet::new(),
                    found: Found::nothing(),
                };
                self.known.insert(key.clone(), known);
            }
        }
        self.refer(key, self.wanted_references(key), services);
        touched
    }

    /// The references of the rules as written, and those of the last good version, which may have to stand in.
    fn wanted_references(&self, key: &ObjectKey) -> BTreeSet<Reference> {
        let specs = self.specs(key).map(|spec| references(&key.namespace, spec));
        specs.flatten().collect()
    }

    fn specs(&self, key: &ObjectKey) -> impl Iterator<Item = &Arc<SentinelPolicySpec>> {
        let written = self.known.get(key).and_then(|known| known.object.spec.as_ref().ok());
        let good = self.good.get(key).map(|good| &good.spec);
        written
            .into_iter()
            .chain(good.filter(move |good| written != Some(good)))
    }

    fn refer(&mut self, key: &ObjectKey, wanted: BTreeSet<Reference>, services: &mut Services) {
        let Some(known) = self.known.get_mut(key) else {
            return;
        };
        let user = User::Policy(key.clone());
        for new in wanted.difference(&known.references) {
            match new {
                Reference::Service(service, port) => services.add_user(service, port, &user),
                other => self.sources.add_user(other, user.clone()),
            }
        }
        for old in known.references.difference(&wanted) {
            match old {
                Reference::Service(service, port) => services.remove_user(service, port, &user),
                other => self.sources.remove_user(other, &user),
            }
        }
        known.references = wanted;
    }

    /// The Services that a policy refers to.
    pub fn services(&self, key: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        let references = self.known.get(key).into_iter().flat_map(|known| &known.references);
        references.filter_map(|reference| match reference {
            Reference::Service(service, _) => Some(service),
            _ => None,
        })
    }

    /// Looks up what changed or is newly referred to. Returns the policies that see something else than before.
    pub fn resolve(&mut self, changes: &Changes, store: &Store) -> BTreeSet<User> {
        let mut affected = self.sources.resolve(changes, store);
        for Changed { key, labels } in self.keys.read(changes.of(Kind::Secret), store) {
            for (policy, _) in within(&self.known, &key.namespace) {
                if self.specs(policy).any(|spec| takes(spec, &key, &labels)) {
                    affected.insert(User::Policy(policy.clone()));
                }
            }
        }
        affected
    }

    /// Last good versions of what nobody refers to: after a compile of everything.
    pub fn sweep(&mut self) {
        self.sources.sweep();
    }

    /// What comes of a policy at present. Returns the Deployments for which that is something else than before.
    pub fn judge(
        &mut self,
        key: &ObjectKey,
        store: &Store,
        routing: &Routing,
        services: &mut Services,
        fresh: &mut Vec<Arc<Policy>>,
    ) -> BTreeSet<ObjectId> {
        let Some(known) = self.known.get_mut(key) else {
            return BTreeSet::new();
        };
        let lookups = Lookups {
            policy: key,
            keys: &self.keys,
            sources: &self.sources,
            services,
            store,
            routing,
        };
        let mut found = Found::of(&known.object, &mut self.good, &mut self.budgets, &lookups);
        if let Standing::InForce(new) = &mut found.standing {
            match &known.found.standing {
                // An equal policy stays the same part, with its runtime state.
                Standing::InForce(old) if old == new => *new = old.clone(),
                _ => fresh.push(new.clone()),
            }
        }
        let is_same = found.standing == known.found.standing;
        known.found = found;
        // A version that is good has taken the place of the last.
        self.refer(key, self.wanted_references(key), services);
        if is_same {
            return BTreeSet::new();
        }
        self.attachments.behind(key).cloned().collect()
    }

    /// After all are judged: those that have to be judged again, since others take more or less.
    pub fn settle(&mut self) -> Vec<ObjectKey> {
        self.budgets.settle()
    }

    /// Bytes that the policies of each namespace take.
    pub fn memory(&self) -> &BTreeMap<Arc<str>, usize> {
        self.budgets.by_namespace()
    }

    /// A policy that is in force, or that is broken and served by its last good version.
    pub fn part(&self, key: &ObjectKey) -> Option<&Arc<Policy>> {
        match &self.known.get(key)?.found.standing {
            Standing::InForce(policy) => Some(policy),
            Standing::Refusing | Standing::Absent => None,
        }
    }

    /// What stands before a Deployment; `before` is what stood there, which stays the same part if it is equal.
    pub fn guard(&self, intent: &Intent, require_policy: bool, before: &Guard) -> Guard {
        let missing = intent
            .policies
            .iter()
            .any(|asked| !self.known.contains_key(&asked.policy));
        let standing: Vec<&Known> = self.standing(&intent.id);
        let refused = standing.iter().any(|known| known.found.standing == Standing::Refusing);
        if missing || refused || require_policy && !enforces(&standing) {
            return Guard::Closed;
        }
        let in_force = standing.iter().filter_map(|known| match &known.found.standing {
            Standing::InForce(policy) => Some(policy),
            Standing::Refusing | Standing::Absent => None,
        });
        let policies: Vec<_> = in_force.cloned().collect();
        match before {
            _ if policies.is_empty() => Guard::Nothing,
            Guard::Policies(old)
                if old.len() == policies.len() && old.iter().zip(&policies).all(|(a, b)| Arc::ptr_eq(a, b)) =>
            {
                before.clone()
            }
            _ => Guard::Policies(policies.into()),
        }
    }

    /// Why nobody reaches a Deployment, if a policy is why.
    pub fn problems(&self, intent: &Intent, require_policy: bool) -> Vec<Problem> {
        const COST: &str = "requests are answered 503 policy_invalid";
        let mut problems = Vec::new();
        let kind = intent.id.kind;
        for PolicyIntent { policy, field } in &intent.policies {
            if !self.known.contains_key(policy) {
                let message = format!("SentinelPolicy {policy} does not exist; {COST}");
                problems.push(Problem::at(field.clone(), ConditionReason::PolicyNotFound, message));
            }
        }
        let standing = self.standing(&intent.id);
        for known in standing
            .iter()
            .filter(|known| known.found.standing == Standing::Refusing)
        {
            let policy = &known.object.key;
            let message = format!("SentinelPolicy {policy} applies to this {kind} and is not accepted; {COST}");
            problems.push(Problem::of_object(ConditionReason::InvalidPolicy, message));
        }
        if require_policy && problems.is_empty() && !enforces(&standing) {
            let message = format!(
                "no SentinelPolicy in force with a rule that can refuse requests applies to this {kind}, and this installation \
                 requires one (--require-policy); {COST}"
            );
            problems.push(Problem::of_object(ConditionReason::PolicyNotFound, message));
        }
        problems
    }

    /// None: there is no such policy.
    pub fn report(&self, key: &ObjectKey, class: &str) -> Option<Report> {
        Some(report::report(self.known.get(key)?, &self.attachments, class))
    }

    /// Those that stand before an object, in the order in which they are asked.
    fn standing(&self, object: &ObjectId) -> Vec<&Known> {
        let before = self.attachments.before(object);
        let mut standing: Vec<_> = before.filter_map(|key| self.known.get(key)).collect();
        standing.sort_by_key(|known| {
            let object = &known.object;
            (Reverse(object.priority), object.created, &object.key)
        });
        standing
    }

    /// Those that there are or were.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.known.keys().chain(self.good.keys())
    }

    /// The objects that were seen.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectId> {
        self.attachments.objects()
    }

    /// Nothing but the last good versions.
    pub fn last_good(&self) -> Self {
        Self {
            good: self.good.clone(),
            sources: self.sources.last_good(),
            ..Self::default()
        }
    }

    /// Takes a policy for the last good version of its object. What it refers to is looked up as ever.
    pub fn remember(&mut self, object: Arc<store::Policy>) {
        if let (Ok(targets), Ok(spec)) = (&object.targets, &object.spec) {
            let good = Good {
                targets: targets.clone(),
                spec: spec.clone(),
                object: object.clone(),
            };
            self.good.insert(object.key.clone(), good);
        }
    }

    /// The last good versions that stand in for what is broken at present.
    pub fn stand_ins(&self) -> impl Iterator<Item = Shared> {
        let broken = self.known.iter().filter(|(_, known)| !known.found.broken.is_empty());
        let policies = broken.filter_map(|(key, _)| self.good.get(key));
        let policies = policies.map(|good| Shared::SentinelPolicy(good.object.clone()));
        policies.chain(self.sources.stand_ins().cloned().map(Shared::from))
    }

    /// The Secrets and the ConfigMaps that were looked at.
    pub fn references(&self) -> impl Iterator<Item = ObjectId> {
        let keys = self.keys.secrets().map(|key| ObjectId::new(Kind::Secret, key.clone()));
        self.sources.ids().cloned().chain(keys)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let objects = self.known.len().max(self.good.len()).max(self.sources.len());
        objects.max(self.attachments.len())
    }
}

/// Whether a rule takes its keys from this Secret, or did when it had other labels.
fn takes(spec: &SentinelPolicySpec, secret: &ObjectKey, labels: &[Labels]) -> bool {
    let rules = spec.rules.iter().filter_map(|rule| rule.api_key.as_ref());
    let mut taking = rules.filter(|rule| {
        let named = rule.secret_refs.iter().any(|named| *named.name == *secret.name);
        let selector = rule.secret_selector.as_ref();
        named || selector.is_some_and(|selector| labels.iter().any(|labels| selects(&selector.match_labels, labels)))
    });
    taking.next().is_some()
}

/// Whether one of them enforces a rule that can refuse: one that only logs guards nobody.
fn enforces(standing: &[&Known]) -> bool {
    let in_force = |known: &&Known| match &known.found.standing {
        Standing::InForce(policy) => policy
            .rules
            .iter()
            .any(|rule| rule.mode == mode::Mode::Enforce && rule.can_refuse()),
        Standing::Refusing | Standing::Absent => false,
    };
    standing.iter().any(in_force)
}
