//! One client connection that has begun to speak: hyper serves it, a clock bounds its pauses, and where a request became a socket its bytes go on
//! in a tunnel of their own.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, header};
use hyper::body::Incoming as H1Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::arrival::{Bounds, Turn};
use super::body::Body;
use super::error;
use super::incoming::Incoming;
use super::peer::Peer;
use super::stream::Stream;
use super::{Proxy, exchange};
use crate::reason::Reason;
use crate::websocket::socket::Registered;
use crate::websocket::tunnel::{self, Opening, Tunnel};

/// From a connection's first moment to its first byte, and from a head's first byte to its end.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection's clock is looked at no less often. Limits below it need timers of their own, those above it none: a timer
/// for every request would cost each a tenth of its instructions and a lock that all share.
pub const COARSE: Duration = HEAD_TIMEOUT;
/// How long what a client still sends is read after our FIN.
pub const LINGER: Duration = Duration::from_secs(2);
pub const MAX_HEAD: usize = 64 * 1024;
pub const MAX_HEADERS: usize = 100;
/// hyper's buffers grow to this for large bodies, each way. No less than a head.
const MAX_BUFFER: usize = 128 * 1024;

/// What the requests of one connection share.
#[derive(Debug)]
pub struct Client {
    pub proxy: Arc<Proxy>,
    pub peer: Arc<Peer>,
    pub clock: Clock,
    /// The place in line that the first request, if it is an upgrade, already has.
    turn: Mutex<Option<Turn>>,
    /// Where an accepted upgrade leaves the app's half until the client's is free.
    opening: Mutex<Option<Opening>>,
    /// Whether the last write found the socket full.
    write_blocked: AtomicBool,
}

/// Where a connection stands, and since when. Marked without a timer: one coarse timer per connection looks at it.
#[derive(Debug)]
pub struct Clock {
    /// Milliseconds since `epoch`, shifted left by two, with the phase in the low bits: read and written as one.
    mark: AtomicU64,
    /// The longest pause between two movements of a body, in milliseconds; 0: any.
    body_idle: AtomicU64,
    /// Until when the app may take to answer, in milliseconds since `epoch`; 0: for ever.
    busy_until: AtomicU64,
    /// From the end of an answer to the first byte of the next head.
    keep_alive: Duration,
    /// That it is over.
    overdue: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of a next request has come.
    Idle = 0,
    /// A head is awaited or on its way.
    Head = 1,
    /// A request is being answered: its own timeouts hold.
    Busy = 2,
    /// An answer's body is on its way: `body_idle` holds.
    Sending = 3,
}

/// What is left of a connection when hyper is done with it.
pub enum Ending {
    Socket(Box<Tunnel<Stream>>),
    /// Both ways are to be ended in order.
    Lingering(Stream),
    Closed,
}

enum Ended {
    /// hyper is done; perhaps an `Opening` waits.
    Done,
    TimedOut(Phase),
}

/// Serves requests until the connection ends or becomes a tunnel.
pub async fn serve(
    stream: Stream,
    peer: Arc<Peer>,
    proxy: Arc<Proxy>,
    bounds: Bounds<'_, '_>,
    turn: Option<Turn>,
) -> Ending {
    let client = Arc::new(Client::new(proxy, peer, turn));
    let io = Io {
        stream: TokioIo::new(stream),
        client: client.clone(),
    };
    let mut connection = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(io, Exchanges(client.clone()));
    let ended = drive(&mut connection, &client, bounds).await;
    let parts = connection.into_parts();
    let mut stream = parts.io.stream.into_inner();
    let opening = client.take_opening();
    match (ended, opening) {
        (Ended::Done, Some(opening)) => Ending::Socket(Box::new(tunnel::run(stream, parts.read_buf, opening))),
        (Ended::Done, None) => Ending::Lingering(stream),
        // Cut in mid-answer: after a FIN an answer without a length would look whole.
        (Ended::TimedOut(Phase::Sending), _) => {
            reset(&stream);
            Ending::Closed
        }
        (Ended::TimedOut(phase), _) => {
            // A courtesy to a slow client, not to be waited for; unless an earlier answer is still on its way to it.
            if phase == Phase::Head && !client.write_blocked.load(Relaxed) {
                let answer = error::raw(Reason::RequestTimeout, &exchange::request_id());
                let _ = stream.write(&answer).now_or_never();
            }
            Ending::Lingering(stream)
        }
    }
}

