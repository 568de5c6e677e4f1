use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::api::deployment::DeploymentStatus;
use crate::compile::acme::Order;
use crate::compile::intent::Parent;
use crate::compile::problem::Finding;
use crate::compile::report::{Counts, Details, ParentReport, Report, RouteDetails};
use crate::compile::tls::report::Served;
use crate::condition::{ConditionReason, ConditionType};
use crate::config::Flags;
use crate::object::{Kind, ObjectKey};

/// An apiserver that takes every status, unless told otherwise, and remembers when it got which.
#[derive(Clone, Default)]
struct Server {
    writes: Arc<Mutex<Vec<(Instant, String, DeploymentStatus)>>>,
    refuse: Arc<Mutex<Option<u16>>>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                sleep(Duration::from_millis(10)).await;
                let mut sent: Value = serde_json::from_slice(&body).unwrap();
                assert!(
                    head.uri.path().ends_with("/status") && head.uri.query().unwrap().contains("fieldManager=postern")
                );
                let name = sent["metadata"]["name"].as_str().unwrap().to_owned();
                sent["metadata"]["uid"] = format!("uid-{name}").into();
                let status = serde_json::from_value(sent["status"].clone()).unwrap();
                server.writes.lock().push((Instant::now(), name, status));
                let refuse = *server.refuse.lock();
                let (code, answer) = match refuse {
                    None => (200, sent),
                    Some(code) => (
                        code,
                        json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "no"}),
                    ),
                };
                let body = Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, kube::Error>(Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn names(&self) -> Vec<String> {
        self.writes.lock().iter().map(|(_, name, _)| name.clone()).collect()
    }

    fn count(&self) -> usize {
        self.writes.lock().len()
    }

    fn last(&self) -> Arc<DeploymentStatus> {
        Arc::new(self.writes.lock().last().unwrap().2.clone())
    }
}

struct Run {
    server: Server,
    mailbox: Arc<Mailbox<ObjectId, Update>>,
    failures: Arc<Failures>,
    leading: watch::Sender<bool>,
    settings: watch::Sender<Arc<Settings>>,
    counters: Counters,
    notices: tokio::sync::mpsc::Receiver<Notice>,
    _task: JoinHandle<()>,
}

impl Run {
    fn start(leads: bool) -> Self {
        let server = Server::default();
        let mailbox = Arc::new(Mailbox::default());
        let failures = Arc::new(Failures::default());
        let (leading, leadership) = watch::channel(leads);
        let (settings, received) = watch::channel(Arc::new(settings(&[])));
        let counters = Counters::default();
        let (left, notices) = Notices::new();
        let task = tokio::spawn(run(
            server.client(),
            mailbox.clone(),
            failures.clone(),
            leadership,
            received,
            left,
            counters.clone(),
        ));
        Self {
            server,
            mailbox,
            failures,
            leading,
            settings,
            counters,
            notices,
            _task: task,
        }
    }

    fn post(&self, name: &str, report: Report, observed: Option<Arc<DeploymentStatus>>) {
        let update = Update {
            report: Some(Arc::new(report)),
            observed: observed.map(Status::Deployment),
        };
        self.mailbox.post([(id(name), update)]);
    }

    fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.notices.try_recv().ok())
            .map(|notice| notice.transition.reason)
            .collect()
    }
}

fn settings(addresses: &[&str]) -> Settings {
    Settings {
        publish_addresses: addresses.iter().map(|address| address.to_string()).collect(),
        ..Flags::default().settings().unwrap()
    }
}

fn id(name: &str) -> ObjectId {
    ObjectId::new(Kind::Deployment, ObjectKey::new("n", name))
}

fn report(name: &str, generation: i64, ready: u32) -> Report {
    Report {
        id: id(name),
        uid: format!("uid-{name}").into(),
        generation,
        parents: vec![ParentReport {
            parent: Parent::Installation,
            findings: vec![Finding {
                r#type: ConditionType::Accepted,
                status: true,
                reason: ConditionReason::Accepted,
                message: String::new(),
            }],
        }],
        details: Details::Routes(details(ready)),
    }
}

