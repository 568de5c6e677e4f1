//! The HTTP/2 connections to one endpoint. Each carries the streams of many requests at once.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::net::stream::Stream;
use crate::runtime::Traffic;
use crate::runtime::traffic::DialResult;
use crate::upstream::descriptor::Descriptor;
use crate::upstream::dial;
use crate::upstream::endpoint::{EndpointState, IDLE_LIMIT, Open};
use crate::upstream::gauge::GaugeGuard;

/// Streams that one connection is given at most, whatever the app allows: they share its fate and its bandwidth.
const MAX_STREAMS: usize = 128;
/// How many requests wait on one connection for the app's SETTINGS: the least that RFC 9113 section 6.5.2 expects it to allow.
const PROVISIONAL_STREAMS: usize = 100;
/// What the app may send ahead of a client, for one stream; a connection's window has room for all of its streams, so that
/// a slow client holds up nobody but itself.
const WINDOW: u32 = 64 * 1024;
/// What is kept of a request body for a slow app.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// The size of an app's response head, as in HTTP/1.1.
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// The connections to one endpoint.
#[derive(Debug, Default)]
pub struct Connections {
    shared: Mutex<Vec<SharedConnection>>,
    /// One dial at a time: who waits for it may find room on what it opens.
    dialling: tokio::sync::Mutex<()>,
}

struct SharedConnection {
    id: u64,
    /// Without it, and without streams, the connection ends by itself.
    sender: SendRequest<Bytes>,
    streams: usize,
    idle_since: Instant,
    /// It takes no more requests: the app has said so, or it is broken.
    retired: bool,
    gauge: GaugeGuard,
}

/// The room that one request takes up on a connection until its answer has ended. Dropping it resets a stream that is still
/// open.
#[derive(Debug)]
pub struct StreamSlot {
    connection: u64,
    /// Sends the request, once.
    pub(super) sender: SendRequest<Bytes>,
    /// The task that sends the rest of the request.
    pub(super) upload: Option<AbortOnDropHandle<()>>,
    open: Open,
    /// Others have used the connection before.
    pub reused: bool,
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

/// Drives one connection until it ends: by the app, by an error, or once it was idle for too long.
async fn drive(connection: Connection<Stream, Bytes>, id: u64, endpoint: Weak<EndpointState>) {
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

    fn lock(&self) -> MutexGuard<'_, Vec<SharedConnection>> {
        self.shared.lock()
    }
}

impl SharedConnection {
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

impl fmt::Debug for SharedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedConnection({}, {} streams)", self.id, self.streams)
    }
}

impl StreamSlot {
    /// A slot on an open connection that has room.
    pub fn reuse(open: Open, traffic: &Arc<Traffic>) -> Result<Self, Open> {
        let mut shared = open.endpoint().streams.lock();
        let Some(found) = shared.iter_mut().find_map(|one| one.has_room().then_some(one)) else {
            drop(shared);
            return Err(open);
        };
        if found.streams == 0 {
            found.gauge.activate(traffic);
        }
        found.streams += 1;
        let (connection, sender) = (found.id, found.sender.clone());
        drop(shared);
        Ok(Self {
            connection,
            sender,
            upload: None,
            open,
            reused: true,
        })
    }

    /// A slot on a new connection, or on one that another request has just opened, within `limit`.
    pub async fn open(
        open: Open,
        address: SocketAddr,
        limit: Duration,
        traffic: &Arc<Traffic>,
        descriptor: Descriptor,
    ) -> Result<Self, DialResult> {
        let open = match Self::reuse(open, traffic) {
            Ok(slot) => return Ok(slot),
            Err(open) => open,
        };
        let end = Instant::now() + limit;
        let endpoint = open.endpoint().clone();
        let _turn = timeout_at(end, endpoint.streams.dialling.lock())
            .await
            .map_err(|_elapsed| DialResult::TimedOut)?;
        let open = match Self::reuse(open, traffic) {
            Ok(slot) => return Ok(slot),
            Err(open) => open,
        };
        let limit = end.saturating_duration_since(Instant::now());
        let stream = dial::connect(address, None, limit, traffic, descriptor).await?;
        let handshake = timeout_at(end, builder().handshake(stream)).await;
        let (sender, connection) = handshake
            .map_err(|_elapsed| DialResult::TimedOut)?
            .map_err(|_| DialResult::Failed)?;
        Ok(Self::begin(sender, connection, open, traffic))
    }

    fn begin(
        sender: SendRequest<Bytes>,
        connection: Connection<Stream, Bytes>,
        open: Open,
        traffic: &Arc<Traffic>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Relaxed);
        open.endpoint().streams.lock().push(SharedConnection {
            id,
            sender: sender.clone(),
            streams: 1,
            idle_since: Instant::now(),
            retired: false,
            gauge: GaugeGuard::active(traffic),
        });
        tokio::spawn(drive(connection, id, Arc::downgrade(open.endpoint())));
        Self {
            connection: id,
            sender,
            upload: None,
            open,
            reused: false,
        }
    }

    /// Whether the app's SETTINGS have not come yet: then it has seen no request, whatever has failed.
    pub(super) fn is_unheard(&self) -> bool {
        self.sender.current_max_send_streams() == 0
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        // First, so that it does not outlive the slot that it was counted by.
        self.upload = None;
        let mut shared = self.open.endpoint().streams.lock();
        let Some(at) = shared.iter().position(|one| one.id == self.connection) else {
            return;
        };
        let one = &mut shared[at];
        one.streams -= 1;
        if one.streams == 0 {
            one.idle_since = Instant::now();
            one.gauge.rest();
        }
    }
}