impl Ending {
    pub async fn finish(self) {
        match self {
            // A new, small task: this one's memory goes with it.
            Self::Socket(tunnel) => {
                tokio::spawn(*tunnel);
            }
            Self::Lingering(stream) => linger(stream).await,
            Self::Closed => {}
        }
    }
}

/// FIN, then reading to the end for a while: closing on unread bytes would send a reset, and a reset may eat the answer on
/// its way (RFC 9112 section 9.6).
pub async fn linger(mut stream: Stream) {
    let drain = async {
        stream.shutdown().await?;
        // Not a buffer of the task: it would make every connection's larger.
        while poll_fn(|cx| poll_discard(&mut stream, cx)).await? > 0 {}
        Ok(())
    };
    let _: Result<io::Result<()>, _> = tokio::time::timeout(LINGER, drain).await;
}

/// What is still read of a connection that has ended.
pub fn poll_discard(stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut buffer = [0; 4096];
    let mut read = ReadBuf::new(&mut buffer);
    let polled = Pin::new(stream).poll_read(cx, &mut read);
    polled.map_ok(|()| read.filled().len())
}

fn reset(stream: &Stream) {
    // Failing, it leaves a FIN.
    let _ = stream.socket().set_linger(Some(Duration::ZERO));
}

/// Polls hyper to its end, the connection's clock beside it, and passes on the word to finish.
async fn drive(connection: &mut http1::Connection<Io, Exchanges>, client: &Client, bounds: Bounds<'_, '_>) -> Ended {
    let Bounds { mut tick, mut draining } = bounds;
    let (mut first, mut told) = (true, false);
    tick.as_mut().reset((Instant::now() + client.clock.pace()).into());
    poll_fn(|cx| {
        // The first poll leaves wakers; the others look at flags, since each poll of these takes locks that are shared.
        let first = std::mem::take(&mut first);
        if !told && (first || client.proxy.is_draining.load(Relaxed)) && draining.as_mut().poll(cx).is_ready() {
            told = true;
            Pin::new(&mut *connection).graceful_shutdown();
        }
        let mut look = first || tick.is_elapsed();
        loop {
            match connection.poll_without_shutdown(cx) {
                // hyper counts an upgrade as done though its 101 may still stand in its buffer, behind a full socket;
                // every further poll flushes.
                Poll::Ready(Ok(())) if client.write_blocked.load(Relaxed) => {}
                Poll::Ready(_) => return Poll::Ready(Ended::Done),
                Poll::Pending => {}
            }
            if !look || tick.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // Once more around: the exchange may find that its time is up, and the timer wants its waker anew.
            look = true;
            match client.clock.check() {
                Ok(next) => tick.as_mut().reset(next.into()),
                Err(phase) => return Poll::Ready(Ended::TimedOut(phase)),
            }
        }
    })
    .await
}

/// hyper's service: each request becomes an exchange.
struct Exchanges(Arc<Client>);

impl Service<Request<H1Incoming>> for Exchanges {
    type Response = Response<Body>;
    type Error = Infallible;
    // Boxed, since hyper gives up its parts (`poll_without_shutdown`) only with an Unpin future.
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<H1Incoming>) -> Self::Future {
        self.0.clock.busy();
        let client = self.0.clone();
        Box::pin(async move {
            let mut response = exchange::answer(&client, request.map(Incoming::H1)).await;
            if client.proxy.is_leaving.load(Relaxed) && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok(response)
        })
    }
}

impl Client {
    pub fn new(proxy: Arc<Proxy>, peer: Arc<Peer>, turn: Option<Turn>) -> Self {
        let keep_alive = proxy.listener().keep_alive_timeout;
        Self {
            proxy,
            peer,
            clock: Clock::new(keep_alive),
            turn: Mutex::new(turn),
            opening: Mutex::default(),
            write_blocked: AtomicBool::new(false),
        }
    }

    pub fn take_turn(&self) -> Option<Turn> {
        self.turn.lock().take()
    }

    /// Leaves an accepted upgrade for when the client has been told.
    pub fn open_socket(&self, opening: Opening) {
        *self.opening.lock() = Some(opening);
    }

    /// What is to be known of the socket before the client has it, if there is one.
    pub fn with_socket(&self, say: impl FnOnce(&Registered)) {
        if let Some(opening) = &*self.opening.lock() {
            say(&opening.socket);
        }
    }

    pub fn take_opening(&self) -> Option<Opening> {
        self.opening.lock().take()
    }
}

