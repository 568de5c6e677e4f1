//! What the admin port says while a large change is compiled.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::eventually_within;
use crate::support::guarded::{HOST, policy};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{ask, get};

/// Policies with regexes that each take a long time to compile, and that deny a header that matches one of them.
fn slow_policies() -> Vec<Value> {
    let matches =
        |nth: usize| json!([{"header": {"name": "X-Slow", "value": {"regex": format!("\\p{{L}}{{1,3}}{nth}")}}}]);
    let rule = |nth: usize| json!({"name": format!("r{nth}"), "match": matches(nth), "firewall": {"action": "Deny"}});
    let rules: Vec<_> = (0..40).map(rule).collect();
    let policies = rules.chunks(5).enumerate();
    policies
        .map(|(nth, rules)| policy(&format!("slow{nth}"), json!(rules)))
        .collect()
}

/// One probe and scrape after the other: if they waited for the change, one of them would take as long as the change does. So
/// they are held against the change itself, which a busy machine makes longer as well. A change of somebody else's is served
/// before.
#[tokio::test]
async fn a_change_that_takes_long_delays_neither_probes_nor_scrapes_nor_others() {
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST).to(backend.address);
    let postern = Postern::start(std::slice::from_ref(&site)).await;
    let started = Instant::now();
    postern.apply(&slow_policies().into_iter().fold(site, Site::with));
    let other = Site::new("other", "other.example.test").namespace("other");
    postern.apply(&other.to(backend.address));
    let (longest, others) = (Cell::new(Duration::ZERO), Cell::new(None));
    eventually_within(Duration::from_secs(120), "the change is served", async || {
        let asked = Instant::now();
        assert_eq!(postern.probe("/livez").await, 200);
        postern.metric("postern_snapshot_version", &[]).await;
        longest.set(longest.get().max(asked.elapsed()));
        if others.get().is_none() && get(postern.http, "other.example.test", "/").await.status() == 200 {
            others.set(Some(started.elapsed()));
        }
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: abc39\r\n\r\n");
        let answer = ask(postern.http, request).await;
        answer.head.get("x-postern-error") == Some("client:firewall_denied")
    })
    .await;
    let (took, longest) = (started.elapsed(), longest.get());
    assert!(
        longest < took / 2,
        "probe and scrape took {longest:?}, the change {took:?}"
    );
    let others = others.get().expect("the other change is served before");
    assert!(others < took / 2, "another change took {others:?}, this one {took:?}");
}

/// Twice as many as the soft limit that the process began with.
#[tokio::test]
async fn idle_clients_take_neither_the_probes_descriptors_nor_the_apps() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start_with_soft_limit(200, &[Site::new("app", HOST).to(backend.address)]).await;
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(TcpStream::connect(postern.http).await.expect("connects"));
    }
    assert_eq!(postern.probe("/livez").await, 200);
    assert_eq!(get(postern.http, HOST, "/").await.status(), 200);
}
