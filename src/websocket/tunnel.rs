//! An open socket: bytes from one side to the other, as they come, until both sides have ended. An idle one holds no buffer.
//! It knows no frames: pings, closes and extensions are between the client and the app.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use super::socket::Registered;
use crate::state::traffic::ClosedBy;

/// How long one side may go on after the other has ended.
const HALF_CLOSE: Duration = Duration::from_secs(60);
/// How long the sides are read to their end after Postern's own FIN, lest a reset eats what is on its way.
const ENDING: Duration = Duration::from_secs(2);
/// Larger than the usual message: a read that does not fill it tells tokio that the socket is empty, and saves the read that
/// would find out.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    /// What is read is written before anything else runs on this thread; only what the other side does not take is kept.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// The app's half of an accepted upgrade.
#[derive(Debug)]
pub struct Opening {
    pub app: TcpStream,
    /// What the app sent right behind its 101.
    pub early: Bytes,
    pub socket: Registered,
    /// The handshake's place among those in flight, given back when the tunnel stands.
    pub permit: OwnedSemaphorePermit,
}

/// Starts the tunnel. `early` is what the client sent right behind its handshake.
pub fn run(client: TcpStream, early: Bytes, opening: Opening) -> Tunnel<TcpStream, TcpStream> {
    let Opening {
        app,
        early: from_app,
        socket,
        permit,
    } = opening;
    drop(permit);
    Tunnel {
        client,
        app,
        to_app: Direction::starting_with(early),
        to_client: Direction::starting_with(from_app),
        timer: None,
        ending: false,
        socket,
    }
}

#[derive(Debug)]
pub struct Tunnel<C, A> {
    client: C,
    app: A,
    to_app: Direction,
    to_client: Direction,
    /// Runs from the first end to the last.
    timer: Option<Pin<Box<Sleep>>>,
    ending: bool,
    socket: Registered,
}

#[derive(Debug)]
struct Direction {
    /// Read, and not yet taken by the other side: no more is read until it is.
    spill: Option<Box<Bytes>>,
    state: Flow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Open,
    /// The reading side has ended; the FIN is to be passed on.
    Ended,
    /// The FIN is out while the reading side goes on: what it still says is read and dropped.
    Dropping,
    Done,
}

/// Which side of a direction failed; what exactly is of no use to anyone.
#[derive(Clone, Copy, Debug)]
enum Broken {
    Source,
    Sink,
}

impl<C, A> Future for Tunnel<C, A>
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if !this.ending && this.socket.is_ending(cx.waker()) {
            this.ending = true;
            this.socket.closed_by(ClosedBy::Postern);
            this.timer = Some(Box::pin(tokio::time::sleep(ENDING)));
        }
        let traffic = this.socket.traffic();
        let to_app = this.to_app.poll(
            cx,
            &mut this.client,
            &mut this.app,
            this.ending,
            &traffic.socket_bytes_to_app,
        );
        let to_client = this.to_client.poll(
            cx,
            &mut this.app,
            &mut this.client,
            this.ending,
            &traffic.socket_bytes_to_client,
        );
        let by = match (&to_app, &to_client) {
            (Poll::Pending, Poll::Pending) => None,
            (Poll::Ready(Err(Broken::Source)) | Poll::Ready(Ok(())), _) | (_, Poll::Ready(Err(Broken::Sink))) => {
                Some(ClosedBy::Client)
            }
            _ => Some(ClosedBy::App),
        };
        if let Some(by) = by {
            this.socket.closed_by(by);
            match (to_app, to_client) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) | (Poll::Ready(_), Poll::Ready(_)) => {
                    return Poll::Ready(());
                }
                _ => this
                    .timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_CLOSE))),
            };
        }
        match &mut this.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Direction {
    fn starting_with(early: Bytes) -> Self {
        // A copy: the bytes lie in hyper's whole buffer, and would keep it while the other side is slow.
        let spill = (!early.is_empty()).then(|| Box::new(Bytes::copy_from_slice(&early)));
        Self {
            spill,
            state: Flow::Open,
        }
    }

    /// Ready when there is nothing left to do for this direction.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        ending: bool,
        count: &AtomicU64,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                Flow::Done => return Poll::Ready(Ok(())),
                Flow::Open | Flow::Ended if self.spill.is_some() => ready!(self.poll_spill(cx, to))?,
                Flow::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).or(Err(Broken::Sink))?;
                    self.state = Flow::Done;
                }
                Flow::Open if ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).or(Err(Broken::Sink))?;
                    self.state = Flow::Dropping;
                }
                Flow::Open | Flow::Dropping => {
                    ready!(BUFFER.with_borrow_mut(|buffer| self.poll_pass(cx, from, to, buffer, count)))?;
                }
            }
        }
    }

    /// One read, and as much of it written as the other side takes.
    fn poll_pass<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        buffer: &mut [u8],
        count: &AtomicU64,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(from).poll_read(cx, &mut read)).or(Err(Broken::Source))?;
        let bytes = read.filled();
        match self.state {
            Flow::Open if bytes.is_empty() => self.state = Flow::Ended,
            Flow::Open => {
                count.fetch_add(bytes.len() as u64, Relaxed);
                let written = match Pin::new(to).poll_write(cx, bytes) {
                    Poll::Ready(Ok(written)) => written,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Sink)),
                    Poll::Pending => 0,
                };
                if written < bytes.len() {
                    self.spill = Some(Box::new(Bytes::copy_from_slice(&bytes[written..])));
                }
            }
            _ if bytes.is_empty() => self.state = Flow::Done,
            _ => {}
        }
        Poll::Ready(Ok(()))
    }

    fn poll_spill<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<Result<(), Broken>> {
        while let Some(spill) = &mut self.spill {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, spill)).unwrap_or(0);
            if written == 0 {
                return Poll::Ready(Err(Broken::Sink));
            }
            spill.advance(written);
            if spill.is_empty() {
                self.spill = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}
