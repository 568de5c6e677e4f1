//! What a wire lies on: a TCP connection, TLS over one, or a stream of an HTTP/2 connection.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

pub enum Link {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Http2(Http2Stream),
}

/// Either end of an HTTP/2 stream as bytes. Its window is given back as they are read.
pub struct Http2Stream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    unread: Bytes,
}

impl Link {
    /// None for HTTP/2: many streams share a connection.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Http2(_) => None,
        }
    }

    /// RST, or RST_STREAM.
    pub fn reset(mut self) {
        match &mut self {
            Self::Http2(stream) => stream.send.send_reset(Reason::CANCEL),
            Self::Tcp(_) | Self::Tls(_) => {
                let tcp = self.tcp().expect("has one");
                let linger = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
                linger.expect("sets SO_LINGER");
            }
        }
    }
}

impl Http2Stream {
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        let unread = Bytes::new();
        Self { send, receive, unread }
    }

    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.send.reserve_capacity(buf.len());
        while this.send.capacity() == 0 {
            match ready!(this.send.poll_capacity(cx)) {
                Some(capacity) => capacity.map_err(as_io)?,
                None => return Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
            };
        }
        let count = this.send.capacity().min(buf.len());
        let data = Bytes::copy_from_slice(&buf[..count]);
        Poll::Ready(this.send.send_data(data, false).map(|()| count).map_err(as_io))
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Http2(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Http2(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Http2(stream) => Poll::Ready(stream.send.send_data(Bytes::new(), true).map_err(as_io)),
        }
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                Some(data) => this.unread = data.map_err(as_io)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread.split_to(count));
        let released = this.receive.flow_control().release_capacity(count);
        Poll::Ready(released.map_err(as_io))
    }
}

fn as_io(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error.into_io().expect("is one"),
        false => io::Error::new(ErrorKind::ConnectionReset, error),
    }
}
