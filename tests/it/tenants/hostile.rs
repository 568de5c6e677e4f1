//! Ten namespaces, each with another way to make the others wait. Each is bounded in what it sends: the machine is shared with
//! those who measure.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::backend::Backend;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::narrow;
use crate::support::ws;

const LARGE: usize = 1 << 20;
const PACE: Duration = Duration::from_millis(50);

pub struct Hostile {
    /// Of the lowest priority, as if on another machine: what those who measure notice is to be Postern's.
    runtime: Runtime,
    /// Answers everything with much.
    large: Backend,
    /// Answers nothing.
    silent: Backend,
}

pub struct Attacks {
    tasks: JoinSet<()>,
    done: Vec<(&'static str, Arc<AtomicU64>)>,
    runtime: Handle,
    slower: u32,
}

impl Hostile {
    pub async fn start() -> Self {
        let niced = || rustix::process::setpriority_process(None, 19).expect("a lower priority");
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .on_thread_start(niced)
            .enable_all()
            .build()
            .expect("a runtime");
        let apps = runtime.spawn(async {
            let large = Backend::start(|mut visit| async move {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n{}",
                    "x".repeat(LARGE)
                );
                // Nobody may take it.
                let patience = Duration::from_secs(600);
                while visit.request().await.is_some() && visit.wire.sends_within(patience, answer.as_bytes()).await {}
            });
            let silent = Backend::start(|mut visit| async move {
                visit.wire.rest().await;
            });
            (large.await, silent.await)
        });
        let (large, silent) = apps.await.expect("they start");
        Self { runtime, large, silent }
    }

    pub fn sites(&self) -> Vec<Site> {
        let policed = [
            "regexes",
            "documents",
            "edits",
            "keys",
            "tokens",
            "forwards",
            "bodies",
            "guesses",
        ];
        let mut sites: Vec<_> = policed
            .iter()
            .map(|name| objects(name).into_iter().fold(self.site(name), Site::with))
            .collect();
        sites.push(self.site("readers"));
        sites.push(
            Site::new("storms", "storms.test")
                .namespace("storms")
                .to(self.silent.address),
        );
        sites
    }

    fn site(&self, name: &str) -> Site {
        Site::new(name, &format!("{name}.test"))
            .namespace(name)
            .to(self.large.address)
    }

    /// A runtime may not be dropped, which waits, inside another.
    pub fn stop(self) {
        self.runtime.shutdown_background();
    }

    /// `slower`: how many times the pauses are as long as they could be, for the sake of the tests that run beside.
    pub fn attack(&self, postern: &Postern, slower: u32) -> Attacks {
        let (http, folder) = (postern.http, postern.folder());
        let mut attacks = Attacks {
            tasks: JoinSet::new(),
            done: Vec::new(),
            runtime: self.runtime.handle().clone(),
            slower,
        };
        let long = format!("/{}", "01".repeat(2_000));
        for _ in 0..4 {
            let long = long.clone();
            attacks.repeat("a long path held against a thousand regexes", PACE, move |_| {
                let request = format!(
                    "GET {long} HTTP/1.1\r\nHost: regexes.test\r\nX: {}\r\n\r\n",
                    "a,".repeat(2_000)
                );
                ask(http, request)
            });
        }
        for _ in 0..4 {
            attacks.repeat("a body held against a heavy schema", PACE, move |_| {
                let body = format!("[{}1]", "1,".repeat(12_000));
                let head = "POST / HTTP/1.1\r\nHost: documents.test\r\nContent-Type: application/json\r\n";
                ask(http, format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
            });
        }
        let edited = folder.clone();
        attacks.repeat("an edit of policies that are slow to compile", 4 * PACE, move |nth| {
            write(&edited, "edits-edited", (0..5).map(|at| slow_policy(at, nth)).collect());
            async {}
        });
        let edited = folder.clone();
        attacks.repeat(
            "an edit of an API key that large policies take",
            10 * PACE,
            move |nth| {
                write(&edited, "keys-edited", vec![api_key(nth)]);
                async {}
            },
        );
        for _ in 0..4 {
            attacks.repeat("a forged token, with eight large keys to try", PACE, move |nth| {
                ask(
                    http,
                    format!(
                        "GET / HTTP/1.1\r\nHost: tokens.test\r\nAuthorization: Bearer {}\r\n\r\n",
                        token(nth)
                    ),
                )
            });
        }
        for _ in 0..4 {
            attacks.repeat("a request that a service of nobody is asked about", PACE, move |_| {
                ask(http, "GET / HTTP/1.1\r\nHost: forwards.test\r\n\r\n".to_owned())
            });
        }
        for _ in 0..10 {
            attacks.repeat("a body of 1 MiB that a rule waits for", PACE, move |_| drip(http));
        }
        for _ in 0..16 {
            attacks.repeat("a guess at a password with an expensive hash", PACE, move |nth| {
                let credentials = BASE64_STANDARD.encode(format!("ann:{nth}"));
                ask(
                    http,
                    format!("GET / HTTP/1.1\r\nHost: guesses.test\r\nAuthorization: Basic {credentials}\r\n\r\n"),
                )
            });
        }
        for _ in 0..50 {
            attacks.repeat("a large answer that nobody reads", PACE, move |_| stall(http));
        }
        for _ in 0..50 {
            attacks.repeat("a handshake with an app that is silent", PACE, move |_| {
                ask(http, ws::handshake("storms.test", "/", ""))
            });
        }
        attacks
    }
}

impl Attacks {
    /// Does the same again and again, and counts how often it was begun.
    fn repeat<F>(&mut self, what: &'static str, pace: Duration, attack: impl Fn(u64) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let known = self.done.iter().find(|(known, _)| *known == what);
        let count = known.map_or_else(Arc::default, |(_, count)| Arc::clone(count));
        if known.is_none() {
            self.done.push((what, Arc::clone(&count)));
        }
        let slower = self.slower;
        let repeated = async move {
            loop {
                let nth = count.fetch_add(1, Relaxed);
                attack(nth).await;
                sleep(pace * slower).await;
            }
        };
        self.tasks.spawn_on(repeated, &self.runtime);
    }

