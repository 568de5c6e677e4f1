//! The tenant that does no more than it should, and what it notices of the others.

use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::backend::Backend;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Wire, get};
use crate::support::ws;

const APP: &str = "app.quiet.test";
const LOGIN: &str = "login.quiet.test";
const CHANGING: &str = "changing.quiet.test";
/// Between two of the same kind.
const PACE: Duration = Duration::from_millis(20);

pub struct Quiet {
    app: Backend,
    /// What a changing site leads to in turn.
    versions: [Backend; 2],
}

/// How long each of a kind took.
pub struct Figures(Vec<Duration>);

pub struct Measured {
    requests: Figures,
    sockets: Figures,
    logins: Figures,
    changes: Figures,
}

impl Quiet {
    pub async fn start() -> Self {
        let app = Backend::start(|mut visit| async move {
            while let Some(head) = visit.head().await {
                if head.has("upgrade") {
                    visit.wire.send(ws::accepted(&head)).await;
                    return visit.wire.echo().await;
                }
                visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        })
        .await;
        let versions = [Backend::saying("0").await, Backend::saying("1").await];
        Self { app, versions }
    }

    pub fn sites(&self) -> Vec<Site> {
        let site = |name: &str, host: &str| Site::new(name, host).namespace("quiet").to(self.app.address);
        vec![
            site("quiet", APP),
            site("quiet-login", LOGIN).with(users()).with(login()),
            self.changing(0),
        ]
    }

    fn changing(&self, version: usize) -> Site {
        Site::new("quiet-changing", CHANGING)
            .namespace("quiet")
            .to(self.versions[version].address)
    }

    /// All kinds at once, for that long.
    pub async fn measure(&self, postern: &Postern, time: Duration) -> Measured {
        let end = Instant::now() + time;
        let (requests, sockets, logins, changes) = tokio::join!(
            requests(postern, end),
            sockets(postern, end),
            logins(postern, end),
            self.changes(postern, end)
        );
        Measured {
            requests,
            sockets,
            logins,
            changes,
        }
    }

    async fn changes(&self, postern: &Postern, end: Instant) -> Figures {
        let mut took = Vec::new();
        let mut version = 0;
        while Instant::now() < end {
            version = 1 - version;
            let start = Instant::now();
            postern.apply(&self.changing(version));
            while get(postern.http, CHANGING, "/").await.text() != version.to_string() {
                sleep(Duration::from_millis(1)).await;
                assert!(start.elapsed() < Duration::from_secs(30), "the change is not served");
            }
            took.push(start.elapsed());
            sleep(10 * PACE).await;
        }
        Figures(took)
    }
}

async fn requests(postern: &Postern, end: Instant) -> Figures {
    let mut wire = Wire::connect(postern.http).await;
    let mut took = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        wire.send(format!("GET / HTTP/1.1\r\nHost: {APP}\r\n\r\n")).await;
        assert_eq!(wire.answer().await.status(), 200);
        took.push(start.elapsed());
        sleep(PACE).await;
    }
    Figures(took)
}

async fn sockets(postern: &Postern, end: Instant) -> Figures {
    let mut socket = ws::open(postern.http, APP, "/").await;
    let mut took = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        assert_eq!(socket.exchange(b"still here", 10).await, b"still here");
        took.push(start.elapsed());
        sleep(PACE).await;
    }
    Figures(took)
}

/// Each by another user, so that none is remembered.
async fn logins(postern: &Postern, end: Instant) -> Figures {
    let mut took = Vec::new();
    for user in (0..USERS).cycle() {
        if Instant::now() >= end {
            break;
        }
        let credentials = BASE64_STANDARD.encode(format!("u{user}:p"));
        let mut wire = Wire::connect(postern.http).await;
        let start = Instant::now();
        wire.send(format!(
            "GET / HTTP/1.1\r\nHost: {LOGIN}\r\nAuthorization: Basic {credentials}\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.answer().await.status(), 200);
        took.push(start.elapsed());
        sleep(10 * PACE).await;
    }
    Figures(took)
}

const USERS: usize = 2000;

fn users() -> Value {
    let hash = bcrypt::hash("p", 5).expect("hashes");
    let lines: String = (0..USERS).map(|user| format!("u{user}:{hash}\n")).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "users", "namespace": "quiet", "labels": {"postern.dev/use": "htpasswd"}},
        "stringData": {"auth": lines},
    })
}

fn login() -> Value {
    json!({
        "apiVersion": "postern.dev/v1alpha1",
        "kind": "SentinelPolicy",
        "metadata": {"name": "login", "namespace": "quiet"},
        "spec": {
            "targetRefs": [{"name": "quiet-login"}],
            "rules": [{"name": "who", "basicAuth": {"secretRef": {"name": "users"}}}],
        },
    })
}

impl Measured {
    /// Each kind with its name, beside the same of another time.
    pub fn beside<'a>(&'a self, other: &'a Self) -> [(&'static str, &'a Figures, &'a Figures); 4] {
        [
            ("requests", &self.requests, &other.requests),
            ("sockets", &self.sockets, &other.sockets),
            ("logins", &self.logins, &other.logins),
            ("changes", &self.changes, &other.changes),
        ]
    }
}

impl Figures {
    pub fn p99(&self) -> Duration {
        self.of(99)
    }

    pub fn worst(&self) -> Duration {
        self.of(100)
    }

    fn of(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |percent| self.of(percent).as_secs_f64() * 1000.0;
        let (median, p99, worst) = (millis(50), millis(99), millis(100));
        write!(f, "{:>9} {median:>6.1} ms {p99:>6.1} ms {worst:>6.1} ms", self.0.len())
    }
}
