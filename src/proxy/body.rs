//! Bodies on their way through: never buffered or re-encoded, only watched for pauses, and stripped of trailers that would
//! pass for something else.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, Timeout};
use tokio_util::task::AbortOnDropHandle;

use super::connection::Client;
use super::h2c::Place;
use super::headers;
use super::incoming::{self, Incoming};
use super::pool::Lease;
use super::telling::Telling;
use crate::reason::Reason;
use crate::state;

/// What a client is answered with.
#[derive(Debug)]
pub enum Body {
    /// Postern's own words.
    Own(Full<Bytes>),
    App(Box<AppBody>),
}

/// The app's answer as it comes, with what is held until it ends.
#[derive(Debug)]
pub struct AppBody {
    incoming: Incoming,
    pause: Pause,
    held: Option<Held>,
    /// Told when it is dropped.
    account: Account,
}

/// What an answer has of a connection to the app until it ends.
#[derive(Debug)]
pub enum Held {
    /// All of it: back to its pool when the body has ended, closed when it is given up.
    Connection(Lease),
    /// One stream; what is not over by then is reset.
    Stream {
        place: Place,
        /// The rest of the request.
        upload: Option<AbortOnDropHandle<()>>,
    },
}

/// Who is told how the exchange ended.
#[derive(Debug)]
pub struct Account {
    pub client: Arc<Client>,
    pub deployment: Arc<state::Deployment>,
    pub status: StatusCode,
    pub started: std::time::Instant,
    pub bytes: u64,
    pub complete: bool,
    pub telling: Option<Box<Telling>>,
}

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
    Free,
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
    pub bytes: AtomicU64,
    /// A `Fault`, once there is one.
    fault: AtomicU8,
}

/// Why a request body ended early. The app is not to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client paused for too long.
    Paused = 1,
    TotalTimeout,
    /// It broke its framing, or went away.
    Broken,
}

/// The longest pause between two frames, and an end to all of them. The timer exists only once there was a pause.
#[derive(Debug)]
struct Pause {
    limit: Option<Duration>,
    end: Option<Instant>,
    /// When it was first asked in vain for the next frame: what the other side keeps waiting is no pause of this one.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("no byte of the body arrived in time")]
    Paused,
    #[error("the whole exchange took too long")]
    TotalTimeout,
    #[error(transparent)]
    Incoming(#[from] incoming::Error),
}

impl AppBody {
    pub fn new(incoming: Incoming, held: Held, account: Account, idle: Option<Duration>, end: Option<Instant>) -> Self {
        let mut body = Self {
            incoming,
            pause: Pause::new(idle, end),
            held: Some(held),
            account,
        };
        body.release_if_ended();
        body
    }

    /// What is to be said at its end.
    pub fn tell(&mut self, telling: Box<Telling>) {
        self.account.telling = Some(telling);
    }

    /// At once when the last frame is out, so that the next request finds the connection in the pool.
    fn release_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.ended();
        }
    }

    fn ended(&mut self) {
        self.account.complete = true;
        if let Some(held) = self.held.take() {
            held.release();
        }
    }
}

impl Held {
    fn release(self) {
        match self {
            Self::Connection(lease) => lease.release(),
            // The upload first, lest it outlives the place that it was counted by.
            Self::Stream { place, upload } => {
                drop(upload);
                drop(place);
            }
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.deployment
            .traffic
            .count_answer(self.status, self.started.elapsed());
        self.client.clock.idle();
        if let Some(telling) = self.telling.take() {
            telling.end(&self.client.proxy.telemetry, self.bytes, self.complete);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            // Infallible.
            Self::Own(full) => pin!(full).poll_frame(cx).map_err(|never| match never {}),
            Self::App(body) => {
                let polled = body.pause.poll(cx, &mut body.incoming);
                if let Poll::Ready(frame) = &polled {
                    match frame {
                        None => body.ended(),
                        Some(Ok(frame)) => {
                            body.account.bytes += length(frame);
                            body.release_if_ended();
                        }
                        Some(Err(_)) => body.held = None,
                    }
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(full) => full.is_end_stream(),
            Self::App(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(full) => full.size_hint(),
            Self::App(body) => body.incoming.size_hint(),
        }
    }
}

impl ClientBody {
    /// No body at all, as of an upgrade.
    pub fn none() -> Self {
        Self::of(None, None, None)
    }

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
    pub fn fault(&self) -> Option<Fault> {
        let fault = self.fault.load(Relaxed);
        [Fault::Paused, Fault::TotalTimeout, Fault::Broken]
            .into_iter()
            .find(|known| *known as u8 == fault)
    }
}

impl Fault {
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
    fn new(limit: Option<Duration>, end: Option<Instant>) -> Self {
        Self {
            limit,
            end,
            since: None,
            timer: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, incoming: &mut Incoming) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

/// RFC 9110 section 6.5.1: fields for framing, routing, authentication and the like have no place in trailers.
fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(trailers) => {
            let mut kept = HeaderMap::with_capacity(trailers.keys_len());
            for (name, value) in &trailers {
                if headers::is_allowed_in_trailers(name) {
                    kept.append(name, value.clone());
                }
            }
            Frame::trailers(kept)
        }
        Err(frame) => frame,
    }
}