    pub async fn end(mut self) -> Vec<(&'static str, u64)> {
        self.tasks.shutdown().await;
        self.done
            .into_iter()
            .map(|(what, count)| (what, count.load(Relaxed)))
            .collect()
    }
}

/// Whatever comes of it, for five seconds at most.
async fn ask(to: SocketAddr, request: String) {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read(&mut [0; 1024]).await
    };
    let _ = timeout(Duration::from_secs(5), exchange).await;
}

async fn stall(to: SocketAddr) {
    let mut stream = narrow(to).await;
    let request = b"GET / HTTP/1.1\r\nHost: readers.test\r\n\r\n";
    if stream.write_all(request).await.is_ok() {
        sleep(Duration::from_secs(20)).await;
    }
}

/// Nearly all of a body at once, then a byte a second.
async fn drip(to: SocketAddr) {
    let head =
        "POST / HTTP/1.1\r\nHost: bodies.test\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n";
    let most = " ".repeat((1 << 20) - 1000);
    let sending = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(format!("{head}{most}").as_bytes()).await?;
        loop {
            sleep(Duration::from_secs(1)).await;
            stream.write_all(b" ").await?;
        }
    };
    let _: Result<std::io::Result<()>, _> = timeout(Duration::from_secs(20), sending).await;
}

fn write(folder: &std::path::Path, name: &str, objects: Vec<Value>) {
    let text: String = objects.iter().map(|object| format!("---\n{object}\n")).collect();
    let unfinished = folder.join(format!(".{name}.unfinished"));
    std::fs::write(&unfinished, text).expect("writes");
    std::fs::rename(unfinished, folder.join(format!("{name}.yaml"))).expect("renames");
}

