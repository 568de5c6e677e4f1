use futures_util::future::pending;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::acme::schedule::Wanted;
use crate::object::{Kind, ObjectId, ObjectKey};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

thread_local! {
    static START: Instant = Instant::now();
}

/// The paused clock as wall clock; a test has a thread of its own.
fn now() -> i64 {
    NOW + START.with(|start| start.elapsed().as_secs()).cast_signed()
}

/// What the orders of a test do.
#[derive(Clone, Copy, PartialEq)]
enum Server {
    Issues,
    Refuses,
    Hangs,
}

struct Office {
    mailbox: Arc<Mailbox>,
    leading: watch::Sender<bool>,
    failures: Arc<Failures>,
    server: Arc<Mutex<Server>>,
    /// "clear", or the hostname of an order, each with its time in seconds.
    log: Arc<Mutex<Vec<(String, i64)>>>,
    running: JoinHandle<()>,
}

impl Office {
    fn open() -> Self {
        now();
        let mailbox = Arc::<Mailbox>::default();
        let (leading, leadership) = watch::channel(false);
        let failures = Arc::<Failures>::default();
        let server = Arc::new(Mutex::new(Server::Issues));
        let log = Arc::new(Mutex::new(Vec::new()));
        let surroundings = Surroundings {
            mailbox: mailbox.clone(),
            leadership,
            now,
            failures: failures.clone(),
        };
        let note = |log: &Arc<Mutex<Vec<_>>>, what: &str| log.lock().push((what.to_owned(), now() - NOW));
        let clear = {
            let log = log.clone();
            move || {
                note(&log, "clear");
                // Nothing may be ordered before it has ended.
                sleep(Duration::from_secs(1))
            }
        };
        let order = {
            let (log, server) = (log.clone(), server.clone());
            move |job: Job| {
                note(&log, &job.hostname);
                let server = *server.lock();
                async move {
                    match server {
                        Server::Issues => Ok(ninety_days(now())),
                        Server::Refuses => Err(Failure::NoChallenge),
                        Server::Hangs => pending().await,
                    }
                }
            }
        };
        Self {
            mailbox,
            leading,
            failures,
            server,
            log,
            running: tokio::spawn(run(surroundings, clear, order)),
        }
    }

    fn want(&self, deployment: &str, hostnames: &[&str], validity: Option<Validity>) {
        let wanted = hostnames.iter().map(|hostname| Wanted {
            hostname: (*hostname).into(),
            secret: key(hostname),
            validity,
        });
        self.mailbox.post([(id(deployment), wanted.collect())]);
    }

    fn answer(&self, server: Server) {
        *self.server.lock() = server;
    }

    /// What has happened since the last call, some time later.
    async fn after(&self, seconds: i64) -> Vec<(String, i64)> {
        sleep(Duration::from_secs(seconds.unsigned_abs())).await;
        std::mem::take(&mut *self.log.lock())
    }
}

fn id(name: &str) -> ObjectId {
    ObjectId::new(Kind::Deployment, key(name))
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("n", name)
}

fn ninety_days(not_before: i64) -> Validity {
    Validity {
        not_before,
        not_after: not_before + 90 * DAY,
    }
}

fn names(log: &[(String, i64)]) -> Vec<&str> {
    log.iter().map(|(what, _)| what.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_orders_and_first_it_clears_up() {
    let office = Office::open();
    office.want("app", &["a.test", "b.test"], None);
    assert_eq!(office.after(3600).await, []);
    office.leading.send_replace(true);
    let log = office.after(10).await;
    assert_eq!(names(&log), ["clear", "a.test", "b.test"]);
    assert_eq!(log[1].1 - log[0].1, 1, "orders wait until it is cleared");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_once_after_sixty_days() {
    let office = Office::open();
    office.leading.send_replace(true);
    office.want("app", &["a.test"], None);
    assert_eq!(names(&office.after(60 * DAY - 60).await), ["clear", "a.test"]);
    // Whatever the watch says again.
    office.want("app", &["a.test"], Some(ninety_days(NOW)));
    assert_eq!(names(&office.after(5 * 3600).await), ["a.test"]);
    assert_eq!(office.after(50 * DAY).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_gone_is_not_renewed_for() {
    let office = Office::open();
    office.leading.send_replace(true);
    office.want("app", &["a.test"], None);
    office.after(DAY).await;
    office.want("app", &[], None);
    assert_eq!(office.after(100 * DAY).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_until_an_order_succeeds() {
    let office = Office::open();
    office.answer(Server::Refuses);
    office.leading.send_replace(true);
    office.want("app", &["a.test"], None);
    office.want("other", &["a.test"], None);
    assert_eq!(names(&office.after(10).await), ["clear", "a.test"]);
    for deployment in ["app", "other"] {
        let told = office.failures.of(&id(deployment));
        assert!(told["a.test"].contains("HTTP-01"), "{told:?}");
    }
    // One minute, three, nine, each with at most a fifth more.
    assert_eq!(names(&office.after(17 * 60).await), ["a.test"; 3]);
    office.answer(Server::Issues);
    assert_eq!(names(&office.after(3600).await), ["a.test"]);
    assert!(office.failures.of(&id("app")).is_empty());
    assert!(office.failures.of(&id("other")).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_forgotten_with_its_reason() {
    let office = Office::open();
    office.answer(Server::Refuses);
    office.leading.send_replace(true);
    office.want("app", &["a.test", "b.test"], None);
    office.after(10).await;
    assert_eq!(office.failures.of(&id("app")).len(), 2);
    // One got a certificate in some other way, the other is wanted no more.
    office.want("app", &["a.test"], Some(ninety_days(NOW)));
    office.after(1).await;
    assert!(office.failures.of(&id("app")).is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_leads_no_more_drops_its_orders_and_makes_them_anew_in_the_next_term() {
    let office = Office::open();
    office.answer(Server::Hangs);
    office.leading.send_replace(true);
    office.want("app", &["a.test"], None);
    assert_eq!(names(&office.after(10).await), ["clear", "a.test"]);
    office.leading.send_replace(false);
    assert_eq!(office.after(DAY).await, []);
    office.answer(Server::Issues);
    office.leading.send_replace(true);
    assert_eq!(names(&office.after(10).await), ["clear", "a.test"]);
}

#[tokio::test(start_paused = true)]
async fn four_orders_are_in_flight_and_forty_five_of_a_namespace_begin_in_an_hour() {
    let office = Office::open();
    office.answer(Server::Hangs);
    office.leading.send_replace(true);
    let hosts: Vec<_> = (0..200).map(|i| format!("{i}.test")).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    office.want("app", &hosts, None);
    assert_eq!(office.after(7200).await.len(), 1 + 4);

    let office = Office::open();
    office.leading.send_replace(true);
    office.want("app", &hosts, None);
    assert_eq!(office.after(3500).await.len(), 1 + 45);
    for left in [45, 45, 45, 20] {
        assert_eq!(office.after(3600).await.len(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_nobody_can_tell_who_leads() {
    let office = Office::open();
    drop(office.leading);
    let ended = tokio::time::timeout(Duration::from_secs(1), office.running).await;
    ended.expect("it ends").expect("without a panic");
}
