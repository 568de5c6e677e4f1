//! An answer's body on its way into a stream, no faster than the client's windows let it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use crate::body::clock::Clock;
use crate::proxy::body::Body;

/// An answer's body on its way to the client, as far as its windows admit.
pub struct Sending<'a> {
    to: SendStream<Bytes>,
    body: Body,
    /// Bytes of the body that the windows do not admit yet.
    chunk: Bytes,
    clock: &'a Clock,
}

/// Why an answer did not get to its end.
#[derive(Debug)]
enum Cut {
    /// The app broke off, or paused for too long.
    Body,
    /// The client, or its connection.
    Client,
}

impl<'a> Sending<'a> {
    /// `clock` hears of the client's pauses.
    pub fn new(to: SendStream<Bytes>, body: Body, clock: &'a Clock) -> Self {
        Self {
            to,
            body,
            chunk: Bytes::new(),
            clock,
        }
    }

    /// Ready when there is nothing left to do.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.poll_send(cx)) {
            Ok(()) | Err(Cut::Client) => {}
            // An END_STREAM would make it look whole.
            Err(Cut::Body) => self.to.send_reset(Reason::INTERNAL_ERROR),
        }
        Poll::Ready(())
    }

    /// Gives up: the client took nothing for too long.
    pub fn cancel(&mut self) {
        self.to.send_reset(Reason::CANCEL);
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        if self.to.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Cut::Client));
        }
        loop {
            if !self.chunk.is_empty() {
                let last = ready!(self.poll_chunk(cx))?;
                if last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.chunk = data,
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Poll::Ready(self.to.send_trailers(trailers).map_err(|_| Cut::Client));
                    }
                },
                Some(Err(_)) => return Poll::Ready(Err(Cut::Body)),
                None => return Poll::Ready(self.to.send_data(Bytes::new(), true).map_err(|_| Cut::Client)),
            }
        }
    }

    /// As much of the chunk as the windows take. Whether the body has ended with it.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Cut>> {
        // Asked for only now: what is reserved for a body that has nothing to send is missing to the other streams.
        self.to.reserve_capacity(self.chunk.len());
        while self.to.capacity() == 0 {
            match ready!(self.to.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Cut::Client)),
            }
        }
        let part = self.chunk.split_to(self.chunk.len().min(self.to.capacity()));
        let last = self.chunk.is_empty() && self.body.is_end_stream();
        let sent = self.to.send_data(part, last).map_err(|_| Cut::Client);
        self.clock.wrote();
        Poll::Ready(sent.map(|()| last))
    }
}
