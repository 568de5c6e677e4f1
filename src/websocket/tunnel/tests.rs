use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::upstream::endpoint::Open;
use crate::websocket::deployment_state::DeploymentState;
use crate::websocket::socket::{Closed, Socket};

mod random;
mod resets;

impl Side for DuplexStream {}
/// Like TLS it holds back what it was not asked to flush.
impl Side for BufWriter<DuplexStream> {}

/// tokio puts a task into a block of 128-byte steps, of which it needs some 100 bytes itself.
#[test]
fn a_tunnel_and_its_task_fit_into_256_bytes() {
    assert!(size_of::<Tunnel<Wire>>() <= 144);
    assert!(size_of::<Socket>() <= 80, "{}", size_of::<Socket>());
}

/// A tunnel under way, with the client and the app at its ends.
struct World {
    client: DuplexStream,
    app: DuplexStream,
    socket: Arc<Socket>,
    deployment: Arc<DeploymentState>,
    tunnel: Running,
}

/// The tunnel's task, and what is told at its end.
struct Running {
    task: JoinHandle<()>,
    closed: Arc<Mutex<Option<Closed>>>,
    began: Instant,
}

impl Running {
    /// Waits for the end: how it was told, and how long after the beginning.
    async fn end(self) -> (Closed, Duration) {
        self.task.await.unwrap();
        let took = self.began.elapsed();
        (self.closed.lock().take().expect("told at its end"), took)
    }
}

/// The clock is paused: it moves on when every task waits, so that a test that is stuck soon has its hour behind it.
fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let bounded = async { timeout(Duration::from_secs(3600), test).await.expect("stuck") };
    runtime.unwrap().block_on(bounded)
}

/// `early`: what came right behind the handshake from the client and from the app.
fn start<C, A>(client: C, app: A, early: (&[u8], &[u8])) -> (Arc<DeploymentState>, Arc<Socket>, Running)
where
    C: Side + Send + 'static,
    A: Side + Send + 'static,
{
    let deployment = Arc::new(DeploymentState::default());
    let registered = deployment.open_socket(Open::at(&Arc::default()), None);
    let closed = Arc::new(Mutex::new(None));
    let told = closed.clone();
    registered.on_close(Box::new(move |closed| *told.lock() = Some(closed)));
    let socket = deployment.refuse_new_sockets().pop().unwrap();
    let handshakes = Arc::new(Semaphore::new(1));
    let opening = Opening {
        app,
        early: Bytes::copy_from_slice(early.1),
        socket: registered,
        permit: Box::new(handshakes.clone().try_acquire_owned().unwrap()),
    };
    let tunnel = run(client, Bytes::copy_from_slice(early.0), opening);
    assert_eq!(handshakes.available_permits(), 1, "its place is given back");
    let task = tokio::spawn(tunnel);
    let began = Instant::now();
    (deployment, socket, Running { task, closed, began })
}

fn world(early: (&[u8], &[u8]), buffers: (usize, usize)) -> World {
    let (client, near_client) = duplex(buffers.0);
    let (app, near_app) = duplex(buffers.1);
    let (deployment, socket, tunnel) = start(near_client, near_app, early);
    World {
        client,
        app,
        socket,
        deployment,
        tunnel,
    }
}

async fn expect(from: &mut DuplexStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    from.read_exact(&mut read).await.unwrap();
    assert_eq!(read, bytes);
}

async fn rest(from: &mut DuplexStream) -> Vec<u8> {
    let mut read = Vec::new();
    from.read_to_end(&mut read).await.unwrap();
    read
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn what_came_with_the_handshake_comes_first() {
    paused(async {
        let (up, down) = (pattern(5000), pattern(3000));
        let World {
            mut client,
            mut app,
            tunnel,
            ..
        } = world((&up, &down), (64, 64));
        let (mut from_client, mut to_client) = tokio::io::split(&mut client);
        let (mut from_app, mut to_app) = tokio::io::split(&mut app);
        tokio::join!(
            async { to_client.write_all(b"then the client").await.unwrap() },
            async { to_app.write_all(b"then the app").await.unwrap() },
            async {
                let mut read = vec![0; down.len() + 12];
                from_client.read_exact(&mut read).await.unwrap();
                assert_eq!(read, [&down[..], b"then the app"].concat());
            },
            async {
                let mut read = vec![0; up.len() + 15];
                from_app.read_exact(&mut read).await.unwrap();
                assert_eq!(read, [&up[..], b"then the client"].concat());
            },
        );
        drop((client, app));
        let (closed, _) = tunnel.end().await;
        assert_eq!((closed.bytes_to_app, closed.bytes_to_client), (15, 12));
    });
}

#[test]
fn what_a_side_holds_back_is_flushed_before_the_tunnel_waits() {
    paused(async {
        let (mut client, near_client) = duplex(1024);
        let (mut app, near_app) = duplex(1024);
        let (_, _, tunnel) = start(BufWriter::new(near_client), BufWriter::new(near_app), (b"a", b"b"));
        expect(&mut app, b"a").await;
        expect(&mut client, b"b").await;
        client.write_all(b"question").await.unwrap();
        expect(&mut app, b"question").await;
        app.write_all(b"answer").await.unwrap();
        expect(&mut client, b"answer").await;
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut app).await, b"last");
        drop(app);
        tunnel.end().await;
    });
}

