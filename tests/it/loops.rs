//! Requests that come back to where they were: apps, siblings and services that decide may lead to Postern itself. Each
//! request ends after a few passes, and costs the other apps nothing.

use std::net::SocketAddr;

use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::support::backend::Backend;
use crate::support::front::{Front, Transport};
use crate::support::guarded::{self, Guarded, HOST};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Answer, ask, get};

over_each! {
    a_service_that_leads_here_is_508_after_eight_passes,
    an_upgrade_that_comes_back_is_508_after_eight_passes,
    who_has_passed_too_often_is_refused_before_rules_and_apps,
    a_deciding_service_that_leads_here_ends,
}

const OTHER: &str = "other.example.test";
/// Those that are forwarded, and the one that is refused.
const PASSES: usize = 9;

/// What stands between Postern and itself: its own addresses are refused as endpoints, those of a load balancer or of a
/// Service's virtual address are nobody's to know.
struct Balancer(TcpListener);

impl Balancer {
    async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("binds"))
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("is bound")
    }

    fn lead_to(self, postern: &Postern) {
        let address = postern.http;
        tokio::spawn(async move {
            while let Ok((mut client, _)) = self.0.accept().await {
                tokio::spawn(async move {
                    let mut postern = TcpStream::connect(address).await.expect("connects");
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut postern).await;
                });
            }
        });
    }
}

/// An app whose endpoint leads back here, beside an app that is none.
async fn looping(over: Transport, app: Site) -> (Front, Backend) {
    let other = Backend::saying("other").await;
    let balancer = Balancer::bind().await;
    let sites = [app.to(balancer.address()), Site::new("other", OTHER).to(other.address)];
    let front = Front::start(over, &sites).await;
    balancer.lead_to(&front.postern);
    (front, other)
}

fn is_loop(answer: &Answer) -> bool {
    let code = "routing:loop_detected";
    answer.status() == 508 && answer.head.get("x-postern-error") == Some(code) && answer.json()["code"] == code
}

/// Requests for the path have passed so often; each is logged, and one of them as the loop's end.
async fn has_passed(postern: &Postern, path: &str, passes: usize) {
    let records = postern.recorded(path, passes).await;
    let ends = records
        .iter()
        .filter(|record| record["code"] == "routing:loop_detected");
    assert_eq!((records.len(), ends.count()), (passes, 1), "{records:?}");
}

async fn a_service_that_leads_here_is_508_after_eight_passes(over: Transport) {
    let (front, _other) = looping(over, Site::new("app", HOST)).await;
    let answer = front.get(HOST, "/once").await;
    assert!(is_loop(&answer), "{answer:?}");
    assert_eq!(answer.head.get("content-type"), Some("application/problem+json"));
    has_passed(&front.postern, "/once", PASSES).await;
    let labels = [("deployment", "app"), ("reason", "routing:loop_detected")];
    assert!(front.postern.metric("postern_requests_total", &labels).await >= 1.0);
    let posted = front.ask(Method::POST, HOST, "/", "", b"a body").await;
    assert!(is_loop(&posted), "{posted:?}");
    // Others are served meanwhile.
    let loops = join_all((0..20).map(|_| front.get(HOST, "/")));
    let served = join_all((0..20).map(|_| front.get(OTHER, "/")));
    let (loops, served) = tokio::join!(loops, served);
    assert!(loops.iter().all(is_loop), "{loops:?}");
    assert!(served.iter().all(|answer| answer.text() == "other"), "{served:?}");
}

async fn an_upgrade_that_comes_back_is_508_after_eight_passes(over: Transport) {
    let (front, _other) = looping(over, Site::new("app", HOST)).await;
    let Err(answer) = front.upgrade(HOST, "/socket", "").await else {
        panic!("a socket was opened")
    };
    assert!(is_loop(&answer), "{answer:?}");
    has_passed(&front.postern, "/socket", PASSES).await;
}

#[tokio::test]
async fn an_app_over_h2c_that_leads_here_is_508_after_eight_passes() {
    let app = Site::new("app", HOST).app_protocol("kubernetes.io/h2c");
    let (front, _other) = looping(Transport::Plain, app).await;
    let answer = front.get(HOST, "/once").await;
    assert!(is_loop(&answer), "{answer:?}");
    has_passed(&front.postern, "/once", PASSES).await;
}

#[tokio::test]
async fn siblings_that_lead_to_each_other_count_together() {
    let [to_one, to_other] = [Balancer::bind().await, Balancer::bind().await];
    let one = Postern::start(&[Site::new("app", HOST).to(to_other.address())]).await;
    let other = Postern::start(&[Site::new("app", HOST).to(to_one.address())]).await;
    to_one.lead_to(&one);
    to_other.lead_to(&other);
    let answer = get(one.http, HOST, "/once").await;
    assert!(is_loop(&answer), "{answer:?}");
    has_passed(&one, "/once", 5).await;
    assert_eq!(other.recorded("/once", 4).await.len(), 4);
}

