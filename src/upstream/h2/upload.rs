//! A request's body on its way into its stream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

use crate::body::replayable::ReplayableBody;

/// Sends a request's body as the app makes room for it. Dropping it before the body's end resets the stream.
#[derive(Debug)]
pub struct Upload {
    body: ReplayableBody,
    stream: SendStream<Bytes>,
    /// Whether what was kept of the body is to be sent first.
    again: bool,
}

impl Upload {
    /// A body that was sent before begins with what was kept of it.
    pub fn new(body: ReplayableBody, stream: SendStream<Bytes>) -> Self {
        let again = body.kept().is_some();
        Self { body, stream, again }
    }

    /// The body as far as it was not sent, for another attempt.
    pub fn into_body(self) -> ReplayableBody {
        self.body
    }
}

impl Future for Upload {
    type Output = ();

    /// Ready when there is nothing more to send, or nobody to take it: the answer says why.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { body, stream, again } = self.get_mut();
        loop {
            // Room first: what the app does not take is not asked for.
            stream.reserve_capacity(1);
            while stream.capacity() == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(()),
                }
            }
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            let kept = std::mem::take(again).then(|| body.kept()).flatten();
            let (data, last) = match kept {
                Some(kept) => kept,
                None => match ready!(body.poll_next(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => (data, body.is_end_stream()),
                        Err(frame) => {
                            let _ = stream.send_trailers(frame.into_trailers().unwrap_or_default());
                            return Poll::Ready(());
                        }
                    },
                    None => (Bytes::new(), true),
                    Some(Err(_)) => {
                        stream.send_reset(Reason::CANCEL);
                        return Poll::Ready(());
                    }
                },
            };
            if stream.send_data(data, last).is_err() || last {
                return Poll::Ready(());
            }
        }
    }
}
