//! How each rule would decide about a request that nobody has sent: nothing is counted, taken or asked of anyone.

use std::sync::Arc;

use super::mode::Mode;
use crate::object::ObjectKey;
use crate::reason::Reason;

#[derive(Debug)]
pub struct Step {
    pub policy: ObjectKey,
    pub rule: Arc<str>,
    /// As it is written in objects.
    pub kind: &'static str,
    pub mode: Mode,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One of its matches does not hold.
    DoesNotApply,
    Passes,
    /// And the rest of its policy is not asked.
    EndsPolicy,
    Authenticates,
    /// A preflight.
    Answers,
    Refuses(Reason),
    /// It takes somebody else's word, or the request's body.
    NotAsked,
}
