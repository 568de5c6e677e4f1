//! Binds and accepts. Socket options are set on the listener: accepted connections inherit them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;

use super::linger::{LINGER, linger};
use super::{Proxy, admission, context, error};
use crate::net::stream::Stream;
use crate::reason::Reason;
use crate::snapshot::ListenerKey;

/// What happens to clients for whom there is no place.
struct Full {
    /// Those that are told so at a time; more are hung up on.
    told: Arc<Semaphore>,
    /// When that was logged last.
    logged: Option<Instant>,
}

/// Accepts until `stop` is cancelled, then closes the listener.
pub async fn serve(
    listener: TcpListener,
    key: ListenerKey,
    proxy: Arc<Proxy>,
    stop: tokio_util::sync::CancellationToken,
) {
    let Ok(local) = listener.local_addr() else { return };
    let port = HeaderValue::from(local.port());
    let mut full = Full::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let listener = proxy.listener();
                let (ip, proxied) = (peer.ip().to_canonical(), listener.trusts(peer.ip().to_canonical()));
                match proxy.connections.admit((!proxied).then_some(ip)) {
                    Some(admitted) => {
                        let port = port.clone();
                        tokio::spawn(admission::serve(stream, peer, port, key, proxy.clone(), admitted));
                    }
                    None => full.refuse(stream, peer, key, &proxy),
                }
            }
            // EMFILE, ENFILE, ENOBUFS, ENOMEM: until something is given back.
            Err(error) if matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12)) => {
                tracing::error!(%error, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // The error concerns one connection: the next may succeed.
            Err(_) => {}
        }
    }
}

impl Default for Full {
    fn default() -> Self {
        Self {
            told: Arc::new(Semaphore::new(TOLD)),
            logged: None,
        }
    }
}

impl Full {
    /// In plaintext the client is told, as far as that costs little; a handshake for no more than that would cost much.
    fn refuse(&mut self, stream: TcpStream, peer: SocketAddr, key: ListenerKey, proxy: &Proxy) {
        if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_AGAIN) {
            self.logged = Some(Instant::now());
            let limit = proxy.state.client_connections.capacity();
            warn!(%peer, limit, "no place for another client connection: the limit, or this address's share of it, is reached");
        }
        if key == ListenerKey::Https {
            return;
        }
        proxy.state.unrouted.refused.count(Reason::Overloaded);
        if let Ok(permit) = self.told.clone().try_acquire_owned() {
            tokio::spawn(async move {
                let mut stream = stream;
                let answer = error::raw(Reason::Overloaded, &context::request_id());
                if timeout(LINGER, stream.write_all(&answer)).await.is_ok() {
                    linger(Stream::plain(stream)).await;
                }
                drop(permit);
            });
        }
    }
}

const TOLD: usize = 32;
const LOG_AGAIN: Duration = Duration::from_secs(10);
