//! A side that breaks off: what it had said still comes through, and the other side is not waited for long.

use std::task::Waker;

use super::*;

/// A side whose reads and writes fail once it was reset.
struct Fragile(DuplexStream, Arc<Mutex<Resets>>);

#[derive(Default)]
struct Resets {
    reads: bool,
    writes: bool,
    /// Whether it was told that the other side broke off.
    broken: bool,
    waker: Option<Waker>,
}

impl Resets {
    fn reset(reads: bool, this: &Mutex<Self>) {
        let mut this = this.lock();
        (this.reads, this.writes) = (reads, true);
        this.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl AsyncRead for Fragile {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        {
            let mut resets = self.1.lock();
            if resets.reads {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            resets.waker = Some(cx.waker().clone());
        }
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Fragile {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.1.lock().writes {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Side for Fragile {
    fn poll_break(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.1.lock().broken = true;
        self.poll_shutdown(cx)
    }
}

/// A world whose sides can be reset: the far ends, and the switches of the near ones.
struct Brittle {
    client: (DuplexStream, Arc<Mutex<Resets>>),
    app: (DuplexStream, Arc<Mutex<Resets>>),
    tunnel: Running,
}

fn brittle() -> Brittle {
    let (client, near_client) = duplex(1024);
    let (app, near_app) = duplex(1024);
    let (of_client, of_app) = (Arc::<Mutex<Resets>>::default(), Arc::<Mutex<Resets>>::default());
    let sides = (
        Fragile(near_client, of_client.clone()),
        Fragile(near_app, of_app.clone()),
    );
    let (_, _, tunnel) = start(sides.0, sides.1, (b"", b""));
    Brittle {
        client: (client, of_client),
        app: (app, of_app),
        tunnel,
    }
}

#[test]
fn a_client_that_resets_leaves_nobody_to_wait_for() {
    paused(async {
        let Brittle {
            client,
            mut app,
            tunnel,
        } = brittle();
        sleep(Duration::from_secs(1)).await;
        Resets::reset(true, &client.1);
        assert_eq!(rest(&mut app.0).await, b"");
        let (closed, took) = tunnel.end().await;
        assert_eq!(closed.by, ClosedBy::Client);
        assert!(app.1.lock().broken && !client.1.lock().broken);
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
}

#[test]
fn an_app_that_resets_leaves_its_client_ten_seconds() {
    paused(async {
        let Brittle {
            mut client,
            mut app,
            tunnel,
        } = brittle();
        app.0.write_all(b"last words").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        Resets::reset(true, &app.1);
        assert_eq!(rest(&mut client.0).await, b"last words");
        client.0.write_all(&pattern(10_000)).await.unwrap();
        let (closed, took) = tunnel.end().await;
        assert_eq!(closed.by, ClosedBy::App);
        assert_eq!(closed.bytes_to_app, 0, "what the client still says goes nowhere");
        assert!(client.1.lock().broken && !app.1.lock().broken);
        let expected = Duration::from_secs(1) + AFTER_RESET;
        assert!(
            took >= expected && took < expected + Duration::from_millis(10),
            "{took:?}"
        );
    });
}

#[test]
fn a_side_that_takes_nothing_more_has_ended_first() {
    for by in [ClosedBy::App, ClosedBy::Client] {
        paused(async {
            let Brittle { client, app, tunnel } = brittle();
            let (mut gone, mut other) = if by == ClosedBy::App {
                (app, client)
            } else {
                (client, app)
            };
            Resets::reset(false, &gone.1);
            other.0.write_all(&pattern(10_000)).await.unwrap();
            // What it had said itself still comes through.
            gone.0.write_all(b"last words").await.unwrap();
            expect(&mut other.0, b"last words").await;
            let (closed, took) = tunnel.end().await;
            assert_eq!(closed.by, by);
            assert!(
                took >= AFTER_RESET && took < AFTER_RESET + Duration::from_millis(10),
                "{took:?}"
            );
        });
    }
}
