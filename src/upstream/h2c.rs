//! Connections to apps that speak HTTP/2 by prior knowledge (RFC 9113 section 3.3). Each carries many requests at once; what
//! a request says is `forward::h2c`'s.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Reason, SendStream};
use http_body::{Body as _, Frame};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout_at};

use super::dial;
use super::endpoint::{self, Open};
use super::pool::{Counted, IDLE_LIMIT};
use crate::body::request::{BodyError, ClientBody};
use crate::net::stream::Stream;
use crate::runtime::Traffic;
use crate::runtime::traffic::DialResult;

/// Streams that one connection is given at most, whatever the app allows: they share its fate and its bandwidth.
const MAX_STREAMS: usize = 128;
/// What RFC 9113 section 6.5.2 expects an app to allow at least. So many requests wait for its SETTINGS on one connection.
const PROVISIONAL_STREAMS: usize = 100;
/// What the app may send ahead of a client, for one stream; a connection's window has room for all of its streams, so that
/// a slow client holds up nobody but itself.
const WINDOW: u32 = 64 * 1024;
/// What is kept of a request body for a slow app.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// A first frame up to this size is kept until the answer begins.
const MAX_KEPT: usize = 64 * 1024;
/// As of HTTP/1.1 apps.
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// The connections to one endpoint.
#[derive(Debug, Default)]
pub struct Connections {
    shared: Mutex<Vec<Shared>>,
    /// One dial at a time: who waits for it may find room on what it opens.
    dialling: tokio::sync::Mutex<()>,
}

struct Shared {
    id: u64,
    /// Without it, and without streams, the connection ends by itself.
    sender: SendRequest<Bytes>,
    streams: usize,
    idle_since: Instant,
    /// It takes no more requests: the app has said so, or it is broken.
    retired: bool,
    counted: Counted,
}

/// The place of one request on a connection.
#[derive(Debug)]
pub struct Place {
    connection: u64,
    pub sender: SendRequest<Bytes>,
    open: Open,
    /// Others have used the connection before.
    pub reused: bool,
}

/// A request body on its way into its stream. Dropping it before its end resets the stream.
#[derive(Debug)]
pub struct Upload {
    body: Content,
    stream: SendStream<Bytes>,
    /// What was kept is to be sent first.
    again: bool,
}

/// A request's body, and what of it has left for a stream.
#[derive(Debug)]
pub struct Content {
    pub body: ClientBody,
    kept: Kept,
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

/// A place on a connection with room, else on a new one, within `limit`.
pub async fn place(
    open: Open,
    address: SocketAddr,
    limit: Duration,
    traffic: &Arc<Traffic>,
) -> Result<Place, DialResult> {
    let open = match take(open, traffic) {
        Ok(place) => return Ok(place),
        Err(open) => open,
    };
    let end = Instant::now() + limit;
    let endpoint = open.endpoint().clone();
    let _turn = timeout_at(end, endpoint.streams.dialling.lock())
        .await
        .map_err(|_elapsed| DialResult::TimedOut)?;
    let open = match take(open, traffic) {
        Ok(place) => return Ok(place),
        Err(open) => open,
    };
    let limit = end.saturating_duration_since(Instant::now());
    let stream = dial::connect(address, None, limit, traffic).await?;
    let handshake = timeout_at(end, builder().handshake(stream)).await;
    let (sender, connection) = handshake
        .map_err(|_elapsed| DialResult::TimedOut)?
        .map_err(|_| DialResult::Failed)?;
    Ok(begin(sender, connection, open, traffic))
}

/// What is queued before the app's SETTINGS waits for them: until then nothing but the preface has left.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(0)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * MAX_STREAMS as u32)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buffer_size(MAX_SEND_BUFFER);
    builder
}

