//! SentinelPolicies: what each one says, compiled; its last good version, while an edit of it is broken; and before which
//! Deployments it stands. A policy that cannot be understood fails closed, for those whom it concerns and nobody else.

pub mod attach;
mod matching;
pub mod report;
mod rule;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::condition::ConditionReason;
use crate::api::policy::{Mode, SentinelPolicySpec};
use crate::policy::{self, Policy};
use crate::store::{self, ObjectKey, Store, Targets};

use super::deployment::Wanted;
use super::report::Problem;
use attach::{Attachments, Candidate, Reach};
use report::PolicyReport;
use rule::Rules;

/// All policies of all namespaces: they have no class.
#[derive(Default)]
pub struct Policies {
    known: BTreeMap<ObjectKey, Known>,
    /// The last good version of each.
    good: BTreeMap<ObjectKey, Good>,
    attachments: Attachments,
}

struct Known {
    object: Arc<store::Policy>,
    found: Found,
}

/// What came of a policy.
struct Found {
    standing: Standing,
    /// Why what is written is not in force. Empty: it is.
    broken: Vec<Problem>,
    /// Of rules in the shadow, which are left out.
    left_out: Vec<Problem>,
    /// Of what is in force all the same.
    notes: Vec<Problem>,
}

#[derive(Clone, PartialEq)]
enum Standing {
    /// As it is written, or by its last good version.
    InForce(Arc<Policy>),
    /// Nobody passes.
    Refusing,
    /// Nobody is stopped: it is in the shadow.
    Absent,
}

/// What was understood whole, of the object with this uid.
#[derive(Clone)]
struct Good {
    uid: Arc<str>,
    targets: Arc<Targets>,
    spec: Arc<SentinelPolicySpec>,
}

