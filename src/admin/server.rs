//! Accepts connections to the admin port and answers one request on each. What is answered is the `View`'s.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::View;

/// A connection may last this long, from its first byte to its last.
const LIFETIME: Duration = Duration::from_secs(30);
/// More connections than this push out the oldest, so that no crowd of idle ones keeps the kubelet's probes out.
const MAX_CONNECTIONS: usize = 256;
/// A request's head.
const MAX_HEAD: usize = 16 * 1024;
/// After a failed accept, lest running out of descriptors spins.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, view: Arc<View>) -> Infallible {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection to the admin port");
                sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        oldest_first.retain(|connection| !connection.is_finished());
        if oldest_first.len() >= MAX_CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        oldest_first.push_back(connections.spawn(connection(stream, peer, view.clone())));
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, view: Arc<View>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let view = view.clone();
        async move {
            let (head, _) = request.into_parts();
            let answer = move || view.answer(peer.ip(), &head.method, &head.uri, &head.headers);
            tokio::task::spawn_blocking(answer).await
        }
    });
    let serving = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    match timeout(LIFETIME, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%peer, %error, "admin connection failed"),
        Err(_) => debug!(%peer, "admin connection took too long"),
    }
}