/// What a namespace has besides its app.
fn objects(name: &str) -> Vec<Value> {
    match name {
        "regexes" => vec![policy(name, "guard", (0..64).map(many_matches).collect())],
        "documents" => {
            let rules = json!([{"name": "form", "openapi": {"documentRef": {"name": "doc"}}}]);
            vec![
                policy(name, "guard", rules),
                map(name, "openapi", "doc", json!({"openapi.json": document().to_string()})),
            ]
        }
        "edits" => (0..5).map(|at| slow_policy(at, 0)).collect(),
        "keys" => {
            let large = |at: usize| {
                let mut rules: Vec<Value> = (0..63).map(many_matches).collect();
                let keys = json!({"secretSelector": {"matchLabels": {"app": "keys"}}, "optional": true});
                rules.push(json!({"name": "keys", "apiKey": keys}));
                policy(name, &format!("p{at}"), rules.into())
            };
            let mut all: Vec<_> = (0..3).map(large).collect();
            all.push(api_key(0));
            all
        }
        "tokens" => {
            let jwks = json!({"secretRef": {"name": "keys"}});
            let jwt = json!({"issuer": "x", "audiences": ["x"], "jwks": jwks, "algorithms": ["RS256"]});
            let set = json!({"keys": (0..8).map(large_key).collect::<Vec<_>>()});
            vec![
                policy(name, "guard", json!([{"name": "who", "jwt": jwt}])),
                secret(name, "jwks", "keys", json!({"jwks.json": set.to_string()})),
            ]
        }
        "forwards" => {
            let rule = |nth: u32| {
                let address = std::net::Ipv4Addr::from(0x7f00_0100 + nth);
                json!({"name": format!("r{nth}"), "mode": "Shadow", "forwardAuth": {"url": format!("http://{address}:9/")}})
            };
            vec![policy(name, "guard", (0..32).map(rule).collect())]
        }
        "bodies" => {
            let rules = json!([{"name": "form", "openapi": {"documentRef": {"name": "doc"}}}]);
            vec![
                policy(name, "guard", rules),
                map(name, "openapi", "doc", json!({"openapi.json": document().to_string()})),
            ]
        }
        "guesses" => {
            let hash = bcrypt::hash("right", 14).expect("hashes");
            let rule = |nth: usize| json!({"name": format!("r{nth}"), "basicAuth": {"secretRef": {"name": "users"}}});
            vec![
                policy(name, "guard", (0..64).map(rule).collect()),
                secret(name, "htpasswd", "users", json!({"auth": format!("ann:{hash}\n")})),
            ]
        }
        _ => Vec::new(),
    }
}

/// Sixteen conditions that hold, over all of the head, and none that lets the rule apply.
fn many_matches(nth: usize) -> Value {
    let not = |at: usize| json!({"header": {"name": "X", "value": {"regex": format!("[ab,]*c{nth}x{}", at % 2)}}, "not": true});
    let mut matches: Vec<_> = (0..15).map(not).collect();
    matches.push(json!({"path": {"exact": "/nowhere"}}));
    json!({"name": format!("r{nth}"), "match": matches, "firewall": {"action": "Deny"}})
}

fn slow_policy(at: usize, version: u64) -> Value {
    let one = |nth: usize| json!({"header": {"name": "X", "value": {"regex": format!("(\\w|\\pL){{2}}{nth}-{at}-{version}")}}});
    let rule = |nth: usize| json!({"name": format!("r{nth}"), "match": [one(nth)], "firewall": {"action": "Deny"}});
    policy("edits", &format!("slow{at}"), (0..20).map(rule).collect())
}

fn api_key(version: u64) -> Value {
    let mut key = secret(
        "keys",
        "api-key",
        "key",
        json!({"key": format!("key-{version}"), "subject": "ann"}),
    );
    key["metadata"]["labels"]["app"] = "keys".into();
    key
}

/// An odd number of 8192 bits: nobody needs to know its factors to have tokens held against it.
fn large_key(nth: u8) -> Value {
    let mut number = vec![0xff; 1024];
    number[1] = nth;
    json!({"kty": "RSA", "n": BASE64_URL_SAFE_NO_PAD.encode(number), "e": "AQAB"})
}

fn token(nth: u64) -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let (head, claims) = (part(json!({"alg": "RS256"})), part(json!({"iss": "x", "nth": nth})));
    format!("{head}.{claims}.{}", BASE64_URL_SAFE_NO_PAD.encode(vec![7; 1024]))
}

fn document() -> Value {
    let patterns: Vec<_> = (0..100)
        .map(|nth| json!({"not": {"type": "string", "pattern": format!("^[01]*{nth}x$")}}))
        .collect();
    let schema = json!({"type": "array", "items": {"allOf": patterns}});
    let body = json!({"content": {"application/json": {"schema": schema}}});
    json!({
        "openapi": "3.1.0",
        "info": {"title": "heavy", "version": "1"},
        "paths": {"/": {"post": {"requestBody": body, "responses": {"200": {"description": "ok"}}}}},
    })
}

fn policy(namespace: &str, name: &str, rules: Value) -> Value {
    json!({
        "apiVersion": "postern.dev/v1alpha1",
        "kind": "SentinelPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"targetRefs": [{"name": namespace}], "rules": rules},
    })
}

fn secret(namespace: &str, purpose: &str, name: &str, data: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {"postern.dev/use": purpose}},
        "stringData": data,
    })
}

fn map(namespace: &str, purpose: &str, name: &str, data: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"postern.dev/use": purpose}},
        "data": data,
    })
}
