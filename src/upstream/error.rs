//! Why an app gave no answer, and what that says of whether it has acted on the request.

use crate::body::incoming::Error;
use crate::body::replayable::ReplayableBody;
use crate::reason::Reason;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The app has not acted on the request, and all of it is still there.
    #[error("the request was not sent: {error}")]
    Unsent { body: Box<ReplayableBody>, error: Error },
    /// The connection ended before a byte of an answer.
    #[error(transparent)]
    Unanswered(Error),
    /// The app broke the protocol.
    #[error(transparent)]
    Malformed(Error),
    /// What to answer the client, whatever else is known.
    #[error("{}", .0.code())]
    Refused(Reason),
}

impl SendError {
    /// The request may be sent again, by another connection.
    pub(super) fn unsent(body: ReplayableBody, error: impl Into<Error>) -> Self {
        Self::Unsent {
            body: Box::new(body),
            error: error.into(),
        }
    }
}
