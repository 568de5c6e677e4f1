//! A body as it comes in, of a request or of an answer, in HTTP/1.1 or HTTP/2.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::clock::Clock;

/// A request's or an answer's, whichever protocol it comes by.
#[derive(Debug)]
pub enum Incoming {
    /// None, as of an upgrade: what the client sends is the app's to frame.
    Empty,
    /// As hyper decodes it.
    H1(hyper::body::Incoming),
    /// Boxed, since it is larger than hyper's.
    H2(Box<H2Body>),
    /// One that has been read, or the beginning of it, since a rule had to look at it.
    Read(Box<ReadBody>),
}

/// A body of which some or all was read.
#[derive(Debug)]
pub struct ReadBody {
    /// What was read, without what is still to come.
    pub data: Bytes,
    /// What was not read yet.
    pub rest: Incoming,
    /// Those that were read; None: there are none, or they are still to come.
    pub trailers: Option<HeaderMap>,
}

/// The frames of one stream.
#[derive(Debug)]
pub struct H2Body {
    stream: RecvStream,
    /// By Content-Length, which h2 holds the frames against (RFC 9113 section 8.1.1).
    left: Option<u64>,
    data_ended: bool,
    /// The client's, of a request's body: it notes that the body moves.
    clock: Option<Arc<Clock>>,
    /// Told when it is wanted, for a client that waits for a 100.
    wanted: Option<oneshot::Sender<()>>,
}

/// Why a body broke off, as its protocol says it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    H1(#[from] hyper::Error),
    #[error(transparent)]
    H2(#[from] h2::Error),
}

impl Incoming {
    /// An answer's body; `length` is its Content-Length, None where it has none.
    pub fn h2(stream: RecvStream, length: Option<u64>) -> Self {
        Self::H2(Box::new(H2Body::new(stream, length)))
    }

    /// A client's body; `wanted` hears of the first look at it.
    pub fn h2_request(
        stream: RecvStream,
        length: Option<u64>,
        clock: Arc<Clock>,
        wanted: Option<oneshot::Sender<()>>,
    ) -> Self {
        let mut body = H2Body::new(stream, length);
        body.clock = Some(clock);
        body.wanted = wanted;
        Self::H2(Box::new(body))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::H1(body) => Pin::new(body).poll_frame(cx).map_err(Error::H1),
            Self::H2(body) => body.poll_frame(cx).map_err(Error::H2),
            Self::Read(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H1(body) => body.is_end_stream(),
            Self::H2(body) => body.stream.is_end_stream(),
            Self::Read(body) => body.data.is_empty() && body.trailers.is_none() && body.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::H1(body) => body.size_hint(),
            Self::H2(body) => body.left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Read(body) => body.size_hint(),
        }
    }
}

impl ReadBody {
    /// As it is kept by an `Incoming`, nothing read yet.
    pub fn of(incoming: Incoming) -> Box<Self> {
        match incoming {
            Incoming::Read(body) => body,
            rest => Box::new(Self {
                data: Bytes::new(),
                rest,
                trailers: None,
            }),
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.data)))));
        }
        match ready!(Pin::new(&mut self.rest).poll_frame(cx)) {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let (read, rest) = (self.data.len() as u64, self.rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}

impl H2Body {
    fn new(stream: RecvStream, length: Option<u64>) -> Self {
        Self {
            left: if stream.is_end_stream() { Some(0) } else { length },
            data_ended: stream.is_end_stream(),
            stream,
            clock: None,
            wanted: None,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(wanted) = self.wanted.take() {
            let _ = wanted.send(());
        }
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    if let Some(clock) = &self.clock {
                        clock.heard(true);
                    }
                    // Whoever asks for data has room for it: the window opens again, and no sooner.
                    self.stream.flow_control().release_capacity(data.len())?;
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // RFC 9113 section 8.1: the answer is complete, the rest of the request is not wanted.
                Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) && self.left.unwrap_or(0) == 0 => {
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}
