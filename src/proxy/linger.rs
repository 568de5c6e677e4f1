//! How a connection that the client still writes to is closed (RFC 9112, section 9.6).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use crate::net::stream::Stream;

/// How long what a client still sends is read after our FIN.
pub const LINGER: Duration = Duration::from_secs(2);

/// FIN, then reading to the end for a while: closing on unread bytes would send a reset, and a reset may eat the answer on
/// its way (RFC 9112 section 9.6).
pub async fn linger(mut stream: Stream) {
    let drain = async {
        stream.shutdown().await?;
        // Not a buffer of the task: it would make every connection's larger.
        while poll_fn(|cx| poll_discard(&mut stream, cx)).await? > 0 {}
        Ok(())
    };
    let _: Result<io::Result<()>, _> = tokio::time::timeout(LINGER, drain).await;
}

/// What is still read of a connection that has ended.
pub fn poll_discard(stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut buffer = [0; 4096];
    let mut read = ReadBuf::new(&mut buffer);
    let polled = Pin::new(stream).poll_read(cx, &mut read);
    polled.map_ok(|()| read.filled().len())
}
