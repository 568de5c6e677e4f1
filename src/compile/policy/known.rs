//! What is known of a policy after it was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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

    /// The rules as written if they compile and their references resolve; else the last good version if its references still
    /// resolve; else none: Enforce then refuses every request, Shadow lets them pass.
    pub(super) fn of(object: &Arc<store::Policy>, good: &mut BTreeMap<ObjectKey, Good>, lookups: &Lookups<'_>) -> Self {
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
                        object: object.clone(),
                        targets: targets.clone(),
                        spec: spec.clone(),
                    };
                    good.insert(object.key.clone(), new);
                    return Self {
                        standing: Standing::InForce(compiled(object, mode, rules)),
                        broken,
                        left_out,
                        notes,
                    };
                }
                broken
            }
            (Err(error), _) | (_, Err(error)) => vec![Problem::of_object(ConditionReason::Invalid, &**error)],
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
            None if mode == Mode::Shadow && !object.has_enforced_rule => (Standing::Absent, Vec::new(), Vec::new()),
            None => (Standing::Refusing, Vec::new(), Vec::new()),
        };
        Self {
            standing,
            broken,
            left_out,
            notes,
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
