//! What belongs to one rule of one policy while any snapshot or socket refers to it, by the policy's key and the rule's name:
//! an edit of the rule resets nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use strum::{IntoStaticStr, VariantArray};

use super::guesses::Guesses;
use super::mode::Mode;
use super::passwords::Passwords;
use super::refusal::Refusal;
use crate::limits::shared::Known;
use crate::limits::sockets::Sockets;
use crate::limits::windows::Windows;
use crate::object::ObjectKey;
use crate::reason::Reason;

/// Counts and limits of one rule.
#[derive(Debug, Default)]
pub struct RuleState {
    decisions: [[AtomicU64; Decision::VARIANTS.len()]; Mode::VARIANTS.len()],
    /// Each of a rule that has a use for it; empty ones cost next to nothing.
    pub passwords: Passwords,
    /// Of a `basicAuth` or a `jwt`.
    pub guesses: Guesses,
    /// Of a `rateLimit`.
    pub windows: Windows,
    /// Of a `rateLimit` that all replicas count together.
    pub known: Known,
    /// Of a `connectionLimit`.
    pub sockets: Sockets,
}

/// Stable through every edit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleKey {
    /// The policy's namespace and name.
    pub policy: ObjectKey,
    /// The rule's name in the policy.
    pub name: Arc<str>,
}

/// How a rule that applied decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Decision {
    /// It let the request go on.
    Passed,
    /// It decided against the request.
    Refused,
    /// Something that it needs did not answer, or not in time.
    Failed,
}

impl RuleState {
    /// One more; by the mode that it was decided in.
    pub fn count(&self, mode: Mode, decision: Decision) {
        self.decisions[mode as usize][decision as usize].fetch_add(1, Relaxed);
    }

    /// Since the rule came.
    pub fn decisions(&self, mode: Mode, decision: Decision) -> u64 {
        self.decisions[mode as usize][decision as usize].load(Relaxed)
    }
}

impl Decision {
    /// A refusal counts as failed where its reason is that somebody did not answer.
    pub fn of<T>(decided: &Result<T, Refusal>) -> Self {
        match decided {
            Ok(_) => Self::Passed,
            Err(refusal) => match refusal.reason {
                Reason::AuthUnavailable | Reason::Overloaded | Reason::PolicyTimeout | Reason::StoreUnavailable => {
                    Self::Failed
                }
                _ => Self::Refused,
            },
        }
    }

    /// The metric's label.
    pub fn label(self) -> &'static str {
        self.into()
    }
}
