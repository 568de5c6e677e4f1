//! Binds and accepts. Socket options are set on the listener: accepted connections inherit them.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::net::TcpListener;

use super::{Proxy, admission};
use crate::snapshot::ListenerKey;

/// Accepts until `stop` is cancelled, then closes the listener.
pub async fn serve(
    listener: TcpListener,
    key: ListenerKey,
    proxy: Arc<Proxy>,
    stop: tokio_util::sync::CancellationToken,
) {
    let Ok(local) = listener.local_addr() else { return };
    let port = HeaderValue::from(local.port());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                tokio::spawn(admission::serve(stream, peer, port.clone(), key, proxy.clone()));
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
