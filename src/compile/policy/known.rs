//! What is known of a policy after it was read.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::references::Reference;
use crate::api::policy::SentinelPolicySpec;
use crate::compile::problem::Problem;
use crate::policy::Policy;
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

/// What was understood whole, of the object with this uid.
#[derive(Clone)]
pub(super) struct Good {
    pub(super) uid: Arc<str>,
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
}
