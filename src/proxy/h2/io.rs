//! A client's connection as h2 sees it: floods are noticed on their way in, and the end is in order.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::flood::Flood;
use crate::net::stream::Stream;
use crate::proxy::linger::{LINGER, poll_discard};

/// h2 keeps it for good; what it has seen is shared.
pub struct Io {
    stream: Stream,
    flood: Flood,
    seen: Arc<Seen>,
    /// Runs from our FIN on.
    linger: Option<Pin<Box<Sleep>>>,
}

/// When a connection began.
#[derive(Debug)]
struct Born(Instant);

#[derive(Debug, Default)]
pub struct Seen {
    /// Nothing more is read: the connection is to be given up.
    pub flooded: AtomicBool,
    /// A first frame has come.
    pub begun: AtomicBool,
    /// Bytes that the client's socket has taken.
    pub written: AtomicU64,
    /// Since when the client's socket is full, in milliseconds since the connection began, and one more; 0: it is not.
    full_since: AtomicU64,
    born: Born,
    /// Answers that have begun, on all streams.
    pub answers: AtomicU64,
}

impl Io {
    pub fn new(stream: Stream, seen: Arc<Seen>) -> Self {
        Self {
            stream,
            flood: Flood::new(Instant::now()),
            seen,
            linger: None,
        }
    }

    fn note(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.seen.note_full(polled.is_pending());
        if let Poll::Ready(Ok(written)) = polled {
            self.flood.wrote(written);
            self.seen.written.fetch_add(written as u64, Relaxed);
        }
        polled
    }
}

impl Seen {
    fn note_full(&self, full: bool) {
        match (full, self.full_since.load(Relaxed)) {
            (true, 0) => self.full_since.store(self.age() + 1, Relaxed),
            (false, since) if since > 0 => self.full_since.store(0, Relaxed),
            _ => {}
        }
    }

    /// For how long the client's socket has taken nothing; None: it takes what there is.
    pub fn stalled(&self) -> Option<Duration> {
        let since = self.full_since.load(Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(self.age().saturating_sub(since)))
    }

    fn age(&self) -> u64 {
        self.born.0.elapsed().as_millis() as u64
    }
}

impl Default for Born {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.seen.flooded.load(Relaxed) {
            // The connection's task looks at this flag whenever h2 has nothing to do.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let answers = this.seen.answers.load(Relaxed);
        if this.flood.read(&buf.filled()[before..], answers).is_err() {
            this.seen.flooded.store(true, Relaxed);
        }
        if this.flood.begun {
            this.seen.begun.store(true, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// FIN, then reading to the end for a while: a reset on unread bytes may eat the GOAWAY and answers on their way.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let linger = this.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if linger.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        while ready!(poll_discard(&mut this.stream, cx))? > 0 {}
        Poll::Ready(Ok(()))
    }
}