fn take(open: Open, traffic: &Arc<Traffic>) -> Result<Place, Open> {
    let mut shared = open.endpoint().streams.lock();
    let Some(found) = shared.iter_mut().find_map(|one| one.has_room().then_some(one)) else {
        drop(shared);
        return Err(open);
    };
    if found.streams == 0 {
        found.counted.activate(traffic);
    }
    found.streams += 1;
    let (connection, sender) = (found.id, found.sender.clone());
    drop(shared);
    Ok(Place {
        connection,
        sender,
        open,
        reused: true,
    })
}

fn begin(
    sender: SendRequest<Bytes>,
    connection: Connection<Stream, Bytes>,
    open: Open,
    traffic: &Arc<Traffic>,
) -> Place {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Relaxed);
    open.endpoint().streams.lock().push(Shared {
        id,
        sender: sender.clone(),
        streams: 1,
        idle_since: Instant::now(),
        retired: false,
        counted: Counted::active(traffic),
    });
    tokio::spawn(drive(connection, id, Arc::downgrade(open.endpoint())));
    Place {
        connection: id,
        sender,
        open,
        reused: false,
    }
}

/// Drives one connection until it ends: by the app, by an error, or once it was idle for too long.
async fn drive(connection: Connection<Stream, Bytes>, id: u64, endpoint: Weak<endpoint::Endpoint>) {
    let mut connection = pin!(connection);
    loop {
        let next = endpoint.upgrade().map(|endpoint| endpoint.streams.look(id));
        let next = next.unwrap_or_else(|| Instant::now() + IDLE_LIMIT);
        if let Ok(ended) = timeout_at(next, connection.as_mut()).await {
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP/2 connection to an app has failed");
            }
            break;
        }
    }
    if let Some(endpoint) = endpoint.upgrade() {
        endpoint.streams.lock().retain(|one| one.id != id);
    }
}

impl Connections {
    /// Lets go of a connection that was idle for too long. When to look again.
    fn look(&self, id: u64) -> Instant {
        let now = Instant::now();
        let mut shared = self.lock();
        let Some(at) = shared.iter().position(|one| one.id == id) else {
            return now + IDLE_LIMIT;
        };
        let due = shared[at].idle_since + IDLE_LIMIT;
        if shared[at].streams > 0 {
            return now + IDLE_LIMIT;
        }
        if due <= now {
            shared.remove(at);
        }
        due.max(now + Duration::from_millis(1))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.shared.lock()
    }
}

impl Shared {
    fn has_room(&mut self) -> bool {
        let ready = self.sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        self.retired |= matches!(ready, Poll::Ready(Err(_)));
        let limit = match self.sender.current_max_send_streams() {
            0 => PROVISIONAL_STREAMS,
            limit => limit.min(MAX_STREAMS),
        };
        !self.retired && self.streams < limit
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({}, {} streams)", self.id, self.streams)
    }
}

impl Place {
    /// The app's SETTINGS have not come: whatever is there, it has seen no request.
    pub fn is_unheard(&self) -> bool {
        self.sender.current_max_send_streams() == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shared = self.open.endpoint().streams.lock();
        let Some(at) = shared.iter().position(|one| one.id == self.connection) else {
            return;
        };
        let one = &mut shared[at];
        one.streams -= 1;
        if one.streams == 0 {
            one.idle_since = Instant::now();
            one.counted.rest();
        }
    }
}

impl Content {
    pub fn new(body: ClientBody) -> Self {
        let kept = Kept::Nothing;
        Self { body, kept }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.kept, Kept::Nothing) && self.body.is_end_stream()
    }

    /// All of it can be sent, if need be again.
    pub fn is_whole(&self) -> bool {
        !matches!(self.kept, Kept::Lost)
    }

    /// None: the stream's data is to end here.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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

impl Upload {
    pub fn new(body: Content, stream: SendStream<Bytes>) -> Self {
        let again = matches!(body.kept, Kept::First { .. });
        Self { body, stream, again }
    }

    pub fn into_content(self) -> Content {
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
            let (data, last) = match &body.kept {
                Kept::First { data, last } if std::mem::take(again) => (data.clone(), *last),
                _ => match ready!(body.poll_next(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => (data, body.body.is_end_stream()),
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
