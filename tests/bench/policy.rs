//! What rules cost a request: the engine with 0, 1, 10 and 50 rules of each kind, all of which apply and pass. Time on one
//! thread and allocations, of the engine alone; forwardAuth is not here, which costs what another service takes to answer.
//! Prints figures; asserts nothing but that every request passes.
//! `cargo bench --bench policy`

#![allow(
    clippy::disallowed_methods,
    clippy::exit,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, waits, and ends when something is wrong"
)]

#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../support/tokens.rs"]
mod tokens;

use std::alloc::System;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};
use postern::compile::{Input, Previous, compile};
use postern::config::Flags;
use postern::live::state::State;
use postern::matching::Head;
use postern::policy::engine::{Progress, Run};
use postern::policy::path::AmbiguousPaths;
use postern::policy::{Passed, Policy, Request, Services};
use postern::store::{Batch, Event, Store};
use postern::watch::files;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokens::{Issuer, at, config_map};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const COUNTS: [usize; 4] = [0, 1, 10, 50];
const REQUESTS: u32 = 2_000;
const ROUNDS: usize = 21;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        println!("per request, median of {ROUNDS} rounds of {REQUESTS}: nanoseconds (allocations)");
        print!("{:<34}", "rules");
        COUNTS.iter().for_each(|count| print!("{count:>16}"));
        println!();
        let issuer = Issuer::new("bench");
        let headers = headers(&issuer);
        for Kind { name, rule, ask } in kinds() {
            print!("{name:<34}");
            for count in COUNTS {
                let policies = policies(&rule, count, &issuer);
                let (time, allocations) = measure(&policies, &headers, ask).await;
                print!("{:>16}", format!("{time:.0} ({allocations:.1})"));
            }
            println!();
        }
    });
}

struct Kind {
    name: &'static str,
    rule: Value,
    ask: Ask,
}

#[derive(Clone, Copy, PartialEq)]
enum Ask {
    Get,
    /// With a body of a KiB.
    Post,
    Socket,
}

/// What an app's document says of the requests below.
const DOCUMENT: &str = r#"
openapi: 3.1.0
info: {title: Rooms, version: "1"}
paths:
  /rooms/{room}/messages:
    parameters: [{name: room, in: path, required: true, schema: {type: integer, minimum: 1}}]
    get:
      parameters:
        - {name: after, in: query, schema: {type: integer}}
        - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100}}
    post:
      requestBody:
        content:
          application/json:
            schema:
              type: object
              required: [text]
              additionalProperties: false
              properties:
                text: {type: string, maxLength: 2000}
                tags: {type: array, maxItems: 10, items: {type: string}}
"#;

fn kinds() -> Vec<Kind> {
    let of = |ask| move |(name, rule)| Kind { name, rule, ask };
    let gets = gets().into_iter().map(of(Ask::Get));
    let openapi = || json!({"openapi": {"documentRef": {"name": "rooms"}}});
    let sockets = json!({"connectionLimit": {"max": 1_000_000, "by": [{"remoteIp": {}}]}});
    gets.chain([
        of(Ask::Get)(("openapi, three parameters", openapi())),
        of(Ask::Post)(("openapi, JSON of a KiB", openapi())),
        of(Ask::Socket)(("connectionLimit by address", sockets)),
    ])
    .collect()
}

/// Rules that apply to the request below and let it pass.
fn gets() -> Vec<(&'static str, Value)> {
    let keys = json!({"secretSelector": {"matchLabels": {}}, "from": [{"header": {"name": "X-Api-Key"}}], "permissions": "read AND (write OR admin)"});
    let deny = |matching: Value| json!({"match": [matching], "firewall": {"action": "Deny"}});
    vec![
        (
            "firewall, no path of this prefix",
            deny(json!({"path": {"prefix": "/admin"}})),
        ),
        (
            "firewall, no path of this regex",
            deny(json!({"path": {"regex": "/(admin|internal)/.*"}})),
        ),
        (
            "firewall, no header of this value",
            deny(json!({"header": {"name": "User-Agent", "value": {"prefix": "curl"}}})),
        ),
        (
            "firewall, none of 8 networks",
            deny(json!({"remoteIp": (0..8).map(|i| format!("10.{i}.0.0/16")).collect::<Vec<_>>()})),
        ),
        (
            "firewall, no query of this value",
            deny(json!({"query": {"name": "debug", "value": {"exact": "on"}}})),
        ),
        (
            "origin",
            json!({"origin": {"allowed": ["https://app.example.com", "https://*.example.com"]}}),
        ),
        (
            "cors",
            json!({"cors": {"origins": ["https://page.example.com"], "exposed": ["x-a"]}}),
        ),
        ("apiKey, of 1,000", json!({"apiKey": keys})),
        (
            "jwt, seen before",
            json!({"jwt": {
                "issuer": "https://issuer.example.com", "audiences": ["app"], "algorithms": ["ES256"],
                "jwks": {"configMapRef": {"name": "keys"}}, "from": [{"header": {"name": "X-Token"}}],
            }}),
        ),
        (
            "basicAuth, seen before",
            json!({"basicAuth": {"secretRef": {"name": "users"}}}),
        ),
        (
            "rateLimit by address",
            json!({"rateLimit": {"limit": 1_000_000_000, "window": "1h", "by": [{"remoteIp": {}}]}}),
        ),
        (
            "rateLimit by address and path",
            json!({"rateLimit": {"limit": 1_000_000_000, "window": "1h", "by": [{"remoteIp": {}}, {"path": {}}]}}),
        ),
        (
            "requestHeaders",
            json!({"requestHeaders": {"set": [{"name": "X-A", "value": "b"}]}}),
        ),
        ("logging", json!({"logging": {"requestHeaders": ["User-Agent"]}})),
    ]
}

