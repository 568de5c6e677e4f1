//! An open socket: bytes from one side to the other, as they come, until both sides have ended. An idle one holds no buffer.
//! It knows no frames: pings, closes and extensions are between the client and the app.
//!
//! A tunnel is two directions. Each has a source and a sink, and is in one of these states; "spilling" is `Open` or `Ended`
//! with bytes that the sink has not taken yet, and in it nothing is read:
//!
//! | State      | It does                                    | It ends when                                 | Next       | Cause                         |
//! |------------|--------------------------------------------|----------------------------------------------|------------|-------------------------------|
//! | `Open`     | spills, flushes, reads and writes          | its source ends or fails                     | `Ended`    | `SourceEnded`, `SourceFailed` |
//! | `Open`     |                                            | its sink fails                               | `Dropping` | `SinkFailed`                  |
//! | `Open`     |                                            | Postern ends the socket: after spill and FIN | `Dropping` | none                          |
//! | `Ended`    | spills, flushes, sends a FIN or breaks off | the FIN is sent, or its sink fails           | `Done`     | kept                          |
//! | `Dropping` | reads and drops                            | its source ends or fails                     | `Done`     | kept                          |
//! | `Done`     | nothing                                    |                                              |            |                               |
//!
//! A source that fails (a reset) takes nothing more either, so the other direction gives up as well: for `Done` if it was
//! the client, for `Dropping` if it was the app.
//!
//! The tunnel ends when both directions are `Done`, or with its one timer, which starts anew for `ENDING` alone:
//!
//! | The timer starts when                         | It runs       | Closed by                               |
//! |-----------------------------------------------|---------------|-----------------------------------------|
//! | the first end: a source ended                 | `HALF_CLOSE`  | the side that ended                     |
//! | the first end: a source or a sink failed      | `AFTER_RESET` | the side that failed                    |
//! | Postern ends the socket                       | `ENDING`      | Postern, unless a side had ended before |

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::deployment_state::Registered;
use super::socket::Meter;
use crate::net::stream::{Held, Wire};
use crate::runtime::traffic::ClosedBy;

/// How long one side may go on after the other has ended.
const HALF_CLOSE: Duration = Duration::from_secs(60);
/// The same after a reset, when the other side has only to be told.
const AFTER_RESET: Duration = Duration::from_secs(10);
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
pub struct Opening<A = Wire> {
    /// A connection whose 101 was read.
    pub app: A,
    /// What the app sent right behind its 101.
    pub early: Bytes,
    /// Its place in the registry.
    pub socket: Registered,
    /// The handshake's place among those in flight, given back when the tunnel stands.
    pub permit: Box<dyn Held>,
}

/// What a tunnel has at either end.
pub trait Side: AsyncRead + AsyncWrite + Unpin {
    /// The other side broke off instead of ending. A connection gets its FIN all the same: what the client or the app make of
    /// it is in the frames.
    fn poll_break(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown(cx)
    }
}

impl Side for Wire {}

