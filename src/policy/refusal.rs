//! Why a rule lets a request no further, and what is said besides the reason.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Response};

use crate::reason::Reason;

/// What ends a request's way through the rules.
pub struct Refusal {
    /// Status, code and text.
    pub reason: Reason,
    /// Beside those that go with the reason.
    pub headers: Box<HeaderMap>,
    /// For a person, in place of the reason's own; never what a client sent.
    pub detail: Option<String>,
    /// Somebody else's answer, which passes as it is.
    pub answer: Option<Box<Response<Bytes>>>,
}

// By hand: somebody else's answer may hold what is the client's alone.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal({:?})", self.reason)
    }
}

impl From<Reason> for Box<Refusal> {
    fn from(reason: Reason) -> Self {
        Self::new(reason.into())
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            headers: Box::default(),
            detail: None,
            answer: None,
        }
    }
}
