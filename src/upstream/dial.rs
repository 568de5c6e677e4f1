//! One attempt to connect to an endpoint, and what its failure means.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::net::socket;
use crate::net::stream::Stream;
use crate::runtime::Traffic;
use crate::runtime::traffic::DialResult;
use crate::upstream::descriptor::Descriptor;
use crate::upstream::tls::Upstream;

/// Connects within `limit`, the TLS handshake included, and counts how it went.
pub async fn connect(
    address: SocketAddr,
    tls: Option<Upstream<'_>>,
    limit: Duration,
    traffic: &Traffic,
    descriptor: Descriptor,
) -> Result<Stream, DialResult> {
    let end = Instant::now() + limit;
    let mut result = match timeout_at(end, tcp(address)).await {
        Ok(Ok(stream)) => match tls {
            None => Ok(Stream::plain(stream)),
            // Boxed: apps in plaintext are not to pay for its size.
            Some(tls) => Box::pin(timeout_at(end, secure(stream, tls, address)))
                .await
                .unwrap_or(Err(DialResult::TimedOut)),
        },
        Ok(Err(error)) => Err(classify(&error)),
        Err(_elapsed) => Err(DialResult::TimedOut),
    };
    if let Ok(stream) = &mut result {
        stream.hold(descriptor);
    }
    let label = result.as_ref().err().copied().unwrap_or(DialResult::Connected);
    traffic.dials[label as usize].fetch_add(1, Relaxed);
    result
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    socket::dialing_socket(address)?.connect(address).await
}

async fn secure(stream: TcpStream, tls: Upstream<'_>, address: SocketAddr) -> Result<Stream, DialResult> {
    match tls.connect(stream).await {
        Ok(stream) => Ok(Stream::tls(stream.into())),
        Err(error) => {
            tracing::debug!(upstream = %tls.service, %address, %error, "no TLS with the app");
            Err(DialResult::TlsFailed)
        }
    }
}

fn classify(error: &io::Error) -> DialResult {
    use io::ErrorKind as K;
    // ENFILE, EMFILE, ENOBUFS, ENOMEM: the next endpoint would fare no better.
    if matches!(error.raw_os_error(), Some(23 | 24 | 105 | 12)) {
        return DialResult::NoDescriptors;
    }
    match error.kind() {
        K::ConnectionRefused => DialResult::Refused,
        K::TimedOut => DialResult::TimedOut,
        K::AddrNotAvailable => DialResult::NoPorts,
        K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown | K::InvalidInput | K::PermissionDenied => {
            DialResult::Unroutable
        }
        _ => DialResult::Failed,
    }
}

/// Where `timeouts` says "0s", the kernel's own patience with an unanswered SYN is the bound.
pub const KERNEL_LIMIT: Duration = Duration::from_secs(130);
