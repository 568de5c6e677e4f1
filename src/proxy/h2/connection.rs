//! One client connection in HTTP/2: its settings, its limits, and its end. Every stream is a task of its own; this one moves
//! their frames.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::server::{self, Builder};
use tokio::time::timeout;

use super::io::{Io, Seen};
use super::place::{Place, Shared};
use super::request;
use crate::body::clock::HEAD_TIMEOUT;
use crate::fields::MAX_HEAD;
use crate::net::stream::Stream;
use crate::proxy::Proxy;
use crate::proxy::connections::{Admitted, Serves as _};
use crate::proxy::peer::Peer;
use crate::snapshot::Listener;

/// Each stream's, each way. The connection's holds all of them, so that none that stands still stands in another's way.
const WINDOW: u32 = 64 * 1024;
const MAX_WINDOW: u32 = (1 << 31) - 1;
const MAX_RESETS: usize = 1024;
/// Between our GOAWAY and the end of a connection that carries nothing any more.
const GRACE: Duration = Duration::from_secs(10);

/// Serves streams until the connection ends. It ends by itself only while none is open.
pub async fn serve(stream: Stream, peer: Arc<Peer>, proxy: Arc<Proxy>, admitted: Admitted) {
    let seen = Arc::<Seen>::default();
    let shared = Arc::new(Shared::new(peer, proxy.clone(), seen.clone()));
    admitted.serves(shared.clone());
    let listener = proxy.listener();
    let handshake = settings(&listener).handshake(Io::new(stream, seen.clone()));
    if let Ok(Ok(mut connection)) = timeout(HEAD_TIMEOUT, handshake).await {
        drive(&mut connection, &shared, &seen, listener.keep_alive_timeout, &admitted).await;
    }
    shared.change(|load| load.open = false);
}

fn settings(listener: &Listener) -> Builder {
    let streams = listener.http2_max_streams;
    let mut builder = Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW.saturating_mul(streams).clamp(WINDOW, MAX_WINDOW))
        .max_concurrent_streams(streams)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buffer_size(WINDOW as usize)
        // More than the flood's meter lets through: it judges how often a client may take back what it asked for, and does not
        // depend on how soon this task is run.
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_concurrent_reset_streams(MAX_RESETS)
        // What a client had on its way to a stream that was reset is not to end the connection.
        .reset_stream_duration(GRACE);
    if listener.websocket_http2 {
        builder.enable_connect_protocol();
    }
    builder
}

/// Until the connection ends: by the client, after `keep_alive` without a stream, at the drain of this process, or because
/// the client floods it.
async fn drive(
    connection: &mut server::Connection<Io, Bytes>,
    shared: &Arc<Shared>,
    seen: &Seen,
    keep_alive: Duration,
    admitted: &Admitted,
) {
    let proxy = &shared.proxy;
    let mut draining = pin!(proxy.draining.cancelled());
    let mut tick = pin!(tokio::time::sleep(HEAD_TIMEOUT));
    let (mut first, mut going_away, mut given_up) = (true, false, false);
    let (mut patience, mut written) = (keep_alive, 0);
    poll_fn(|cx| {
        // The first poll leaves wakers; the others look at flags, since each poll of these takes locks that are shared.
        let first = std::mem::take(&mut first);
        if !going_away && (first || proxy.is_draining.load(Relaxed)) && draining.as_mut().poll(cx).is_ready() {
            going_away = true;
            connection.graceful_shutdown();
            patience = GRACE;
            tick.as_mut().reset(tokio::time::Instant::now() + GRACE);
        }
        let mut look = first || going_away || tick.is_elapsed();
        loop {
            if accept(connection, shared, cx).is_ready() {
                return Poll::Ready(());
            }
            if (first && admitted.poll_told(cx).is_ready() || admitted.is_told()) && shared.waits().is_some() {
                // Another needs its place. What it sent meanwhile was not seen, and it may send it again.
                connection.abrupt_shutdown(Reason::NO_ERROR);
                let _ = accept(connection, shared, cx);
                return Poll::Ready(());
            }
            if !given_up && seen.flooded.load(Relaxed) {
                given_up = true;
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                tick.as_mut().reset(tokio::time::Instant::now() + GRACE);
                look = true;
                continue;
            }
            if !look || tick.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if given_up || !seen.begun.load(Relaxed) {
                return Poll::Ready(());
            }
            let now = Instant::now();
            // The last bytes of a last answer may still be on their way.
            let before = std::mem::replace(&mut written, seen.written.load(Relaxed));
            let moves = connection.has_streams() && before != written;
            let since = shared.lock().idle_since().filter(|_| !moves).unwrap_or(now);
            let due = since + patience;
            if due > now {
                tick.as_mut().reset(due.into());
            } else if going_away {
                return Poll::Ready(());
            } else {
                going_away = true;
                patience = GRACE;
                connection.graceful_shutdown();
                tick.as_mut().reset((now + GRACE).into());
            }
            look = true;
        }
    })
    .await;
}

/// Moves frames, and makes a task of each stream that has arrived. Ready: the connection has ended.
fn accept(connection: &mut server::Connection<Io, Bytes>, shared: &Arc<Shared>, cx: &mut Context<'_>) -> Poll<()> {
    while let Poll::Ready(accepted) = connection.poll_accept(cx) {
        let Some(Ok((request, respond))) = accepted else {
            return Poll::Ready(());
        };
        tokio::spawn(request::serve(request, respond, Place::of(shared)));
    }
    Poll::Pending
}
