//! A WebSocket's stream of an HTTP/2 connection (RFC 8441) as bytes, for the tunnel. It holds no buffer of its own: what has
//! come waits in h2 within the stream's window, what goes out goes only as far as the client's window is open.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::place::Place;
use crate::websocket::tunnel::Side;

/// A stream as bytes both ways (RFC 8441 section 5). It keeps its connection's place until it is dropped.
#[derive(Debug)]
pub struct Socket {
    from: RecvStream,
    to: SendStream<Bytes>,
    /// What is left of the frame that is being read.
    rest: Bytes,
    ended: bool,
    _place: Place,
}

impl Socket {
    /// Both halves of a stream whose handshake was accepted.
    pub fn new(from: RecvStream, to: SendStream<Bytes>, place: Place) -> Self {
        Self {
            from,
            to,
            rest: Bytes::new(),
            ended: false,
            _place: place,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            match ready!(this.from.poll_data(cx)) {
                Some(Ok(data)) => this.rest = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let read = this.rest.len().min(buf.remaining());
        buf.put_slice(&this.rest[..read]);
        this.rest.advance(read);
        if this.rest.is_empty() {
            // Not an empty slice of the frame, which would keep it.
            this.rest = Bytes::new();
        }
        // Whoever reads has room for more.
        this.from.flow_control().release_capacity(read).map_err(broken)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let to = &mut self.to;
        to.reserve_capacity(buf.len());
        while to.capacity() == 0 && !buf.is_empty() {
            match ready!(to.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let length = buf.len().min(to.capacity());
        to.send_data(Bytes::copy_from_slice(&buf[..length]), false)
            .map_err(broken)?;
        Poll::Ready(Ok(length))
    }

    /// The connection's task writes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// RFC 8441 section 5: END_STREAM is what FIN is to a connection.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            self.ended = true;
            self.to.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Side for Socket {
    /// RFC 8441 section 5: RST_STREAM with CANCEL is what a reset is to a connection.
    fn poll_break(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended = true;
        self.to.send_reset(Reason::CANCEL);
        Poll::Ready(Ok(()))
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