async fn measure(policies: &[Arc<Policy>], headers: &HeaderMap, ask: Ask) -> (f64, f64) {
    let (mut times, mut allocations) = (Vec::new(), 0.0);
    let body = Bytes::from(format!(r#"{{"text": "{}", "tags": ["a", "b"]}}"#, "x".repeat(1_000)));
    let authority = HeaderValue::from_static("app.example.com");
    let uri: Uri = "/rooms/42/messages?after=17&limit=50".parse().unwrap();
    let services = Services::default();
    for _ in 0..ROUNDS {
        let region = Region::new(ALLOCATOR);
        let started = Instant::now();
        for _ in 0..REQUESTS {
            let request = Request {
                method: if ask == Ask::Post { &Method::POST } else { &Method::GET },
                headers,
                authority: &authority,
                host: "app.example.com",
                uri: &uri,
                client: Some([192, 0, 2, 7].into()),
                trusted: false,
                https: true,
                web_socket: ask == Ask::Socket,
                certificate: None,
                readings: OnceLock::new(),
            };
            let mut passed = Passed::default();
            let mut run = Run::begin(policies, &request, AmbiguousPaths::Reject, &services, &mut passed)
                .await
                .unwrap();
            let mut progress = run.advance().await;
            if let Ok(Progress::WantsBody { .. }) = progress {
                run.give(Ok(body.clone()));
                progress = run.advance().await;
            }
            assert!(matches!(progress, Ok(Progress::Passed)));
        }
        times.push(started.elapsed().as_nanos() as f64 / f64::from(REQUESTS));
        allocations = region.change().allocations as f64 / f64::from(REQUESTS);
    }
    times.sort_by(f64::total_cmp);
    (times[ROUNDS / 2], allocations)
}

fn headers(issuer: &Issuer) -> HeaderMap {
    let pairs = [
        ("host", "app.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, br"),
        ("origin", "https://page.example.com"),
        ("content-type", "application/json"),
        ("authorization", "Basic YW5uOnNlc2FtZQ=="),
        ("x-api-key", "key-500"),
        ("cookie", "session=0123456789abcdef; theme=dark"),
    ];
    let pairs = pairs.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
    let mut headers: HeaderMap = pairs.into_iter().collect();
    let claims = json!({"iss": "https://issuer.example.com", "aud": "app", "sub": "ann", "exp": at(3600)});
    headers.insert("x-token", issuer.token(&claims).parse().unwrap());
    headers
}

/// The rule so many times in one policy, compiled as objects are.
fn policies(rule: &Value, count: usize, issuer: &Issuer) -> Vec<Arc<Policy>> {
    if count == 0 {
        return Vec::new();
    }
    let rules: Vec<_> = (0..count)
        .map(|at| {
            let mut rule = rule.clone();
            rule["name"] = format!("rule-{at}").into();
            rule
        })
        .collect();
    let metadata = |name: &str| json!({"name": name, "namespace": "default", "labels": {"postern.dev/use": "api-key"}});
    let mut objects = vec![
        json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Deployment", "metadata": metadata("app"),
            "spec": {"hostnames": ["app.example.com"], "service": {"name": "app", "port": 80}},
        }),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("app"), "spec": {"ports": [{"port": 80}]}}),
        json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "SentinelPolicy", "metadata": metadata("guard"),
            "spec": {"targetRefs": [{"name": "app"}], "rules": rules},
        }),
    ];
    let hash = bcrypt::hash("sesame", 4).unwrap();
    let labelled = |purpose: &str, name: &str| json!({"name": name, "namespace": "default", "labels": {"postern.dev/use": purpose}});
    objects.extend([
        config_map("keys", &issuer.key_set()),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": labelled("openapi", "rooms"),
            "data": {"openapi.yaml": DOCUMENT},
        }),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": labelled("htpasswd", "users"),
            "stringData": {"auth": format!("ann:{hash}\n")},
        }),
    ]);
    objects.extend((0..1_000).map(|at| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata(&format!("key-{at}")),
            "stringData": {"key": format!("key-{at}"), "permissions": "read write"},
        })
    }));
    let mut store = Store::default();
    let events = objects.iter().flat_map(|object| files::parse(&object.to_string()));
    store.apply(Batch {
        events: events.map(|object| Event::Apply(object.unwrap())).collect(),
        seen: Instant::now(),
    });
    let changes = store.take_changes();
    let input = Input {
        store: &store,
        changes: &changes,
        listener: &Arc::default(),
    };
    let routing = Flags::default().settings().unwrap().routing;
    let compiled = compile(&input, &routing, Previous::default());
    let state = State::default();
    let egress = Arc::default();
    compiled
        .fresh
        .policies
        .iter()
        .for_each(|policy| state.pair_rules(policy, &egress));
    let host = compiled.snapshot.hosts.find("app.example.com").unwrap();
    let head = Head {
        method: &Method::GET,
        path: "/",
        query: None,
        headers: &HeaderMap::new(),
    };
    let route = host.find(&head).unwrap();
    let policies = route.policies.as_ref().expect("the policy is in force");
    assert_eq!(policies[0].rules.len(), count);
    policies.to_vec()
}
