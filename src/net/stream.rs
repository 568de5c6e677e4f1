//! A connection as bytes, in plaintext or over TLS, toward clients and apps alike.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// One connection, after the TLS handshake if there is one, with what counts it.
#[derive(Debug)]
pub struct Stream {
    wire: Wire,
    held: Option<Box<dyn Held>>,
}

/// The bytes of a connection.
#[derive(Debug)]
pub enum Wire {
    /// As they are on the wire.
    Plain(TcpStream),
    /// Boxed, since the session's state is some kilobytes.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What counts a connection for as long as its descriptor is open.
pub trait Held: fmt::Debug + Send + Sync {}

impl<T: fmt::Debug + Send + Sync> Held for T {}

impl Stream {
    /// In plaintext.
    pub fn plain(stream: TcpStream) -> Self {
        let wire = Wire::Plain(stream);
        Self { wire, held: None }
    }

    /// After the handshake.
    pub fn tls(stream: TlsStream<TcpStream>) -> Self {
        let wire = Wire::Tls(Box::new(stream));
        Self { wire, held: None }
    }

    /// Keeps what counts the connection until the connection is closed.
    pub fn hold(&mut self, held: impl Held + 'static) {
        self.held = Some(Box::new(held));
    }

    /// The connection by itself, which somebody else counts from now on.
    pub fn into_parts(self) -> (Wire, Option<Box<dyn Held>>) {
        (self.wire, self.held)
    }

    /// Whether bytes are on the wire as they are here.
    pub fn is_plain(&self) -> bool {
        matches!(self.wire, Wire::Plain(_))
    }

    /// The TCP socket below, for its options.
    pub fn socket(&self) -> SockRef<'_> {
        self.wire.socket()
    }

    /// What has come and was not read yet, without reading it; at the end of the stream nothing.
    pub fn poll_peek<T>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        look: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        self.wire.poll_peek(cx, buffer, look)
    }
}

impl Wire {
    fn socket(&self) -> SockRef<'_> {
        SockRef::from(match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        })
    }

    fn poll_peek<T>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        look: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        match self {
            Self::Plain(stream) => {
                let mut read = ReadBuf::new(buffer);
                let polled = stream.poll_peek(cx, &mut read);
                polled.map_ok(|_| look(read.filled()))
            }
            Self::Tls(stream) => Pin::new(stream).poll_fill_buf(cx).map_ok(look),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().wire).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().wire).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_shutdown(cx)
    }
}
