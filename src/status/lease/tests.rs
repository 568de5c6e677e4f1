use std::sync::Arc;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use proptest::prelude::*;

/// An apiserver that knows one Lease and its resourceVersion.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<(u64, Option<Lease>)>>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    Up,
    /// Requests do not arrive.
    Cut,
    /// Requests take effect, their answers do not arrive.
    Deaf,
}

impl Server {
    fn answer(&self, method: &Method, body: &[u8]) -> Response<Body> {
        let mut guard = self.0.lock();
        let (version, lease) = &mut *guard;
        let refuse = |code: u16, reason: &str| {
            let status =
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason});
            Response::builder()
                .status(code)
                .body(Body::from(serde_json::to_vec(&status).unwrap()))
                .unwrap()
        };
        let sent: Option<Lease> = serde_json::from_slice(body).ok();
        match (method, &*lease, sent) {
            (&Method::GET, None, _) => return refuse(404, "NotFound"),
            (&Method::GET, Some(_), _) => {}
            (&Method::POST, Some(_), _) => return refuse(409, "AlreadyExists"),
            (&Method::PUT, Some(found), Some(sent))
                if found.metadata.resource_version != sent.metadata.resource_version =>
            {
                return refuse(409, "Conflict");
            }
            (&Method::POST | &Method::PUT, _, Some(mut sent)) => {
                *version += 1;
                sent.metadata.resource_version = Some(version.to_string());
                *lease = Some(sent);
            }
            other => panic!("unexpected {other:?}"),
        }
        Response::new(Body::from(serde_json::to_vec(lease).unwrap()))
    }
}

/// A running candidate and the line between it and the server.
struct Node {
    link: Arc<Mutex<Link>>,
    leading: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Node {
    fn start(server: &Server, name: &str) -> Self {
        let link = Arc::new(Mutex::new(Link::Up));
        let (server, line) = (server.clone(), link.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, line) = (server.clone(), line.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                sleep(Duration::from_millis(5)).await;
                if *line.lock() == Link::Cut {
                    std::future::pending::<()>().await;
                }
                let answer = server.answer(&head.method, &body);
                if *line.lock() == Link::Deaf {
                    std::future::pending::<()>().await;
                }
                Ok::<_, kube::Error>(answer)
            }
        });
        let (sender, leading) = watch::channel(false);
        let stop = CancellationToken::new();
        let candidate = Candidate::new(Client::new(service, "default"), "default", "test", name.to_owned());
        let task = tokio::spawn(candidate.campaign(sender, stop.clone()));
        Self {
            link,
            leading,
            stop,
            task,
        }
    }

    fn leads(&self) -> bool {
        *self.leading.borrow()
    }

    fn set(&self, link: Link) {
        *self.link.lock() = link;
    }
}

/// Steps until the condition holds; how long that took. Never do two lead.
async fn until(nodes: &[&Node], condition: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(120), "not within two minutes");
        assert!(nodes.iter().filter(|node| node.leads()).count() <= 1, "two lead");
        sleep(Duration::from_millis(50)).await;
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn who_is_stopped_hands_over_at_once() {
    let server = Server::default();
    let a = Node::start(&server, "a");
    until(&[&a], || a.leads()).await;
    let b = Node::start(&server, "b");
    sleep(Duration::from_secs(60)).await;
    assert!(a.leads() && !b.leads());
    a.stop.cancel();
    let took = until(&[&a, &b], || b.leads()).await;
    assert!(took <= RETRY + Duration::from_millis(100), "{took:?}");
    a.task.await.unwrap();
    let guard = server.0.lock();
    let spec = guard.1.as_ref().unwrap().spec.as_ref().unwrap();
    assert_eq!(
        (spec.holder_identity.as_deref(), spec.lease_transitions),
        (Some("b"), Some(1))
    );
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_resigns_before_another_takes_over() {
    let server = Server::default();
    let a = Node::start(&server, "a");
    until(&[&a], || a.leads()).await;
    let b = Node::start(&server, "b");
    sleep(Duration::from_secs(30)).await;
    a.set(Link::Cut);
    let resigned = until(&[&a, &b], || !a.leads()).await;
    assert!(resigned <= RENEW_DEADLINE + Duration::from_millis(100), "{resigned:?}");
    let gap = until(&[&a, &b], || b.leads()).await;
    assert!(
        gap >= Duration::from_secs(2) && resigned + gap <= LEASE + RETRY * 2,
        "{gap:?}"
    );
    // Back again, it finds that another one leads.
    a.set(Link::Up);
    sleep(Duration::from_secs(60)).await;
    assert!(!a.leads() && b.leads());
}

#[tokio::test(start_paused = true)]
async fn one_failed_renewal_changes_nothing() {
    let server = Server::default();
    let a = Node::start(&server, "a");
    until(&[&a], || a.leads()).await;
    let mut leading = a.leading.clone();
    leading.mark_unchanged();
    for _ in 0..10 {
        a.set(Link::Cut);
        sleep(Duration::from_secs(4)).await;
        a.set(Link::Up);
        sleep(Duration::from_secs(6)).await;
    }
    assert!(a.leads() && !leading.has_changed().unwrap());
}

/// Whenever it happens: also in the middle of a renewal whose answer is not there yet.
#[tokio::test(start_paused = true)]
async fn who_is_stopped_leaves_the_lease_free() {
    for millis in 0..30 {
        let server = Server::default();
        let a = Node::start(&server, "a");
        sleep(Duration::from_millis(2000 + millis)).await;
        a.stop.cancel();
        a.task.await.unwrap();
        let guard = server.0.lock();
        let holder = guard
            .1
            .as_ref()
            .unwrap()
            .spec
            .as_ref()
            .unwrap()
            .holder_identity
            .as_deref();
        assert_eq!(holder, Some(""), "stopped after {millis} ms");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn never_do_two_lead_and_in_the_end_one_does(
        history in prop::collection::vec(
            (0..3usize, prop::sample::select(vec![Link::Up, Link::Cut, Link::Deaf]), 100..12_000u64), 1..20,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let server = Server::default();
            let nodes: Vec<Node> = ["a", "b", "c"].iter().map(|name| Node::start(&server, name)).collect();
            let all: Vec<&Node> = nodes.iter().collect();
            for (node, link, millis) in history {
                nodes[node].set(link);
                let end = Instant::now() + Duration::from_millis(millis);
                until(&all, || Instant::now() >= end).await;
            }
            nodes.iter().for_each(|node| node.set(Link::Up));
            until(&all, || nodes.iter().any(Node::leads)).await;
        });
    }
}
