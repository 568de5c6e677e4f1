//! A request body that can be sent once more as long as little of it has left.
//!
//! | State     | What has left                         | Next, by what `poll_next` returns                                   |
//! |-----------|---------------------------------------|---------------------------------------------------------------------|
//! | `Nothing` | nothing                               | `First`: data of up to `MAX_KEPT`, or the end. `Lost`: anything else |
//! | `First`   | one frame, which is kept; `last`: all | `First`, `last`: the end. `Lost`: anything else                     |
//! | `Lost`    | more than is kept                     | `Lost`                                                              |
//!
//! "Anything else" is more data, trailers or an error. While nothing comes, nothing changes. An attempt that follows another
//! sends what is kept first, then goes on with `poll_next`; of a body that is lost there is no such attempt.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::sync::oneshot;

use super::request::{BodyError, ClientBody, Sent};

/// The largest first frame that is kept until the answer begins.
const MAX_KEPT: usize = 64 * 1024;

/// A client's request body, what of it has left for a connection, and what opens its gate.
#[derive(Debug)]
pub struct ReplayableBody {
    body: ClientBody,
    kept: Kept,
    /// Opens the gate of a body that waits for the app's 100.
    pub opener: Option<oneshot::Sender<()>>,
}

/// Most requests that an app turns away have a body of one frame, those of gRPC above all.
#[derive(Debug)]
enum Kept {
    Nothing,
    First {
        data: Bytes,
        last: bool,
    },
    /// More has left than is kept.
    Lost,
}

impl ReplayableBody {
    pub fn new(body: ClientBody, opener: Option<oneshot::Sender<()>>) -> Self {
        let kept = Kept::Nothing;
        Self { body, kept, opener }
    }

    /// No body at all, for a request without one.
    pub fn none() -> Self {
        Self::new(ClientBody::none(), None)
    }

    pub fn sent(&self) -> Arc<Sent> {
        self.body.sent()
    }

    /// The body as it is, for a connection that gives back what it has not begun to send.
    pub fn into_unsent(self) -> (ClientBody, Option<oneshot::Sender<()>>) {
        (self.body, self.opener)
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.kept, Kept::Nothing) && self.body.is_end_stream()
    }

    /// Whether all of it can be sent, if need be again.
    pub fn is_whole(&self) -> bool {
        !matches!(self.kept, Kept::Lost)
    }

    pub fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// The first frame, if it has left and was kept, and whether it is the last one.
    pub fn kept(&self) -> Option<(Bytes, bool)> {
        match &self.kept {
            Kept::First { data, last } => Some((data.clone(), *last)),
            _ => None,
        }
    }

    /// The next frame. None: the stream's data is to end here.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let kept = std::mem::replace(&mut self.kept, Kept::Lost);
        self.kept = match (kept, &polled) {
            (Kept::Nothing, Some(Ok(frame))) => match frame.data_ref() {
                Some(data) if data.len() <= MAX_KEPT => Kept::First {
                    data: data.clone(),
                    last: self.body.is_end_stream(),
                },
                _ => Kept::Lost,
            },
            (Kept::Nothing, None) => Kept::First {
                data: Bytes::new(),
                last: true,
            },
            (Kept::First { data, .. }, None) => Kept::First { data, last: true },
            _ => Kept::Lost,
        };
        Poll::Ready(polled)
    }
}

#[cfg(test)]
mod tests;