/// Where what rules refer to is found.
pub struct Lookups {}

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
    /// Takes a changed Deployment in. Returns the policies that stood or stand before it.
    pub fn read_deployment(&mut self, key: &ObjectKey, object: Option<&store::Deployment>) -> BTreeSet<ObjectKey> {
        self.attachments.set_deployment(key, object.map(Candidate::of))
    }

    /// Takes a changed policy in; what comes of it is found out by `judge`. Returns the Deployments before which it no
    /// longer stands, or newly does.
    pub fn read(&mut self, key: &ObjectKey, store: &Store) -> BTreeSet<ObjectKey> {
        let object = store.policy(key);
        // Another object's version is not served in its place.
        if self
            .good
            .get(key)
            .is_some_and(|good| object.is_none_or(|object| object.uid != good.uid))
        {
            self.good.remove(key);
        }
        let Some(object) = object else {
            self.known.remove(key);
            return self.attachments.set_policy(key, None);
        };
        let reach = match (&object.targets, self.good.get(key)) {
            (Ok(targets), _) => Reach::Targets(targets.clone()),
            (Err(_), Some(good)) => Reach::Targets(good.targets.clone()),
            (Err(_), None) if object.mode == Some(Mode::Shadow) => Reach::Nobody,
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
                    found: Found::nothing(),
                };
                self.known.insert(key.clone(), known);
            }
        }
        touched
    }

    /// What comes of a policy at present. Returns the Deployments for which that is something else than before.
    pub fn judge(&mut self, key: &ObjectKey, fresh: &mut Vec<Arc<Policy>>) -> BTreeSet<ObjectKey> {
        let Some(known) = self.known.get_mut(key) else {
            return BTreeSet::new();
        };
        let mut found = judge(&known.object, &mut self.good, &Lookups {});
        if let Standing::InForce(new) = &mut found.standing {
            match &known.found.standing {
                // An equal policy stays the same part, with its runtime state.
                Standing::InForce(old) if old == new => *new = old.clone(),
                _ => fresh.push(new.clone()),
            }
        }
        let is_same = found.standing == known.found.standing;
        known.found = found;
        if is_same {
            return BTreeSet::new();
        }
        self.attachments.behind(key).cloned().collect()
    }

    /// A policy that is in force, or that is broken and served by its last good version.
    pub fn part(&self, key: &ObjectKey) -> Option<&Arc<Policy>> {
        match &self.known.get(key)?.found.standing {
            Standing::InForce(policy) => Some(policy),
            Standing::Refusing | Standing::Absent => None,
        }
    }

    /// What stands before a Deployment; `before` is what stood there, which stays the same part if it is equal.
    pub fn guard(&self, wanted: &Wanted, require_policy: bool, before: &Guard) -> Guard {
        let missing = wanted.policies.iter().any(|name| !self.known.contains_key(name));
        let standing: Vec<&Known> = self.standing(&wanted.part.key);
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
    pub fn problems(&self, wanted: &Wanted, require_policy: bool) -> Vec<Problem> {
        const COST: &str = "its requests are answered 503 policy_invalid";
        let mut problems = Vec::new();
        for (at, name) in wanted.policies.iter().enumerate() {
            if !self.known.contains_key(name) {
                problems.push(Problem {
                    reason: ConditionReason::PolicyNotFound,
                    message: format!("spec.policies[{at}]: SentinelPolicy {name} does not exist; {COST}"),
                });
            }
        }
        let standing = self.standing(&wanted.part.key);
        for known in standing
            .iter()
            .filter(|known| known.found.standing == Standing::Refusing)
        {
            problems.push(Problem {
                reason: ConditionReason::InvalidPolicy,
                message: format!(
                    "SentinelPolicy {} stands before it and is not accepted; {COST}",
                    known.object.key
                ),
            });
        }
        if require_policy && problems.is_empty() && !enforces(&standing) {
            problems.push(Problem {
                reason: ConditionReason::PolicyNotFound,
                message: format!(
                    "no SentinelPolicy is in force before it, and this installation wants one (--require-policy); {COST}"
                ),
            });
        }
        problems
    }

    /// None: there is no such policy.
    pub fn report(&self, key: &ObjectKey, class: &str) -> Option<PolicyReport> {
        Some(report::report(self.known.get(key)?, &self.attachments, class))
    }

    /// Those that stand before a Deployment, in the order in which they are asked.
    fn standing(&self, deployment: &ObjectKey) -> Vec<&Known> {
        let before = self.attachments.before(deployment);
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

    /// The Deployments that were seen.
    pub fn deployments(&self) -> impl Iterator<Item = &ObjectKey> {
        self.attachments.deployments()
    }

    /// Nothing but the last good versions.
    pub fn last_good(&self) -> Self {
        Self {
            good: self.good.clone(),
            ..Self::default()
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len().max(self.good.len()).max(self.attachments.len())
    }
}

/// Whether a rule is enforced by one of them.
fn enforces(standing: &[&Known]) -> bool {
    let in_force = |known: &&Known| match &known.found.standing {
        Standing::InForce(policy) => policy.rules.iter().any(|rule| rule.mode == policy::Mode::Enforce),
        Standing::Refusing | Standing::Absent => false,
    };
    standing.iter().any(in_force)
}

/// The rules as they are written, if they are understood and what they refer to is there; else those of the last good version,
/// as long as what *they* refer to is there; else nothing, for which the mode says what that means.
fn judge(object: &store::Policy, good: &mut BTreeMap<ObjectKey, Good>, lookups: &Lookups) -> Found {
    let last_mode = good.get(&object.key).map(|good| good.spec.mode);
    let mode = object.mode.or(last_mode).unwrap_or_default();
    let broken = match (&object.targets, &object.spec) {
        (Ok(targets), Ok(spec)) => {
            let Rules {
                rules,
                broken,
                left_out,
                notes,
            } = rule::rules(spec, mode, lookups);
            if broken.is_empty() {
                let new = Good {
                    uid: object.uid.clone(),
                    targets: targets.clone(),
                    spec: spec.clone(),
                };
                good.insert(object.key.clone(), new);
                return Found {
                    standing: Standing::InForce(compiled(object, mode, rules)),
                    broken,
                    left_out,
                    notes,
                };
            }
            broken
        }
        (Err(error), _) | (_, Err(error)) => vec![Problem::invalid(&**error)],
    };
    let last = good
        .get(&object.key)
        .filter(|good| object.spec.as_ref() != Ok(&good.spec));
    let last = last.map(|good| rule::rules(&good.spec, mode, lookups));
    let (standing, left_out, notes) = match last.filter(|last| last.broken.is_empty()) {
        Some(last) => (
            Standing::InForce(compiled(object, mode, last.rules)),
            last.left_out,
            last.notes,
        ),
        None if mode == Mode::Shadow => (Standing::Absent, Vec::new(), Vec::new()),
        None => (Standing::Refusing, Vec::new(), Vec::new()),
    };
    Found {
        standing,
        broken,
        left_out,
        notes,
    }
}

fn compiled(object: &store::Policy, mode: Mode, rules: Vec<policy::Rule>) -> Arc<Policy> {
    Arc::new(Policy {
        key: object.key.clone(),
        mode: match mode {
            Mode::Enforce => policy::Mode::Enforce,
            Mode::Shadow => policy::Mode::Shadow,
        },
        rules: rules.into(),
    })
}

impl Found {
    const fn nothing() -> Self {
        Self {
            standing: Standing::Absent,
            broken: Vec::new(),
            left_out: Vec::new(),
            notes: Vec::new(),
        }
    }
}
