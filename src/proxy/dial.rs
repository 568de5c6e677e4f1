//! One attempt to connect to an endpoint, and what its failure means.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::timeout;

use super::listener;
use super::stream::Stream;
use crate::state::Traffic;
use crate::state::traffic::DialResult;

/// Connects within `limit` and counts how it went.
pub async fn connect(address: SocketAddr, limit: Duration, traffic: &Traffic) -> Result<Stream, DialResult> {
    let attempt = async { listener::dialing_socket(address)?.connect(address).await };
    let (result, label) = match timeout(limit, attempt).await {
        Ok(Ok(stream)) => (Ok(Stream::Plain(stream)), DialResult::Connected),
        Ok(Err(error)) => {
            let result = classify(&error);
            (Err(result), result)
        }
        Err(_elapsed) => (Err(DialResult::TimedOut), DialResult::TimedOut),
    };
    traffic.dials[label as usize].fetch_add(1, Relaxed);
    result
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