/// Starts the tunnel. `early` is what the client sent right behind its handshake.
pub fn run<C, A>(client: C, early: Bytes, opening: Opening<A>) -> Tunnel<C, A> {
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

/// A future that moves bytes between a client and an app until both have ended, or it is told to end.
#[derive(Debug)]
pub struct Tunnel<C, A = Wire> {
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
    flow: Flow,
    /// TLS holds some of what was written.
    unflushed: bool,
    /// What ended it, as far as it is not open.
    cause: Option<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Open,
    /// The source has ended; what was read and then the FIN are to be passed on.
    Ended,
    /// The sink takes nothing more. What the source still says is read and dropped: closing on unread bytes would send a
    /// reset, and that may eat what the other direction has on its way.
    Dropping,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    SourceEnded,
    /// A reset: the source takes nothing more either.
    SourceFailed,
    SinkFailed,
}

impl<C: Side, A: Side> Future for Tunnel<C, A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if !this.ending && this.socket.is_ending(cx.waker()) {
            this.ending = true;
            this.socket.note_closed_by(ClosedBy::Postern);
            this.timer = Some(Box::pin(tokio::time::sleep(ENDING)));
        }
        loop {
            let (ending, to_app, to_client) = (this.ending, &mut this.to_app, &mut this.to_client);
            let meters = (this.socket.to_app(), this.socket.to_client());
            let up = to_app.poll(cx, &mut this.client, &mut this.app, ending, meters.0);
            let down = to_client.poll(cx, &mut this.app, &mut this.client, ending, meters.1);
            if up.is_ready() && down.is_ready() {
                // Both may have ended at once: a stream that is reset has no end of its own.
                this.tell_first_end();
                return Poll::Ready(());
            }
            // A client that is gone has nobody to be told anything; an app that is gone has a client that may not know yet.
            let client_gone = to_app.cause == Some(Cause::SourceFailed) && to_client.give_up(Flow::Done);
            let app_gone = to_client.cause == Some(Cause::SourceFailed) && to_app.give_up(Flow::Dropping);
            if !client_gone && !app_gone {
                break;
            }
        }
        if this.tell_first_end() {
            let limit = if this.is_reset() { AFTER_RESET } else { HALF_CLOSE };
            this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        }
        match &mut this.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<C, A> Tunnel<C, A> {
    fn is_reset(&self) -> bool {
        let failed = |cause: Option<Cause>| matches!(cause, Some(Cause::SourceFailed | Cause::SinkFailed));
        failed(self.to_app.cause) || failed(self.to_client.cause)
    }

    /// Whether there is one; the first word counts.
    fn tell_first_end(&self) -> bool {
        let by = self.first_end();
        by.inspect(|by| self.socket.note_closed_by(*by)).is_some()
    }

    fn first_end(&self) -> Option<ClosedBy> {
        use Cause::{SinkFailed, SourceEnded, SourceFailed};
        match (self.to_app.cause, self.to_client.cause) {
            (None, None) => None,
            (Some(SinkFailed), _) | (None, Some(SourceEnded | SourceFailed)) => Some(ClosedBy::App),
            _ => Some(ClosedBy::Client),
        }
    }
}

impl Direction {
    fn starting_with(early: Bytes) -> Self {
        // A copy: the bytes lie in hyper's whole buffer, and would keep it while the other side is slow.
        let spill = (!early.is_empty()).then(|| Box::new(Bytes::copy_from_slice(&early)));
        Self {
            spill,
            flow: Flow::Open,
            // Over TLS the 101 itself may still be held back.
            unflushed: true,
            cause: None,
        }
    }

    /// Ready when there is nothing left to do for this direction.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W, ending: bool, meter: Meter<'_>) -> Poll<()>
    where
        R: AsyncRead + Unpin,
        W: Side,
    {
        loop {
            match self.flow {
                Flow::Done => return Poll::Ready(()),
                Flow::Open | Flow::Ended if self.spill.is_some() => ready!(self.poll_spill(cx, to)),
                Flow::Open | Flow::Ended if self.unflushed => ready!(self.poll_flush(cx, to)),
                Flow::Ended => {
                    let to = Pin::new(&mut *to);
                    // A sink that is gone needs no FIN.
                    let _ = ready!(match self.cause {
                        Some(Cause::SourceFailed) => to.poll_break(cx),
                        _ => to.poll_shutdown(cx),
                    });
                    self.flow = Flow::Done;
                }
                Flow::Open if ending => {
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.flow = Flow::Dropping;
                }
                Flow::Open | Flow::Dropping => {
                    ready!(BUFFER.with_borrow_mut(|buffer| self.poll_pass(cx, from, to, buffer, meter)));
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
        meter: Meter<'_>,
    ) -> Poll<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut read = ReadBuf::new(buffer);
        let cause = match ready!(Pin::new(from).poll_read(cx, &mut read)) {
            Ok(()) => Cause::SourceEnded,
            // TLS ended without saying so. A WebSocket says itself where it ends.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Cause::SourceEnded,
            Err(_) => Cause::SourceFailed,
        };
        let bytes = read.filled();
        match self.flow {
            Flow::Open if bytes.is_empty() => self.end(cause, Flow::Ended),
            Flow::Open => {
                meter.add(bytes.len());
                self.unflushed = true;
                match Pin::new(to).poll_write(cx, bytes) {
                    Poll::Ready(Ok(written)) if written == bytes.len() => {}
                    Poll::Ready(Ok(written)) => self.spill = Some(Box::new(Bytes::copy_from_slice(&bytes[written..]))),
                    Poll::Pending => self.spill = Some(Box::new(Bytes::copy_from_slice(bytes))),
                    Poll::Ready(Err(_)) => self.end(Cause::SinkFailed, Flow::Dropping),
                }
            }
            _ if bytes.is_empty() => self.flow = Flow::Done,
            _ => {}
        }
        Poll::Ready(())
    }

    fn poll_spill<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<()> {
        while let Some(spill) = &mut self.spill {
            self.unflushed = true;
            let written = ready!(Pin::new(&mut *to).poll_write(cx, spill)).unwrap_or(0);
            if written == 0 {
                self.give_up(Flow::Dropping);
                self.cause.get_or_insert(Cause::SinkFailed);
                break;
            }
            spill.advance(written);
            if spill.is_empty() {
                self.spill = None;
            }
        }
        Poll::Ready(())
    }

    fn poll_flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<()> {
        self.unflushed = false;
        match Pin::new(to).poll_flush(cx) {
            Poll::Pending => {
                self.unflushed = true;
                Poll::Pending
            }
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_)) => {
                self.give_up(Flow::Dropping);
                self.cause.get_or_insert(Cause::SinkFailed);
                Poll::Ready(())
            }
        }
    }

    fn end(&mut self, cause: Cause, flow: Flow) {
        self.cause = Some(cause);
        self.flow = flow;
    }

    /// Nothing more can be passed on. Whether that is news.
    fn give_up(&mut self, flow: Flow) -> bool {
        let news = self.flow != flow && self.flow != Flow::Done;
        if news {
            self.spill = None;
            self.flow = if self.flow == Flow::Ended { Flow::Done } else { flow };
        }
        news
    }
}

#[cfg(test)]
mod tests;
