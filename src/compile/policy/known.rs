//! What is known of a policy after it was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::budget::Budgets;
use super::lookups::Lookups;
use super::references::Reference;
use super::rule::{self, Rules};
use crate::api::policy::{Mode, SentinelPolicySpec};
use crate::compile::problem::Problem;
use crate::condition::ConditionReason;
use crate::object::ObjectKey;
use crate::policy::{self, Policy, mode};
use crate::store::{self, Targets};

pub(super) struct Known {
    pub(super) object: Arc<store::Policy>,
    /// The references of its rules as written, and of its last good version.
    pub(super) references: BTreeSet<Reference>,
    pub(super) found: Found,
}

/// What came of a policy.
pub(super) struct Found {
    pub(super) standing: Standing,
    /// Why what is written is not in force. Empty: it is.
    pub(super) broken: Vec<Problem>,
    /// Problems of Shadow rules, which are left out.
    pub(super) left_out: Vec<Problem>,
    /// Problems of rules that are in force all the same.
    pub(super) notes: Vec<Problem>,
}

#[derive(Clone, PartialEq)]
pub(super) enum Standing {
    /// As it is written, or by its last good version.
    InForce(Arc<Policy>),
    /// Nobody passes.
    Refusing,
    /// Nobody is stopped: it is in the shadow.
    Absent,
}

/// What was understood whole, and the object that said it.
#[derive(Clone)]
pub(super) struct Good {
    pub(super) object: Arc<store::Policy>,
    pub(super) targets: Arc<Targets>,
    pub(super) spec: Arc<SentinelPolicySpec>,
}

impl Found {
    pub(super) const fn nothing() -> Self {
        Self {
            standing: Standing::Absent,
            broken: Vec::new(),
            left_out: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The rules as written if they compile, their references resolve and there is room for them; else the last good version if
    /// that is so of it; else none: Enforce then refuses every request, Shadow lets them pass.
    pub(super) fn of(
        object: &Arc<store::Policy>,
        good: &mut BTreeMap<ObjectKey, Good>,
        budgets: &mut Budgets,
        lookups: &Lookups<'_>,
    ) -> Self {
        let (key, created) = (&object.key, object.created);
        let last_mode = good.get(key).map(|good| good.spec.mode);
        let mode = object.mode.or(last_mode).unwrap_or_default();
        let written = match (&object.targets, &object.spec) {
            (Ok(targets), Ok(spec)) => Version::of(object, spec, mode, lookups).map(|version| (version, targets, spec)),
            (Err(error), _) | (_, Err(error)) => Err(vec![Problem::of_object(ConditionReason::Invalid, &**error)]),
        };
        let mut versions = Vec::new();
        let broken = match written {
            Ok((version, targets, spec)) => {
                let memory = version.policy.memory();
                if budgets.take(key, created, &[memory]) == Some(0) {
                    let new = Good {
                        object: object.clone(),
                        targets: targets.clone(),
                        spec: spec.clone(),
                    };
                    good.insert(key.clone(), new);
                    return version.in_force(Vec::new());
                }
                versions.push(memory);
                vec![budgets.problem(key, memory)]
            }
            Err(broken) => broken,
        };
        let last = good
            .get(key)
            .filter(|good| object.spec.as_ref() != Ok(&good.spec))
            .and_then(|good| Version::of(object, &good.spec, mode, lookups).ok());
        versions.extend(last.as_ref().map(|last| last.policy.memory()));
        if versions.is_empty() {
            budgets.forget(key);
        }
        // What is written has no room: if any version has, it is the last good one.
        let has_room = budgets.take(key, created, &versions).is_some();
        match last.filter(|_| has_room) {
            Some(last) => last.in_force(broken),
            None => Self {
                standing: match mode {
                    Mode::Shadow if !object.has_enforced_rule => Standing::Absent,
                    _ => Standing::Refusing,
                },
                broken,
                left_out: Vec::new(),
                notes: Vec::new(),
            },
        }
    }
}

/// What rules compile to.
struct Version {
    policy: Arc<Policy>,
    left_out: Vec<Problem>,
    notes: Vec<Problem>,
}

impl Version {
    fn of(
        object: &store::Policy,
        spec: &SentinelPolicySpec,
        mode: Mode,
        lookups: &Lookups<'_>,
    ) -> Result<Self, Vec<Problem>> {
        let Rules {
            rules,
            broken,
            left_out,
            notes,
        } = rule::rules(spec, mode, lookups);
        if !broken.is_empty() {
            return Err(broken);
        }
        Ok(Self {
            policy: compiled(object, mode, rules),
            left_out,
            notes,
        })
    }

    fn in_force(self, broken: Vec<Problem>) -> Found {
        Found {
            standing: Standing::InForce(self.policy),
            broken,
            left_out: self.left_out,
            notes: self.notes,
        }
    }
}

fn compiled(object: &store::Policy, mode: Mode, rules: Vec<policy::Rule>) -> Arc<Policy> {
    Arc::new(Policy {
        key: object.key.clone(),
        mode: match mode {
            Mode::Enforce => mode::Mode::Enforce,
            Mode::Shadow => mode::Mode::Shadow,
        },
        rules: rules.into(),
    })
}