#[test]
fn a_half_close_is_kept_for_a_minute() {
    for by in [ClosedBy::Client, ClosedBy::App] {
        paused(async {
            let World {
                client, app, tunnel, ..
            } = world((b"", b""), (1024, 1024));
            let (mut first, mut other) = if by == ClosedBy::Client {
                (client, app)
            } else {
                (app, client)
            };
            first.write_all(b"last words").await.unwrap();
            first.shutdown().await.unwrap();
            assert_eq!(rest(&mut other).await, b"last words");
            for second in 1u8..60 {
                sleep(Duration::from_secs(1)).await;
                other.write_all(&[second]).await.unwrap();
                expect(&mut first, &[second]).await;
            }
            let (closed, took) = tunnel.end().await;
            assert_eq!(closed.by, by);
            assert!(
                took >= HALF_CLOSE && took < HALF_CLOSE + Duration::from_millis(10),
                "{took:?}"
            );
        });
    }
}

#[test]
fn both_ends_end_it_at_once() {
    paused(async {
        let World {
            mut client,
            mut app,
            tunnel,
            ..
        } = world((b"", b""), (1024, 1024));
        app.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, b"");
        sleep(Duration::from_secs(5)).await;
        client.write_all(b"goodbye").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut app).await, b"goodbye");
        let (closed, took) = tunnel.end().await;
        assert_eq!(closed.by, ClosedBy::App);
        assert!(took < Duration::from_secs(6), "{took:?}");
    });
}

#[test]
fn an_end_by_postern_passes_on_what_is_in_flight_and_then_reads_for_a_short_while() {
    paused(async {
        let World {
            mut client,
            mut app,
            socket,
            tunnel,
            ..
        } = world((b"", b""), (SCRATCH, 64));
        let sent = pattern(1000);
        client.write_all(&sent).await.unwrap();
        app.write_all(b"from the app").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        socket.end();
        // Both FINs come after the bytes that were on their way.
        assert_eq!(rest(&mut client).await, b"from the app");
        assert_eq!(rest(&mut app).await, sent);
        // What comes later is read, so that no reset is sent, and goes nowhere.
        for _ in 0..10 {
            client.write_all(&pattern(SCRATCH)).await.unwrap();
            app.write_all(&pattern(64)).await.unwrap();
        }
        let (closed, took) = tunnel.end().await;
        assert_eq!((closed.bytes_to_app, closed.bytes_to_client), (1000, 12));
        assert_eq!(closed.by, ClosedBy::Postern);
        let expected = Duration::from_secs(1) + ENDING;
        assert!(
            took >= expected && took < expected + Duration::from_millis(10),
            "{took:?}"
        );
    });
}

#[test]
fn an_end_by_postern_is_over_when_both_sides_have_ended() {
    paused(async {
        let World {
            mut client,
            mut app,
            socket,
            tunnel,
            ..
        } = world((b"", b""), (64, 64));
        socket.end();
        for side in [&mut client, &mut app] {
            assert_eq!(rest(side).await, b"");
            side.shutdown().await.unwrap();
        }
        let (closed, took) = tunnel.end().await;
        assert_eq!(closed.by, ClosedBy::Postern);
        assert!(took < ENDING / 2, "{took:?}");
    });
}

#[test]
fn an_end_by_postern_cuts_a_half_close_short_but_not_its_cause() {
    paused(async {
        let World {
            mut client,
            mut app,
            socket,
            tunnel,
            ..
        } = world((b"", b""), (64, 64));
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut app).await, b"");
        sleep(Duration::from_secs(30)).await;
        socket.end();
        assert_eq!(rest(&mut client).await, b"");
        let (closed, took) = tunnel.end().await;
        assert_eq!(closed.by, ClosedBy::Client);
        assert!(took < Duration::from_secs(33), "{took:?}");
    });
}

#[test]
fn a_reader_that_stops_stops_the_writer_and_no_more_than_one_read_is_kept() {
    for up in [true, false] {
        paused(async {
            let (large, small) = (4 * SCRATCH, 1024);
            let (sides, sent) = (if up { (large, small) } else { (small, large) }, pattern(16 * SCRATCH));
            let World {
                client,
                app,
                deployment,
                tunnel,
                ..
            } = world((b"", b""), sides);
            let (mut writer, mut reader) = if up { (client, app) } else { (app, client) };
            let mut accepted = 0;
            while let Ok(written) = timeout(Duration::from_secs(1), writer.write(&sent[accepted..])).await {
                accepted += written.unwrap();
            }
            assert!(accepted <= large + SCRATCH, "{accepted}");
            let traffic = &deployment.traffic;
            let meter = if up {
                &traffic.socket_bytes_to_app
            } else {
                &traffic.socket_bytes_to_client
            };
            let read = meter.load(std::sync::atomic::Ordering::Relaxed);
            assert!(read <= (small + SCRATCH) as u64, "{read}");
            // Nothing of it is lost when the reader goes on.
            let write = async {
                writer.write_all(&sent[accepted..]).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let (read, ()) = tokio::join!(rest(&mut reader), write);
            assert!(read == sent);
            drop(reader);
            let (closed, _) = tunnel.end().await;
            assert_eq!(
                if up {
                    closed.bytes_to_app
                } else {
                    closed.bytes_to_client
                },
                sent.len() as u64
            );
        });
    }
}
