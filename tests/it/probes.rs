//! What the admin port says while a large change is compiled.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::eventually_within;
use crate::support::guarded::{HOST, policy};
use crate::support::postern::Postern;
use crate::support::site::Site;

/// Patterns that each take milliseconds to compile, in a document that is read as part of the compile.
fn slow_document(patterns: usize) -> Value {
    let properties = (0..patterns).map(|index| {
        let schema = json!({"type": "string", "pattern": format!("^\\p{{L}}{{1,5}}{index}$")});
        (format!("p{index}"), schema)
    });
    let properties: serde_json::Map<_, _> = properties.collect();
    let body = json!({"content": {"application/json": {"schema": {"properties": properties}}}});
    let text = json!({
        "openapi": "3.1.0",
        "info": {"title": "Slow", "version": "1"},
        "paths": {"/": {"post": {"requestBody": body}}},
    });
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "slow", "namespace": "default", "labels": {"postern.dev/use": "openapi"}},
        "data": {"openapi.json": text.to_string()},
    })
}

/// One probe and scrape after the other: if they waited for the compile, one of them would take as long as the compile does.
/// So they are held against the compile itself, which a busy machine makes longer as well.
#[tokio::test]
async fn a_long_compile_delays_neither_probes_nor_scrapes() {
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST).to(backend.address);
    let postern = Postern::start(std::slice::from_ref(&site)).await;
    let compiled = async || postern.metric("postern_compile_seconds_sum", &[]).await;
    let before = compiled().await;
    let rule = json!([{"name": "form", "openapi": {"documentRef": {"name": "slow"}}}]);
    postern.apply(&site.with(policy("guard", rule)).with(slow_document(400)));
    let longest = Cell::new(Duration::ZERO);
    eventually_within(Duration::from_secs(120), "the change is compiled", async || {
        let asked = Instant::now();
        assert_eq!(postern.probe("/livez").await, 200);
        let done = compiled().await > before;
        longest.set(longest.get().max(asked.elapsed()));
        done
    })
    .await;
    let took = Duration::from_secs_f64(compiled().await - before);
    let longest = longest.get();
    assert!(
        longest < took / 2,
        "probe and scrape took {longest:?}, the compile {took:?}"
    );
    // The document was taken, all of it: a GET is not in it.
    postern.refuses(HOST, "client:openapi_validation_failed").await;
}
