//! One client connection that has begun to speak: hyper serves it, a clock bounds its pauses, and where a request became a socket its bytes go on
//! in a tunnel of their own.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, header};
use hyper::body::Incoming as H1Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::io::AsyncWriteExt;

use super::io::Io;
use crate::body::clock::Phase;
use crate::body::incoming::Incoming;
use crate::fields::{MAX_HEAD, MAX_HEADERS};
use crate::net::stream::{Stream, Wire};
use crate::proxy::body::Body;
use crate::proxy::client::{Bounds, Client};
use crate::proxy::connections::{Admitted, Serves as _, Waits};
use crate::proxy::linger::linger;
use crate::proxy::peer::Peer;
use crate::proxy::permit::UpgradePermit;
use crate::proxy::{Proxy, context, error, exchange};
use crate::reason::Reason;
use crate::websocket::tunnel::{self, Tunnel};

/// hyper's buffers grow to this for large bodies, each way. No less than a head.
const MAX_BUFFER: usize = 128 * 1024;

/// What is left of a connection when hyper is done with it.
pub enum Ending {
    /// A WebSocket; boxed, since the other endings are small.
    Socket(Box<Tunnel<Wire>>),
    /// Both ways are to be ended in order.
    Lingering(Stream),
    /// Nothing is left to do.
    Closed,
}

enum Ended {
    /// hyper is done; perhaps an `Opening` waits.
    Done,
    TimedOut(Phase),
    /// Another needed its place.
    Displaced(Waits),
}

/// Serves requests until the connection ends or becomes a tunnel.
pub async fn serve(
    stream: Stream,
    peer: Arc<Peer>,
    proxy: Arc<Proxy>,
    bounds: Bounds<'_, '_>,
    permit: Option<UpgradePermit>,
    admitted: Admitted,
) -> Ending {
    let client = Arc::new(Client::new(proxy, peer, permit));
    admitted.serves(client.clone());
    let io = Io::new(stream, client.clone());
    let mut connection = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(io, Exchanges(client.clone()));
    let ended = drive(&mut connection, &client, bounds, &admitted).await;
    let parts = connection.into_parts();
    let mut stream = parts.io.into_stream();
    let opening = client.take_opening();
    // It has served its last request: nobody is displaced by it any more, and it counts until it is closed.
    let share = admitted.into_share();
    match (ended, opening) {
        (Ended::Done, Some(mut opening)) => {
            opening.socket.hold(share);
            let (wire, _) = stream.into_parts();
            Ending::Socket(Box::new(tunnel::run(wire, parts.read_buf, opening)))
        }
        (Ended::Done, None) => {
            stream.hold(share);
            Ending::Lingering(stream)
        }
        // Cut in mid-answer: after a FIN an answer without a length would look whole.
        (Ended::TimedOut(Phase::Sending) | Ended::Displaced(Waits::Stalled(_)), _) => {
            reset(&stream);
            Ending::Closed
        }
        (Ended::Displaced(Waits::Idle(_)), _) => Ending::Closed,
        (Ended::TimedOut(phase), _) => {
            // A courtesy to a slow client, not to be waited for; unless an earlier answer is still on its way to it.
            if phase == Phase::Head && !client.write_blocked.load(Relaxed) {
                let answer = error::raw(Reason::RequestTimeout, &context::request_id());
                let _ = stream.write(&answer).now_or_never();
            }
            stream.hold(share);
            Ending::Lingering(stream)
        }
    }
}

impl Ending {
    /// Lingers, or leaves the tunnel to a task of its own.
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

fn reset(stream: &Stream) {
    // Failing, it leaves a FIN.
    let _ = stream.socket().set_linger(Some(Duration::ZERO));
}

/// Polls hyper to its end, the connection's clock beside it, and passes on the word to finish.
async fn drive(
    connection: &mut http1::Connection<Io, Exchanges>,
    client: &Client,
    bounds: Bounds<'_, '_>,
    admitted: &Admitted,
) -> Ended {
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
            if (first && admitted.poll_told(cx).is_ready() || admitted.is_told())
                && let Some(waits) = client.waits()
            {
                return Poll::Ready(Ended::Displaced(waits));
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
