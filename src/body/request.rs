//! The body of a request on its way to the app.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, Timeout};

use super::incoming::{self, Incoming};
use crate::fields::hop;
use crate::reason::Reason;

/// A client's request body on its way to the app.
#[derive(Debug)]
pub struct ClientBody {
    incoming: Option<Incoming>,
    pause: Pause,
    hold: Hold,
    sent: Arc<Sent>,
}

/// Opened by the app's 100, or after a while without one; never once the final answer is there instead.
pub type Gate = Pin<Box<Timeout<oneshot::Receiver<()>>>>;

/// With `Expect: 100-continue` the body waits for the app's 100: polling it makes hyper send the client one.
#[derive(Debug)]
pub enum Hold {
    /// It goes at once.
    Free,
    /// Until the gate opens.
    Waiting(Gate),
    /// The final answer came instead. The body stays where it is; the connection is closed after the answer.
    Refused,
}

/// How far a request body got, for who waits for the answer.
#[derive(Debug, Default)]
pub struct Sent {
    /// All of it was handed over: the connection can serve another request.
    pub whole: AtomicBool,
    /// Frames handed over so far.
    pub frames: AtomicU64,
    /// Bytes of data handed over so far, without trailers.
    pub bytes: AtomicU64,
    /// A `Fault`, once there is one.
    fault: AtomicU8,
}

/// Why a request body ended early. The app is not to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client paused for too long.
    Paused = 1,
    /// The exchange as a whole took longer than its Deployment allows.
    TotalTimeout,
    /// It broke its framing, or went away.
    Broken,
}

/// The longest pause between two frames, and an end to all of them. The timer exists only once there was a pause.
#[derive(Debug)]
pub struct Pause {
    limit: Option<Duration>,
    end: Option<Instant>,
    /// When it was first asked in vain for the next frame: what the other side keeps waiting is no pause of this one.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("no byte of the body arrived in time")]
    Paused,
    #[error("the whole exchange took too long")]
    TotalTimeout,
    #[error(transparent)]
    Incoming(#[from] incoming::Error),
}

impl ClientBody {
    /// No body at all, as of an upgrade.
    pub fn none() -> Self {
        Self::of(None, None, None)
    }

    /// `idle` bounds each pause of the client, `end` the whole body; None: without a bound.
    pub fn new(incoming: Incoming, idle: Option<Duration>, end: Option<Instant>, hold: Hold) -> Self {
        let incoming = (!incoming.is_end_stream()).then_some(incoming);
        Self {
            hold,
            ..Self::of(incoming, idle, end)
        }
    }

    fn of(incoming: Option<Incoming>, idle: Option<Duration>, end: Option<Instant>) -> Self {
        let sent = Sent {
            whole: AtomicBool::new(incoming.is_none()),
            ..Sent::default()
        };
        Self {
            incoming,
            pause: Pause::new(idle, end),
            hold: Hold::Free,
            sent: Arc::new(sent),
        }
    }

    /// Shared with the body: it tells how far that is, also once it is gone.
    pub fn sent(&self) -> Arc<Sent> {
        self.sent.clone()
    }
}

impl http_body::Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Hold::Refused = this.hold {
            return Poll::Pending;
        }
        if let Hold::Waiting(gate) = &mut this.hold {
            if let Ok(Err(_keeper_gone)) = ready!(gate.as_mut().poll(cx)) {
                // hyper drops the keeper with the final answer.
                this.hold = Hold::Refused;
                return Poll::Pending;
            }
            this.hold = Hold::Free;
        }
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        let polled = ready!(this.pause.poll(cx, incoming));
        this.sent.frames.fetch_add(1, Relaxed);
        if let Some(Ok(frame)) = &polled {
            this.sent.bytes.fetch_add(length(frame), Relaxed);
        }
        match &polled {
            None => this.sent.whole.store(true, Relaxed),
            Some(Ok(_)) if incoming.is_end_stream() => this.sent.whole.store(true, Relaxed),
            Some(Ok(_)) => {}
            Some(Err(error)) => this.sent.fault.store(Fault::of(error) as u8, Relaxed),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Sent {
    /// None: nothing is known to be wrong with the body.
    pub fn fault(&self) -> Option<Fault> {
        let fault = self.fault.load(Relaxed);
        [Fault::Paused, Fault::TotalTimeout, Fault::Broken]
            .into_iter()
            .find(|known| *known as u8 == fault)
    }
}

impl Fault {
    /// What the client is answered with.
    pub fn reason(self) -> Reason {
        match self {
            Self::Paused => Reason::RequestTimeout,
            Self::TotalTimeout => Reason::UpstreamTimeout,
            Self::Broken => Reason::BadRequest,
        }
    }

    fn of(error: &BodyError) -> Self {
        match error {
            BodyError::Paused => Self::Paused,
            BodyError::TotalTimeout => Self::TotalTimeout,
            BodyError::Incoming(_) => Self::Broken,
        }
    }
}

impl Pause {
    /// None: pauses, or all of it, have no bound.
    pub fn new(limit: Option<Duration>, end: Option<Instant>) -> Self {
        Self {
            limit,
            end,
            since: None,
            timer: None,
        }
    }

    /// The next frame, less what no trailer may hold; an error once a pause is too long, the end is reached or the body
    /// breaks.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        incoming: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = pin!(incoming).poll_frame(cx) {
            self.since = None;
            return Poll::Ready(frame.map(|frame| Ok(without_forbidden_trailers(frame?))));
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let paused = self.limit.map(|limit| since + limit);
        let Some(due) = [paused, self.end].into_iter().flatten().min() else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if self.end.is_some_and(|end| end <= now) {
                return Poll::Ready(Some(Err(BodyError::TotalTimeout)));
            }
            // Frames since the timer was set only move what it is compared with.
            if due <= now {
                return Poll::Ready(Some(Err(BodyError::Paused)));
            }
            timer.as_mut().reset(due);
        }
    }
}

/// Bytes of data in the frame; 0 for trailers.
pub fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

/// RFC 9110 section 6.5.1: fields for framing, routing, authentication and the like have no place in trailers.
fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(trailers) => {
            let mut kept = HeaderMap::with_capacity(trailers.keys_len());
            for (name, value) in &trailers {
                if hop::is_allowed_in_trailers(name) {
                    kept.append(name, value.clone());
                }
            }
            Frame::trailers(kept)
        }
        Err(frame) => frame,
    }
}
