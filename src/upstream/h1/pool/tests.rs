//! Leases of real connections over loopback, and the list of idle ones. What threads may do to each other at an idle
//! connection is in loom.rs.

mod loom;
mod model;

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;

use http::{Request, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::idle::MAX_IDLE;
use super::*;

const MILLI: Duration = Duration::from_millis(1);

/// A test that is stuck fails. Far above the limits that a paused clock runs to.
async fn within<T>(wait: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, wait).await.expect("an end")
}

/// An endpoint, the Deployment that counts, and the app's side of one connection.
struct World {
    endpoint: Arc<EndpointState>,
    traffic: Arc<Traffic>,
    app: TcpStream,
}

impl World {
    /// A lease of a fresh connection.
    async fn new(tls: Option<&Arc<UpstreamTls>>) -> (Self, Lease) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (app, _) = listener.accept().await.unwrap();
        let halves = http1::handshake(TokioIo::new(Stream::plain(stream))).await;
        let (sender, connection) = halves.unwrap();
        let world = Self {
            endpoint: Arc::default(),
            traffic: Arc::default(),
            app,
        };
        let lease = Lease::of(sender, connection, Open::at(&world.endpoint), tls, &world.traffic);
        (world, lease)
    }

    /// A fresh connection that has served one request and was put back.
    async fn idle(tls: Option<&Arc<UpstreamTls>>) -> Self {
        let (mut world, mut lease) = Self::new(tls).await;
        world.exchange(&mut lease).await;
        lease.release();
        world
    }

    async fn exchange(&mut self, lease: &mut Lease) {
        self.exchange_of(lease, ClientBody::none().sent()).await;
    }

    /// One request and its whole answer; `sent` says how much of the request left.
    async fn exchange_of(&mut self, lease: &mut Lease, sent: Arc<Sent>) {
        let request = Request::builder().header(header::HOST, "app").body(ClientBody::none());
        let answer = lease.sender(sent).unwrap().try_send_request(request.unwrap());
        let serve = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.app.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            self.app.write_all(answer).await.unwrap();
        };
        let (answer, ()) = tokio::join!(answer, serve);
        let body = answer.map_err(|failed| failed.into_error()).unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
    }

    /// Waits until the task of the idle connection has said that it is ready.
    async fn ready(&self) {
        let ready = Cell::new(false);
        while !ready.get() {
            tokio::task::yield_now().await;
            self.endpoint.pool.0.take(Instant::now(), |connection| {
                ready.set(connection.sender.is_ready());
                false
            });
        }
    }

    async fn reuse(&self) -> Lease {
        self.ready().await;
        self.try_reuse(None).unwrap()
    }

    fn try_reuse(&self, tls: Option<&Arc<UpstreamTls>>) -> Result<Lease, Open> {
        Lease::reuse(Open::at(&self.endpoint), tls, &self.traffic)
    }

    /// Waits for the app to see the end of the connection.
    async fn closed(&mut self) {
        assert_eq!(within(self.app.read(&mut [0])).await.unwrap(), 0);
    }

    fn gauges(&self) -> (i64, i64) {
        let Traffic {
            connections_active,
            connections_idle,
            ..
        } = &*self.traffic;
        (connections_active.load(Relaxed), connections_idle.load(Relaxed))
    }

    /// Waits until the connection's task has ended and nothing counts it any more.
    async fn gone(&self) {
        within(async {
            while self.gauges() != (0, 0) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_released_connection_serves_the_next_request() {
    let (mut world, mut lease) = World::new(None).await;
    assert_eq!(
        (world.gauges(), world.endpoint.open(), lease.reused),
        ((1, 0), 1, false)
    );
    for _ in 0..3 {
        world.exchange(&mut lease).await;
        lease.release();
        assert_eq!((world.gauges(), world.endpoint.open()), ((0, 1), 0));
        lease = world.reuse().await;
        assert_eq!((world.gauges(), world.endpoint.open(), lease.reused), ((1, 0), 1, true));
    }
    assert!(world.try_reuse(None).is_err(), "it is in use");
}

#[tokio::test]
async fn a_reused_connection_counts_for_the_deployment_that_uses_it() {
    let world = World::idle(None).await;
    let other = Arc::new(Traffic::default());
    world.ready().await;
    let lease = Lease::reuse(Open::at(&world.endpoint), None, &other).unwrap();
    assert_eq!((world.gauges(), other.connections_active.load(Relaxed)), ((0, 0), 1));
    drop(lease);
    assert_eq!(other.connections_active.load(Relaxed), 0);
}

#[tokio::test]
async fn a_lease_that_is_dropped_closes_its_connection() {
    let (mut world, lease) = World::new(None).await;
    drop(lease);
    world.closed().await;
    assert_eq!((world.gauges(), world.endpoint.open()), ((0, 0), 0));
}

#[tokio::test]
async fn a_lease_that_is_dropped_does_not_wait_for_its_answer() {
    let (mut world, mut lease) = World::new(None).await;
    let request = Request::new(ClientBody::none());
    let _answer = lease
        .sender(ClientBody::none().sent())
        .unwrap()
        .try_send_request(request);
    assert_eq!(world.app.read_u8().await.unwrap(), b'G');
    drop(lease);
    within(async { while world.app.read(&mut [0; 64]).await.unwrap() > 0 {} }).await;
}

#[tokio::test]
async fn a_connection_that_must_not_be_used_again_is_closed_at_its_release() {
    type Spoil = fn(&mut Lease);
    let spoiled: [(Arc<Sent>, Spoil); 3] = [
        // A part of the request is still to come.
        (Arc::default(), |_| {}),
        (ClientBody::none().sent(), Lease::forbid_reuse),
        // Its last second is nobody's, and it has no other.
        (ClientBody::none().sent(), |lease| {
            lease.keep_alive(Duration::from_secs(1));
        }),
    ];
    for (sent, spoil) in spoiled {
        let (mut world, mut lease) = World::new(None).await;
        world.exchange_of(&mut lease, sent).await;
        spoil(&mut lease);
        lease.release();
        assert_eq!(world.gauges(), (0, 0));
        world.closed().await;
        assert!(world.try_reuse(None).is_err());
    }
}

#[tokio::test]
async fn a_connection_that_the_app_closes_is_swept() {
    let mut world = World::idle(None).await;
    world.app.shutdown().await.unwrap();
    world.gone().await;
    assert!(world.try_reuse(None).is_err());
    world.closed().await;
}

#[tokio::test]
async fn idle_connections_close_with_their_endpoint() {
    let mut world = World::idle(None).await;
    world.endpoint = Arc::default();
    world.closed().await;
    assert_eq!(world.gauges(), (0, 0));
}

#[tokio::test]
async fn an_idle_connection_closes_after_its_limit() {
    // What the app says, and how long it is then idle: no longer than Postern's own limit.
    for (said, kept) in [
        (None, IDLE_LIMIT),
        (Some(3), Duration::from_secs(2)),
        (Some(60), IDLE_LIMIT),
    ] {
        let (mut world, mut lease) = World::new(None).await;
        world.exchange(&mut lease).await;
        if let Some(said) = said {
            lease.keep_alive(Duration::from_secs(said));
        }
        tokio::time::pause();
        lease.release();
        world.ready().await;
        // Two milliseconds for what is rounded down.
        tokio::time::advance(kept - 2 * MILLI).await;
        let mut lease = world.reuse().await;
        world.exchange(&mut lease).await;
        lease.release();
        let released = Instant::now();
        world.closed().await;
        // Its task looks at it when its timer runs out, which is no more than Postern's limit later.
        let took = released.elapsed() + 2 * MILLI;
        assert!((kept..=IDLE_LIMIT + 4 * MILLI).contains(&took), "closed after {took:?}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_connection_that_is_due_is_not_used_though_its_task_has_not_looked() {
    let (mut world, mut lease) = World::new(None).await;
    world.exchange(&mut lease).await;
    lease.keep_alive(Duration::from_secs(2));
    lease.release();
    world.ready().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(world.try_reuse(None).is_err());
    world.closed().await;
}

#[tokio::test]
async fn a_connection_is_used_again_with_its_own_tls_settings_alone() {
    let named = |name: &'static str| {
        Arc::new(UpstreamTls {
            server_name: Some(name.try_into().unwrap()),
            ..UpstreamTls::default()
        })
    };
    let world = World::idle(Some(&named("a.example"))).await;
    world.ready().await;
    assert!(world.try_reuse(None).is_err());
    assert!(world.try_reuse(Some(&named("b.example"))).is_err());
    assert!(world.try_reuse(Some(&named("a.example"))).is_ok());
    let world = World::idle(None).await;
    world.ready().await;
    assert!(world.try_reuse(Some(&named("a.example"))).is_err());
}

fn busy(number: usize, now: Instant) -> Kept<usize> {
    Kept {
        connection: number,
        state: Arc::new(ConnectionState::new(now, IDLE_LIMIT)),
    }
}

/// From the oldest to the latest.
fn listed(list: &IdleList<usize>, now: Instant) -> Vec<usize> {
    let listed = RefCell::new(Vec::new());
    list.take(now, |number| {
        listed.borrow_mut().push(*number);
        false
    });
    let mut listed = listed.into_inner();
    listed.reverse();
    listed
}

#[test]
fn a_full_list_closes_what_comes_back() {
    let (list, now) = (IdleList::default(), Instant::now());
    let put = |number| {
        let kept = busy(number, now);
        let state = kept.state.clone();
        list.put(kept, now);
        state.check(now)
    };
    let idle = Look::Idle(now + IDLE_LIMIT);
    assert!((0..MAX_IDLE).all(|number| put(number) == idle));
    assert_eq!(put(MAX_IDLE), Look::Closed);
    assert_eq!(list.take(now, |_| true).unwrap().connection, MAX_IDLE - 1);
    assert_eq!(put(MAX_IDLE), idle, "there is room again");
}

#[test]
fn only_what_fits_is_taken_and_nothing_else_is_lost() {
    let (list, now) = (IdleList::default(), Instant::now());
    (0..4).for_each(|number| list.put(busy(number, now), now));
    let odd = |number: &usize| number % 2 == 1;
    let taken: Vec<_> = std::iter::from_fn(|| list.take(now, odd)).collect();
    let taken: Vec<_> = taken.iter().map(|kept| kept.connection).collect();
    assert_eq!((taken, listed(&list, now)), (vec![3, 1], vec![0, 2]));
}
