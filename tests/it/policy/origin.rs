//! `origin`: pages of other sites open no socket in their visitors' name.

use serde_json::{Value, json};

use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST};

over_each! {
    only_the_listed_origins_pass,
    a_page_of_the_same_host_passes,
}

const DENIED: (u16, &str) = (403, "client:origin_denied");

fn rules(origin: Value) -> Value {
    json!([{"name": "pages", "origin": origin}])
}

fn of(origin: &str) -> String {
    format!("Origin: {origin}\r\n")
}

async fn only_the_listed_origins_pass(over: Transport) {
    let allowed = [
        "https://app.example.com",
        "https://*.example.org",
        "http://plain.test:8080",
    ];
    let guarded = Guarded::start(over, rules(json!({"allowed": allowed}))).await;
    for origin in [
        "https://app.example.com",
        "https://APP.example.com",
        "https://app.example.com:443",
        "https://a.example.org",
        "http://plain.test:8080",
    ] {
        guarded.passes("/", &of(origin)).await;
    }
    for origin in [
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.test",
        "https://evil.test/https://app.example.com",
        "https://app.example.com@evil.test",
        "https://example.org",
        "https://a.b.example.org",
        "https://aexample.org",
        "http://plain.test",
        "null",
        "*",
        "",
    ] {
        guarded.refuses("/", &of(origin), DENIED.0, DENIED.1).await;
    }
    let two = format!("{}{}", of("https://app.example.com"), of("https://evil.test"));
    guarded.refuses("/", &two, DENIED.0, DENIED.1).await;
    let list = of("https://app.example.com https://evil.test");
    guarded.refuses("/", &list, DENIED.0, DENIED.1).await;
}

async fn a_page_of_the_same_host_passes(over: Transport) {
    let guarded = Guarded::start(over, rules(json!({"allowed": ["same-host"]}))).await;
    guarded.passes("/", &of(&format!("https://{HOST}"))).await;
    for origin in [
        format!("https://x.{HOST}"),
        "https://evil.test".to_owned(),
        format!("https://{HOST}:8443"),
    ] {
        guarded.refuses("/", &of(&origin), DENIED.0, DENIED.1).await;
    }
    // A page in plaintext may be anybody's.
    let plain = of(&format!("http://{HOST}"));
    match over {
        Transport::Plain => drop(guarded.passes("/", &plain).await),
        Transport::Tls | Transport::Http2 => drop(guarded.refuses("/", &plain, DENIED.0, DENIED.1).await),
    }
}

#[tokio::test]
async fn who_sends_no_origin_passes_unless_the_rule_says_otherwise() {
    let lenient = Guarded::start(Transport::Plain, rules(json!({"allowed": ["https://a.test"]}))).await;
    lenient.passes("/", "").await;
    let strict = rules(json!({"allowed": ["https://a.test"], "allowMissing": false}));
    let strict = Guarded::start(Transport::Plain, strict).await;
    strict.refuses("/", "", DENIED.0, DENIED.1).await;
    strict.passes("/", &of("https://a.test")).await;
}
