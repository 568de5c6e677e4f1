//! `firewall`, and the matches that decide where any rule applies.

use serde_json::{Value, json};

use crate::support::front::Transport;
use crate::support::guarded::{Guarded, site};

over_each! {
    what_is_denied_never_reaches_the_app,
    every_kind_of_match_holds_where_it_should,
    header_spellings_and_lists_are_no_way_past,
    repeated_and_encoded_parameters_are_no_way_past,
    repeated_and_broken_cookies_are_no_way_past,
}

const DENIED: (u16, &str) = (403, "client:firewall_denied");

fn deny(matches: Value) -> Value {
    json!([{"name": "no", "match": matches, "firewall": {"action": "Deny"}}])
}

async fn what_is_denied_never_reaches_the_app(over: Transport) {
    let guarded = Guarded::start(over, deny(json!([{"path": {"prefix": "/admin"}}]))).await;
    for target in ["/admin", "/admin/", "/admin/x?y", "/admin?x=1"] {
        guarded.refuses(target, "", DENIED.0, DENIED.1).await;
    }
    for target in ["/", "/administrator", "/x/admin", "/x?y=/admin", "/ADMIN"] {
        guarded.passes(target, "").await;
    }
}

async fn every_kind_of_match_holds_where_it_should(over: Transport) {
    // A match, header lines and a target that it holds for, and such that it does not.
    let text = |text: Value| json!({"header": {"name": "X-Kind", "value": text}});
    let cases = [
        (json!({"path": {"exact": "/a"}}), ("/a", ""), ("/a/", "")),
        (
            json!({"path": {"exact": "/A", "ignoreCase": true}}),
            ("/a", ""),
            ("/b", ""),
        ),
        (json!({"path": {"suffix": ".php"}}), ("/x/y.php", ""), ("/y.phpx", "")),
        (
            json!({"path": {"regex": "/v[0-9]+/.*"}}),
            ("/v12/x", ""),
            ("/x/v1/y", ""),
        ),
        (json!({"path": {"prefix": "/"}}), ("/x", ""), ("", "")),
        (json!({"method": ["POST", "GET"]}), ("/", ""), ("", "")),
        (
            json!({"header": {"name": "x-kind"}}),
            ("/", "X-Kind: \r\n"),
            ("/", "X-Kin: a\r\n"),
        ),
        (
            json!({"header": {"name": "x-kind", "present": false}}),
            ("/", ""),
            ("/", "X-Kind: a\r\n"),
        ),
        (
            text(json!({"exact": "a"})),
            ("/", "x-kind: a\r\n"),
            ("/", "X-Kind: A\r\n"),
        ),
        (
            text(json!({"prefix": "a"})),
            ("/", "x-kind: ab\r\n"),
            ("/", "X-Kind: ba\r\n"),
        ),
        (
            text(json!({"regex": "a+", "ignoreCase": true})),
            ("/", "x-kind: aA\r\n"),
            ("/", "X-Kind: ab\r\n"),
        ),
        (
            json!({"query": {"name": "k", "value": {"exact": "v"}}}),
            ("/?k=v", ""),
            ("/?K=v&k=w", ""),
        ),
        (json!({"query": {"name": "k"}}), ("/?a&k", ""), ("/?kk=1", "")),
        (
            json!({"cookie": {"name": "k", "value": {"exact": "v"}}}),
            ("/", "Cookie: a=b; k=v\r\n"),
            ("/", "Cookie: kk=v\r\n"),
        ),
        (json!({"remoteIp": ["127.0.0.0/8"]}), ("/", ""), ("", "")),
        (
            json!({"remoteIp": ["10.0.0.0/8", "::/0"], "not": true}),
            ("/", ""),
            ("", ""),
        ),
        (json!({"path": {"prefix": "/a"}, "not": true}), ("/b", ""), ("/a/b", "")),
    ];
    for (matching, (target, more), (other, other_more)) in cases {
        let guarded = Guarded::start(over, deny(json!([matching]))).await;
        guarded.refuses(target, more, DENIED.0, DENIED.1).await;
        if !other.is_empty() {
            guarded.passes(other, other_more).await;
        }
    }
}