async fn who_has_passed_too_often_is_refused_before_rules_and_apps(over: Transport) {
    let gate = Backend::saying("ok").await;
    let rules = json!([{"name": "gate", "forwardAuth": {"url": format!("http://{}/", gate.address)}}]);
    let flags = ["--allow-egress", "127.0.0.0/8"];
    let guarded = Guarded::start_with(over, guarded::site(rules), &flags).await;
    let seven =
        "CDN-Loop: postern, x.example;a=b, Postern;v=1,postern\r\nCDN-Loop: postern,postern,postern, postern\r\n";
    for seen in guarded.passes("/", seven).await {
        let lines = [
            "postern, x.example;a=b, Postern;v=1,postern",
            "postern,postern,postern, postern, postern",
        ];
        assert_eq!(seen.all("cdn-loop"), lines);
    }
    let told = gate.heads();
    assert_eq!(told.len(), 2);
    for seen in told {
        assert_eq!(seen.all("cdn-loop").len(), 2);
        assert!(seen.all("cdn-loop")[1].ends_with(", postern"), "{seen:?}");
    }
    let eight = format!("{seven}CDN-Loop: postern\r\n");
    for refused in guarded.refuses("/", &eight, 508, "routing:loop_detected").await {
        assert!(is_loop(&refused), "{refused:?}");
    }
    assert_eq!(gate.hits(), 2);
}

#[tokio::test]
async fn client_cannot_take_away_what_counts() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let lines: [(&[u8], &[u8]); 4] = [
        (b"", b"\r\ncdn-loop: postern\r\n"),
        (
            b"Connection: CDN-Loop\r\nCDN-Loop: a.example\r\n",
            b"\r\ncdn-loop: a.example, postern\r\n",
        ),
        (b"cdn_loop: forged\r\n", b"\r\ncdn-loop: postern\r\n"),
        (
            b"CDN-Loop: a;b=\", \xe9\r\n",
            b"\r\ncdn-loop: a;b=\", \xe9, postern\r\n",
        ),
    ];
    for (sent, seen) in lines {
        let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n");
        let answer = ask(postern.http, [head.as_bytes(), sent, b"\r\n"].concat()).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let app = backend.heads().pop().expect("a request");
        assert!(app.raw.windows(seen.len()).any(|window| window == seen), "{app:?}");
    }
}

#[tokio::test]
async fn loops_end_whatever_the_client_says_of_its_way() {
    let (front, _other) = looping(Transport::Plain, Site::new("app", HOST)).await;
    let many: String = (0..90).map(|i| format!("X-{i}: y\r\n")).collect();
    for more in [
        "Connection: CDN-Loop\r\n".to_owned(),
        "CDN-Loop: a;b=\"\r\n".to_owned(),
        format!("CDN-Loop: {}\r\n", "a,".repeat(30_000)),
        format!("CDN-Loop: {}\r\n", "a".repeat(65_000)),
        many,
    ] {
        let answer = front.ask(Method::GET, HOST, "/", &more, b"").await;
        // With what Postern adds the head may become too large before.
        assert!(is_loop(&answer) || answer.status() == 431, "{answer:?}");
    }
}

async fn a_deciding_service_that_leads_here_ends(over: Transport) {
    let backend = Backend::saying("ok").await;
    let balancer = Balancer::bind().await;
    let gate = json!({"service": {"name": "gate", "port": 80, "path": "/decide"}});
    let app = guarded::site(json!([{"name": "gate", "forwardAuth": gate}]))
        .spec(json!({"hostnames": [HOST, "gate.default.svc"]}))
        .to(backend.address);
    let gate = Site::new("gate", "gate.example.test").to(balancer.address());
    let front = Front::start(over, &[app, gate]).await;
    balancer.lead_to(&front.postern);
    let answer = front.get(HOST, "/once").await;
    assert_eq!(
        (answer.status(), answer.head.get("x-postern-error")),
        (503, Some("policy:auth_unavailable"))
    );
    // The first pass is the client's own.
    has_passed(&front.postern, "/decide", PASSES - 1).await;
    assert_eq!(backend.hits(), 0);
}

#[tokio::test]
async fn a_deciding_url_that_leads_here_ends() {
    let backend = Backend::saying("ok").await;
    let balancer = Balancer::bind().await;
    let gate = json!({"url": format!("http://localhost:{}/decide", balancer.address().port())});
    let app = guarded::site(json!([{"name": "gate", "forwardAuth": gate}]))
        .spec(json!({"hostnames": [HOST, "localhost"]}))
        .to(backend.address);
    let postern = Postern::start_with(&[app], &["--allow-egress", "127.0.0.0/8,::1/128"]).await;
    balancer.lead_to(&postern);
    let answer = get(postern.http, HOST, "/once").await;
    assert_eq!(
        (answer.status(), answer.head.get("x-postern-error")),
        (503, Some("policy:auth_unavailable"))
    );
    has_passed(&postern, "/decide", PASSES - 1).await;
    assert_eq!(backend.hits(), 0);
}
