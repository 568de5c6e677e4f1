//! `logging`: a record of every request that the rule is for, refused ones too, and no credential in any.

use http::Method;
use serde_json::json;

use crate::support::backend::Backend;
use crate::support::front::{Front, Transport};
use crate::support::guarded::{Guarded, HOST, secret, site};

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
    let records = guarded.front.postern.recorded("/told", 6).await;
    // One of each plain request, and one of each handshake; a socket's end says nothing of its path again.
    assert_eq!(records.len(), 6);
    let first = &records[0];
    assert_eq!(first["status"], 200);
    assert_eq!(first["query"], "a=b&key=[redacted]");
    assert_eq!(
        first["requestHeaders"],
        json!({"user-agent": "ua", "cookie": "[redacted]"})
    );
    assert_eq!(first["responseHeaders"], json!({"content-length": "2"}));
    assert_eq!(first["principal"], "one");
    assert!(records.iter().any(|record| record["status"] == 101));
    let of_header = json!({"x-api-key": "[redacted]"});
    assert!(records.iter().any(|record| record["requestHeaders"] == of_header));
    let refused: Vec<_> = records.iter().filter(|record| record["status"] == 401).collect();
    assert_eq!(refused.len(), 2);
    for refused in refused {
        assert_eq!(refused["code"], "client:invalid_key");
    }
    let silent = guarded.front.postern.recorded("/silent", 2).await;
    assert!(silent.iter().all(|record| record.get("query").is_none()), "{silent:?}");
    let told = format!("{:?}{:?}", guarded.front.postern.records(), guarded.front.postern.log());
    assert!(!told.contains("sesame"), "{told}");
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
        "/asked?a=1;my+key=sesame-1",
        "/asked?my%20key=sesame-1",
        "/asked?m%79+key=sesame-1",
        "/asked?b;my+key=sesame-1;c",
    ] {
        guarded.get(target, "").await;
    }
    // Refused: what is shown is no key, and may be a part of one.
    guarded.get("/asked?my+key=sesame-1;sesame-2", "").await;
    let records = guarded.front.postern.recorded("/asked", 5).await;
    let queries: Vec<_> = records.iter().map(|record| record["query"].clone()).collect();
    let told = [
        "a=1;my+key=[redacted]",
        "my%20key=[redacted]",
        "m%79+key=[redacted]",
        "b;my+key=[redacted];c",
        "my+key=[redacted]",
    ];
    assert_eq!(queries, told);
}

#[tokio::test]
async fn no_other_header_brings_a_credential_into_the_log() {
    let rules = json!([
        {"name": "keys", "apiKey": {
            "secretSelector": {"matchLabels": {"app": "app"}}, "optional": true,
            "from": [{"query": {"name": "key"}}, {"header": {"name": "X-Api-Key"}}],
        }},
        {"name": "log", "logging": {
            "requestHeaders": ["X_Api_Key", "X_API-Key", "Referer", "X-Plain", "Proxy-Authorization"], "responseHeaders": ["Location", "Set-Cookie"],
        }},
    ]);
    let answer =
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /next?key=sesame-1&b=2\r\nSet-Cookie: c=sesame-2\r\n\r\n";
    let backend = Backend::answering(answer).await;
    let site = site(rules)
        .with(secret("api-key", "one", json!({"key": "sesame-1"})))
        .to(backend.address);
    let front = Front::start(Transport::Plain, &[site]).await;
    let more = "X_Api_Key: sesame-1\r\nReferer: https://app.test/page?a=1&key=sesame-1;key=sesame-3#key=sesame-1\r\nX-Plain: what? why?\r\n\
                Proxy-Authorization: sesame-4\r\n";
    assert_eq!(front.ask(Method::GET, HOST, "/asked", more, b"").await.status(), 302);
    let records = front.postern.recorded("/asked", 1).await;
    assert_eq!(
        records[0]["requestHeaders"],
        json!({
            "x_api_key": "[redacted]",
            "referer": "https://app.test/page?a=1&key=[redacted]#[redacted]",
            "x-plain": "what? why?",
            "proxy-authorization": "[redacted]",
        })
    );
    assert_eq!(
        records[0]["responseHeaders"],
        json!({"location": "/next?key=[redacted]&b=2", "set-cookie": "[redacted]"})
    );
}

#[tokio::test]
async fn of_a_sample_some_requests_are_told_of_and_some_are_not() {
    const ASKED: usize = 200;
    let rules = json!([{"name": "log", "logging": {"query": true, "sample": 50}}]);
    let guarded = Guarded::start(Transport::Plain, rules).await;
    for _ in 0..ASKED {
        assert_eq!(guarded.get("/asked?a=b", "").await.status(), 200);
    }
    let records = guarded.front.postern.recorded("/asked", ASKED).await;
    let told = records.iter().filter(|record| record["query"] == "a=b").count();
    assert!(
        0 < told && told < ASKED,
        "{told} of {ASKED}, of which each is as likely as not"
    );
}