async fn header_spellings_and_lists_are_no_way_past(over: Transport) {
    let rule = json!([{"header": {"name": "X-Role", "value": {"exact": "admin"}}}]);
    let guarded = Guarded::start(over, deny(rule)).await;
    for more in [
        "X-Role: admin\r\n",
        "x-role: admin\r\n",
        "X_Role: admin\r\n",
        "X-Role: user\r\nX-Role: admin\r\n",
        "X-Role: user, admin\r\n",
        "X-Role: user,admin,\r\n",
    ] {
        guarded.refuses("/", more, DENIED.0, DENIED.1).await;
    }
    guarded.passes("/", "X-Role: administrator\r\n").await;
}

async fn repeated_and_encoded_parameters_are_no_way_past(over: Transport) {
    let rule = json!([{"query": {"name": "debug", "value": {"exact": "on"}}}]);
    let guarded = Guarded::start(over, deny(rule)).await;
    for target in [
        "/?debug=on",
        "/?debug=off&debug=on",
        "/?d%65bug=o%6e",
        "/?a=1;debug=on",
        "/?&&debug=on",
    ] {
        guarded.refuses(target, "", DENIED.0, DENIED.1).await;
    }
    let behind_many = format!("/?{}debug=on", "a&".repeat(2_000));
    guarded.refuses(&behind_many, "", DENIED.0, DENIED.1).await;
    for target in ["/?debug=off", "/?xdebug=on", "/?debug", "/?a=debug=on"] {
        guarded.passes(target, "").await;
    }
}

async fn repeated_and_broken_cookies_are_no_way_past(over: Transport) {
    let rule = json!([{"cookie": {"name": "debug"}}]);
    let guarded = Guarded::start(over, deny(rule)).await;
    let behind_many = format!("{}debug=on", "a=1; ".repeat(2_000));
    for cookies in [
        "debug=on",
        "a=1;debug=on",
        "a=1\r\nCookie: debug=",
        "debug",
        "debug=\u{e4}",
        &behind_many,
    ] {
        let more = format!("Cookie: {cookies}\r\n");
        guarded.refuses("/", &more, DENIED.0, DENIED.1).await;
    }
    guarded.passes("/", "Cookie: xdebug=on; a=debug\r\n").await;
}

#[tokio::test]
async fn who_a_client_says_it_is_counts_only_from_a_trusted_proxy() {
    let only_office = json!([{"remoteIp": ["192.0.2.0/24"], "not": true}]);
    let guarded = Guarded::start(Transport::Plain, deny(only_office.clone())).await;
    for more in [
        "X-Forwarded-For: 192.0.2.1\r\n",
        "Forwarded: for=192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n",
        "X_Forwarded_For: 192.0.2.1\r\n",
    ] {
        guarded.refuses("/", more, DENIED.0, DENIED.1).await;
    }
    let trusting = Guarded::start_with(
        Transport::Plain,
        site(deny(only_office)),
        &["--trusted-proxies", "127.0.0.0/8"],
    );
    let trusting = trusting.await;
    trusting.passes("/", "X-Forwarded-For: 192.0.2.1\r\n").await;
    trusting.passes("/", "X-Forwarded-For: ::ffff:192.0.2.1\r\n").await;
    // The rightmost that is not trusted: what stands left of it the client has written.
    let forged = "X-Forwarded-For: 192.0.2.1, 198.51.100.1\r\n";
    trusting.refuses("/", forged, DENIED.0, DENIED.1).await;
}

#[tokio::test]
async fn a_rule_can_hold_for_sockets_alone() {
    let guarded = Guarded::start(Transport::Plain, deny(json!([{"webSocket": true}]))).await;
    assert_eq!(guarded.get("/", "").await.status(), 200);
    let refused = guarded.front.upgrade(crate::support::guarded::HOST, "/", "").await;
    assert_eq!(refused.err().map(|answer| answer.status()), Some(403));
    assert_eq!(guarded.backend.hits(), 1);
}