impl Clock {
    fn new(keep_alive: Duration) -> Self {
        let clock = Self {
            keep_alive,
            mark: AtomicU64::new(0),
            body_idle: AtomicU64::new(0),
            busy_until: AtomicU64::new(0),
            overdue: AtomicBool::new(false),
        };
        clock.enter(Phase::Head);
        clock
    }

    /// Waits for what this connection's task waits for, without a timer of its own. None: it was not there in time. The end
    /// must be further away than `COARSE`: then one look at least falls before it.
    pub async fn until<F: Future>(&self, end: Instant, wait: F) -> Option<F::Output> {
        let mut wait = pin!(wait);
        self.overdue.store(false, Relaxed);
        self.busy_until.store(since_epoch(end), Relaxed);
        let waited = poll_fn(|cx| match wait.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.overdue.swap(false, Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.busy_until.store(0, Relaxed);
        waited
    }

    /// A request is there.
    pub fn busy(&self) {
        self.enter(Phase::Busy);
    }

    /// An answer's body begins: neither side may pause longer than `idle`.
    pub fn sending(&self, idle: Option<Duration>) {
        self.body_idle
            .store(idle.map_or(0, |idle| idle.as_millis() as u64), Relaxed);
        self.enter(Phase::Sending);
    }

    /// The app has accepted an upgrade: the client's socket must take the 101 as soon as a head must come.
    pub fn switching(&self) {
        self.enter(Phase::Head);
    }

    /// The answer has ended, or was given up.
    pub fn idle(&self) {
        self.enter(Phase::Idle);
    }

    fn enter(&self, phase: Phase) {
        self.mark.store(now_millis() << 2 | phase as u64, Relaxed);
    }

    /// `write_blocked`: an earlier answer is still on its way.
    pub fn heard(&self, write_blocked: bool) {
        match self.read().0 {
            Phase::Idle if !write_blocked => self.enter(Phase::Head),
            Phase::Idle => self.enter(Phase::Idle),
            Phase::Sending => self.enter(Phase::Sending),
            Phase::Head | Phase::Busy => {}
        }
    }

    pub fn wrote(&self) {
        let (phase, _) = self.read();
        if matches!(phase, Phase::Idle | Phase::Sending) {
            self.enter(phase);
        }
    }

    fn read(&self) -> (Phase, u64) {
        let mark = self.mark.load(Relaxed);
        let phase = match mark & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Sending,
        };
        (phase, mark >> 2)
    }

    /// How often to look: the coarser, the cheaper, but a short `keepAliveTimeout` is to mean something.
    fn pace(&self) -> Duration {
        COARSE.min(self.keep_alive)
    }

    /// When to look again, or the phase that has lasted too long.
    pub fn check(&self) -> Result<Instant, Phase> {
        let (phase, since) = self.read();
        let limit = match phase {
            Phase::Idle => self.keep_alive,
            Phase::Head => HEAD_TIMEOUT,
            Phase::Busy => return Ok(self.check_answer()),
            Phase::Sending => match self.body_idle.load(Relaxed) {
                0 => return Ok(Instant::now() + self.pace()),
                millis => Duration::from_millis(millis),
            },
        };
        let due = epoch() + Duration::from_millis(since) + limit;
        if due <= Instant::now() {
            Err(phase)
        } else {
            Ok(due.min(Instant::now() + self.pace()))
        }
    }

    fn check_answer(&self) -> Instant {
        let (now, until) = (Instant::now(), self.busy_until.load(Relaxed));
        let due = epoch() + Duration::from_millis(until);
        if until > 0 && due <= now {
            self.overdue.store(true, Relaxed);
        }
        if until > 0 && due > now {
            due.min(now + self.pace())
        } else {
            now + self.pace()
        }
    }
}

fn now_millis() -> u64 {
    since_epoch(Instant::now())
}

fn since_epoch(instant: Instant) -> u64 {
    instant.saturating_duration_since(epoch()).as_millis() as u64
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// The client's socket as hyper sees it: each movement of a byte is noted on the connection's clock.
struct Io {
    stream: TokioIo<Stream>,
    client: Arc<Client>,
}

impl Read for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.client.clock.heard(self.client.write_blocked.load(Relaxed));
        }
        polled
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Io {
    fn note(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.client.write_blocked.store(polled.is_pending(), Relaxed);
        if polled.is_ready() {
            self.client.clock.wrote();
        }
        polled
    }
}
