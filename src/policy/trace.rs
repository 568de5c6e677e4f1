//! How each rule would decide about a request that nobody has sent: nothing is counted, taken or asked of anyone.

use std::sync::Arc;

use super::mode::Mode;
use crate::object::ObjectKey;
use crate::reason::Reason;

/// One rule, and what it makes of the request.
#[derive(Debug)]
pub struct Step {
    /// Namespace and name of the policy.
    pub policy: ObjectKey,
    /// The rule's name in the policy.
    pub rule: Arc<str>,
    /// As it is written in objects.
    pub kind: &'static str,
    /// Whether a refusal would have ended the request.
    pub mode: Mode,
    /// What it makes of it.
    pub outcome: Outcome,
}

/// What a rule makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One of its matches does not hold.
    DoesNotApply,
    /// It lets the request go on.
    Passes,
    /// And the rest of its policy is not asked.
    EndsPolicy,
    /// It lets the request go on, and has found whom it is from.
    Authenticates,
    /// A preflight.
    Answers,
    /// It decides against the request; in the shadow nothing comes of that.
    Refuses(Reason),
    /// It takes somebody else's word, or the request's body.
    NotAsked,
}
