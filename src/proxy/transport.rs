//! What stands before HTTP on a connection: the PROXY header of a trusted balancer, then the TLS handshake, both within
//! `tlsHandshakeTimeout`.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tracing::debug;

use super::connections::Admitted;
use super::peer::Peer;
use super::{Proxy, context, error};
use crate::net::proxy_protocol::{self, ProxiedAddresses};
use crate::net::stream::Stream;
use crate::reason::Reason;
use crate::runtime::handshakes::Outcome;
use crate::snapshot::ListenerKey;

/// A connection on which HTTP may begin.
#[derive(Debug)]
pub struct Opened {
    /// Nothing of HTTP was read from it.
    pub stream: Stream,
    /// As the PROXY header has it, where there is one.
    pub peer: Arc<Peer>,
    /// Agreed on by ALPN.
    pub http2: bool,
}

/// RFC 8446 section 5.1: a handshake record.
const HANDSHAKE: u8 = 22;
/// For the answer to a client that does not speak TLS.
const COURTESY: Duration = Duration::from_secs(2);

/// None: the connection is to be closed.
pub async fn take(
    stream: TcpStream,
    from: SocketAddr,
    port: HeaderValue,
    key: ListenerKey,
    proxy: &Proxy,
    admitted: &Admitted,
) -> Option<Opened> {
    let listener = proxy.listener();
    let proxied = listener.proxy_protocol && listener.trusts(from.ip().to_canonical());
    if !proxied && key == ListenerKey::Http {
        let stream = Stream::plain(stream);
        let peer = Arc::new(Peer::new(key, from.ip(), port, None)?);
        return Some(Opened {
            stream,
            peer,
            http2: false,
        });
    }
    // Boxed, so that it costs nothing where there is none.
    let slow = Box::pin(take_slow(stream, from, port, key, proxied.then_some(admitted), proxy));
    let slow = timeout(listener.tls_handshake_timeout, slow);
    let slow = tokio::select! {
        biased;
        taken = slow => taken,
        // Another needs its place.
        () = poll_fn(|cx| admitted.poll_told(cx)) => return None,
    };
    match slow {
        Ok(Ok(opened)) => Some(opened),
        Ok(Err(error)) => {
            debug!(peer = %from, %error, "connection refused");
            None
        }
        Err(_elapsed) => {
            if key == ListenerKey::Https {
                proxy.state.tls.count(Outcome::TimedOut);
            }
            None
        }
    }
}

async fn take_slow(
    mut stream: TcpStream,
    from: SocketAddr,
    port: HeaderValue,
    key: ListenerKey,
    proxied: Option<&Admitted>,
    proxy: &Proxy,
) -> io::Result<Opened> {
    let (mut ip, mut port) = (from.ip(), port);
    if let Some(admitted) = proxied
        && let ProxiedAddresses::Client { source, destination } = proxy_protocol::read(&mut stream).await?
    {
        ip = source.ip();
        if !admitted.identify(ip) {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "too many connections of one address",
            ));
        }
        port = HeaderValue::from(destination.port());
    }
    let (stream, agreed, http2) = match key {
        ListenerKey::Http => (Stream::plain(stream), None, false),
        ListenerKey::Https => {
            let stream = expect_handshake(stream, proxy).await?;
            let accepted = proxy
                .tls
                .accept(stream, key)
                .await
                .inspect_err(|_| proxy.state.tls.count(Outcome::Failed))?;
            proxy.state.tls.count(match accepted.resumed {
                true => Outcome::Resumed,
                false => Outcome::Completed,
            });
            let stream = Stream::tls(TlsStream::Server(accepted.stream));
            (stream, Some(accepted.agreed), accepted.http2)
        }
    };
    let peer = Peer::new(key, ip, port, agreed).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Opened {
        stream,
        peer: Arc::new(peer),
        http2,
    })
}

/// Waits for the first byte before anything is set up for it; who speaks plain HTTP here is told what this port speaks.
async fn expect_handshake(mut stream: TcpStream, proxy: &Proxy) -> io::Result<TcpStream> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first[0].is_ascii_uppercase() {
        let reason = Reason::PlaintextOnTls;
        proxy.state.unrouted.refused.count(reason);
        let answer = error::raw(reason, &context::request_id());
        let told = async {
            stream.write_all(&answer).await?;
            stream.shutdown().await?;
            // To the end of what it says: closing before it would reset the answer away.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        let _: Result<io::Result<u64>, _> = timeout(COURTESY, told).await;
    }
    match first[0] {
        HANDSHAKE => Ok(stream),
        _ => {
            proxy.state.tls.count(Outcome::Failed);
            Err(io::Error::new(io::ErrorKind::InvalidData, "no TLS handshake"))
        }
    }
}
