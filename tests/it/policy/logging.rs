//! `logging`: a record of every request that the rule is for, refused ones too, and no credential in any.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::front::Transport;
use crate::support::guarded::{Guarded, secret, site};

fn records(guarded: &Guarded) -> Vec<Value> {
    let lines = guarded.front.postern.log();
    let records = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter(|record| record["target"] == "postern::access").collect()
}

#[tokio::test]
async fn every_request_of_the_rule_is_told_of_without_its_credentials() {
    let rules = json!([
        {"name": "keys", "apiKey": {
            "secretSelector": {"matchLabels": {"app": "app"}},
            "from": [{"query": {"name": "key"}}, {"header": {"name": "X-Api-Key"}}, {"bearer": {}}],
        }},
        {"name": "log", "match": [{"path": {"prefix": "/told"}}], "logging": {
            "requestHeaders": ["User-Agent", "X-Api-Key", "Authorization", "Cookie"], "responseHeaders": ["Content-Length"], "query": true,
        }},
    ]);
    let site = site(rules).with(secret("api-key", "one", json!({"key": "sesame-1"})));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    guarded
        .passes("/told?a=b&key=sesame-1", "User-Agent: ua\r\nCookie: c=sesame-2\r\n")
        .await;
    guarded.passes("/told", "X-Api-Key: sesame-1\r\n").await;
    guarded.passes("/silent?key=sesame-1", "").await;
    guarded
        .refuses("/told?key=sesame-3", "", 401, "client:invalid_key")
        .await;
    eventually("six requests are told of", async || records(&guarded).len() == 6).await;
    let records = records(&guarded);
    let first = &records[0];
    assert_eq!(
        (first["status"].as_u64(), first["path"].as_str()),
        (Some(200), Some("/told"))
    );
    assert_eq!(first["query"], "a=b&key=[redacted]");
    assert!(
        first["request_headers"]
            .as_str()
            .is_some_and(|told| told.contains("\"user-agent\":\"ua\"")),
        "{first}"
    );
    assert!(
        first["response_headers"]
            .as_str()
            .is_some_and(|told| told.contains("content-length")),
        "{first}"
    );
    assert_eq!(records[1]["status"], 101);
    assert_eq!(records[4]["reason"], "client:invalid_key");
    let log = guarded.front.postern.log().join("\n");
    assert!(!log.contains("sesame"), "{log}");
}

#[tokio::test]
async fn no_spelling_of_a_parameter_brings_its_credential_into_the_log() {
    let rules = json!([
        {"name": "keys", "apiKey": {
            "secretSelector": {"matchLabels": {"app": "app"}}, "optional": true, "from": [{"query": {"name": "my key"}}],
        }},
        {"name": "log", "logging": {"query": true}},
    ]);
    let site = site(rules).with(secret("api-key", "one", json!({"key": "sesame-1"})));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    for target in [
        "/?a=1;my+key=sesame-1",
        "/?my%20key=sesame-1",
        "/?m%79+key=sesame-1",
        "/?b;my+key=sesame-1;c",
    ] {
        guarded.get(target, "").await;
    }
    // Refused: what is shown is no key, and may be a part of one.
    guarded.get("/?my+key=sesame-1;sesame-2", "").await;
    eventually("five requests are told of", async || records(&guarded).len() == 5).await;
    let queries: Vec<_> = records(&guarded).iter().map(|record| record["query"].clone()).collect();
    let told = [
        "a=1;my+key=[redacted]",
        "my%20key=[redacted]",
        "m%79+key=[redacted]",
        "b;my+key=[redacted];c",
        "my+key=[redacted]",
    ];
    assert_eq!(queries, told);
}