fn details(ready: u32) -> RouteDetails {
    RouteDetails {
        endpoints: Counts { ready, total: ready },
        ..RouteDetails::default()
    }
}

/// Long enough for anything that is due now.
async fn settle() {
    sleep(Duration::from_millis(500)).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_writes_and_a_new_one_compares_everything() {
    let run = Run::start(false);
    run.post("a", report("a", 1, 1), None);
    run.post("b", report("b", 1, 1), None);
    settle().await;
    assert_eq!(run.server.count(), 0);
    run.leading.send(true).unwrap();
    settle().await;
    assert_eq!(run.server.names(), ["a", "b"]);
    assert_eq!(run.counters.written.get(), 2);

    run.leading.send(false).unwrap();
    run.post("a", report("a", 2, 1), None);
    settle().await;
    assert_eq!(run.server.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_stands_there_already_is_not_written_again() {
    let mut run = Run::start(true);
    run.post("a", report("a", 1, 1), None);
    settle().await;
    assert_eq!(run.told(), ["Programmed"]);
    let status = run.server.last();
    // The watch lags: it still knows nothing, then it does.
    run.post("a", report("a", 1, 1), None);
    settle().await;
    run.post("a", report("a", 1, 1), Some(status.clone()));
    sleep(SETTLE * 2).await;
    assert_eq!(run.server.count(), 1);
    // Somebody else overwrites it.
    run.post("a", report("a", 1, 1), Some(Arc::default()));
    settle().await;
    assert_eq!((run.server.count(), run.server.last()), (2, status));
}

#[tokio::test(start_paused = true)]
async fn a_new_generation_is_written_though_all_else_is_equal() {
    let run = Run::start(true);
    run.post("a", report("a", 1, 1), None);
    settle().await;
    run.post("a", report("a", 2, 1), Some(run.server.last()));
    settle().await;
    assert_eq!(run.server.count(), 2);
    assert_eq!(run.server.last().conditions[0].observed_generation, Some(2));
}

#[tokio::test(start_paused = true)]
async fn counts_are_written_at_most_every_ten_seconds_and_the_last_one_stands() {
    let run = Run::start(true);
    run.post("a", report("a", 1, 1), None);
    settle().await;
    let start = Instant::now();
    for ready in 2..=50 {
        run.post("a", report("a", 1, ready), None);
        sleep(Duration::from_secs(1)).await;
    }
    assert!(
        run.server.count() <= 1 + 5,
        "{} writes in {:?}",
        run.server.count(),
        start.elapsed()
    );
    sleep(COUNTS).await;
    assert_eq!(run.server.last().endpoints.unwrap().ready, 50);
    // A condition does not wait for counts.
    let before = run.server.count();
    run.post("a", report("a", 2, 50), None);
    settle().await;
    assert_eq!(run.server.count(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn writes_are_paced_and_conditions_go_first() {
    let run = Run::start(false);
    // Statuses of which only the counts are old come first by name, and last by urgency.
    for index in 0..100 {
        let name = format!("a{index:03}");
        let old = conditions::status(&report(&name, 1, 0), &BTreeMap::new(), None, &[], Timestamp::UNIX_EPOCH);
        let Status::Deployment(old) = old else {
            unreachable!("a Deployment's status is one");
        };
        run.post(&name, report(&name, 1, 1), Some(old));
        let name = format!("b{index:03}");
        run.post(&name, report(&name, 1, 1), None);
    }
    settle().await;
    run.leading.send(true).unwrap();
    sleep(Duration::from_secs(10)).await;
    let writes = run.server.writes.lock().clone();
    assert_eq!(writes.len(), 200);
    assert!(writes[..100].iter().all(|(_, name, _)| name.starts_with('b')));
    for (index, (at, ..)) in writes.iter().enumerate() {
        let second = writes[index..]
            .iter()
            .take_while(|(later, ..)| *later < *at + Duration::from_secs(1));
        assert!(second.count() <= 51);
    }
}

#[tokio::test(start_paused = true)]
async fn refused_writes_are_tried_again_ever_more_seldom() {
    let run = Run::start(true);
    *run.server.refuse.lock() = Some(500);
    run.post("a", report("a", 1, 1), None);
    sleep(Duration::from_secs(120)).await;
    let tries = run.server.count();
    assert!((5..=9).contains(&tries), "{tries} tries in two minutes");
    assert_eq!(
        (run.counters.failed.get(), run.counters.written.get()),
        (tries as u64, 0)
    );
    *run.server.refuse.lock() = None;
    let start = Instant::now();
    while run.counters.written.get() == 0 {
        assert!(start.elapsed() <= MAX_REST, "not tried again");
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_is_left_alone() {
    let run = Run::start(true);
    *run.server.refuse.lock() = Some(404);
    run.post("a", report("a", 1, 1), None);
    settle().await;
    run.mailbox.post([(
        id("a"),
        Update {
            report: None,
            observed: None,
        },
    )]);
    sleep(MAX_REST * 2).await;
    assert_eq!((run.server.count(), run.counters.gone.get()), (1, 1));
    // Another one of that name has taken its place, unseen: what it was told by mistake is not taken for its own.
    *run.server.refuse.lock() = None;
    let earlier = Report {
        uid: "earlier".into(),
        ..report("a", 1, 1)
    };
    run.post("a", earlier, None);
    settle().await;
    assert_eq!((run.counters.written.get(), run.counters.gone.get()), (0, 2));
    run.post("a", report("a", 1, 1), Some(run.server.last()));
    settle().await;
    run.post("a", report("a", 2, 1), Some(run.server.last()));
    settle().await;
    assert_eq!(run.counters.written.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn new_addresses_are_written_to_all() {
    let run = Run::start(true);
    run.post("a", report("a", 1, 1), None);
    settle().await;
    run.settings.send(Arc::new(settings(&["192.0.2.1"]))).unwrap();
    settle().await;
    assert_eq!(run.server.last().addresses, ["192.0.2.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_order_is_written_when_it_is_told_and_again_when_it_is_over() {
    let run = Run::start(true);
    let mut report = report("a", 1, 1);
    report.parents[0].findings.push(Finding {
        r#type: ConditionType::ResolvedRefs,
        status: true,
        reason: ConditionReason::ResolvedRefs,
        message: String::new(),
    });
    report.details = Details::Routes(RouteDetails {
        orders: vec![Order {
            hostname: "a.test".parse().unwrap(),
            secret: ObjectKey::new("n", "s"),
            current: None,
        }],
        ..details(1)
    });
    run.post("a", report, None);
    settle().await;
    let key = id("a");
    let resolved = || {
        let last = run.server.last();
        let resolved = last.conditions.iter().find(|c| c.type_ == "ResolvedRefs");
        resolved.map(|c| c.reason.clone())
    };
    let before = resolved();
    run.failures.set(&key, "a.test", "no answer");
    settle().await;
    assert_eq!(resolved().as_deref(), Some("CertificateFailed"));
    run.failures.set(&key, "a.test", "no answer");
    run.failures.clear(&key, "b.test");
    settle().await;
    assert_eq!(run.server.count(), 2);
    run.failures.clear(&key, "a.test");
    settle().await;
    assert_eq!((resolved(), run.server.count()), (before, 3));
}

/// The expiry is the world's time, which cannot be paused: it is two real seconds away.
#[tokio::test(start_paused = true)]
async fn a_certificate_that_comes_near_its_expiry_is_told_without_any_change() {
    let run = Run::start(true);
    let mut report = report("a", 1, 1);
    let in_fourteen_days = Timestamp::now().as_second() + 14 * 24 * 60 * 60 + 2;
    report.details = Details::Routes(RouteDetails {
        certificates: vec![Served {
            secret: ObjectKey::new("n", "s"),
            hostnames: vec!["a.test".into()],
            not_after: in_fourteen_days,
        }],
        ..details(1)
    });
    run.post("a", report, None);
    settle().await;
    let told = || {
        run.server
            .last()
            .conditions
            .iter()
            .any(|c| c.type_ == "CertificateExpiring")
    };
    assert!(!told());
    let start = std::time::Instant::now();
    while !told() {
        assert!(start.elapsed() < Duration::from_secs(20), "not told");
        settle().await;
    }
}
