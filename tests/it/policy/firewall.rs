//! `firewall`, and the matches that decide where any rule applies.

use http::{HeaderValue, Method};
use serde_json::{Value, json};

use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, site};
use crate::support::http2::Http2;
use crate::support::wire::ask;

over_each! {
    what_is_denied_never_reaches_the_app,
    every_kind_of_match_holds_where_it_should,
    header_spellings_and_lists_are_no_way_past,
    repeated_and_encoded_parameters_are_no_way_past,
    repeated_and_broken_cookies_are_no_way_past,
    no_spelling_of_a_method_is_a_way_past,
    no_spelling_of_the_host_is_a_way_past,
    what_lets_through_asks_every_value,
    what_denies_all_but_one_value_asks_every_value,
    what_connection_names_is_there_for_nobody,
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
    for target in ["/", "/administrator", "/x/admin", "/x?y=/admin", "/ADMIN", "/admin."] {
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
        (
            text(json!({"suffix": "Z", "ignoreCase": true})),
            ("/", "x-kind: az\r\n"),
            ("/", "X-Kind: zA\r\n"),
        ),
        (text(json!({"exact": ""})), ("/", "x-kind:\r\n"), ("/", "X-Kind: a\r\n")),
        (json!({"query": {"name": "k"}}), ("/?a&k", ""), ("/?kk=1", "")),
        (
            json!({"query": {"name": "k", "present": false}}),
            ("/?kk", ""),
            ("/?k=", ""),
        ),
        (
            json!({"query": {"name": "k", "value": {"regex": "v[0-9]"}}}),
            ("/?k=v1", ""),
            ("/?k=v12", ""),
        ),
        (
            json!({"cookie": {"name": "k", "present": false}}),
            ("/", "Cookie: K=v\r\n"),
            ("/", "Cookie: a=b; k=\r\n"),
        ),
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
    let refused = guarded.front.upgrade(HOST, "/", "").await;
    assert_eq!(refused.err().map(|answer| answer.status()), Some(403));
    assert_eq!(guarded.backend.hits(), 1);
}

async fn no_spelling_of_a_method_is_a_way_past(over: Transport) {
    let deny = |name: &str, path: &str, methods: Value| {
        let on = json!([{"path": {"prefix": path}}, methods]);
        json!({"name": name, "match": on, "firewall": {"action": "Deny"}})
    };
    let only_get = json!([{"path": {"prefix": "/allow"}}, {"method": ["GET"]}]);
    let guarded = Guarded::start(
        over,
        json!([
            deny("no", "/no", json!({"method": ["DELETE", "PUT"]})),
            deny("others", "/get", json!({"method": ["GET"], "not": true})),
            {"name": "allow", "match": only_get, "firewall": {"action": "Allow"}},
            deny("rest", "/allow", json!({"webSocket": false})),
        ]),
    )
    .await;
    let ask = async |method: &str, target: &str, more: &str| {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        guarded.front.ask(method, HOST, target, more, b"").await.status()
    };
    for method in ["DELETE", "delete", "Delete", "dELETE", "PUT", "put"] {
        assert_eq!(ask(method, "/no", "").await, DENIED.0, "{method}");
    }
    for method in ["POST", "get", "Get", "OPTIONS", "QUERY", "GETS"] {
        assert_eq!(ask(method, "/get", "").await, DENIED.0, "{method}");
    }
    for method in ["POST", "get", "Get", "OPTIONS"] {
        assert_eq!(ask(method, "/allow", "").await, DENIED.0, "{method}");
    }
    assert_eq!(guarded.backend.hits(), 0);
    for (method, target) in [("POST", "/no"), ("DELETES", "/no"), ("GET", "/get"), ("GET", "/allow")] {
        assert_eq!(ask(method, target, "").await, 200, "{method} {target}");
    }
    // An app that obeys it has to be told so by a rule on that header.
    assert_eq!(ask("POST", "/no", "X-HTTP-Method-Override: DELETE\r\n").await, 200);
}

async fn no_spelling_of_the_host_is_a_way_past(over: Transport) {
    let guarded = Guarded::start(over, deny(json!([]))).await;
    for host in [HOST, "APP.example.TEST", "app.example.test.", "app.example.test:8080"] {
        let plain = guarded.front.get(host, "/").await;
        let upgrade = guarded.front.upgrade(host, "/", "").await.err().expect("is refused");
        for answer in [plain, upgrade] {
            assert_eq!(answer.head.get("x-postern-error"), Some(DENIED.1), "{host}: {answer:?}");
        }
    }
    assert_eq!(guarded.backend.hits(), 0);
}

#[tokio::test]
async fn a_target_in_absolute_form_is_no_way_past() {
    let guarded = Guarded::start(Transport::Plain, deny(json!([{"path": {"prefix": "/admin"}}]))).await;
    let to = guarded.front.postern.http;
    for target in [
        format!("http://{HOST}/admin"),
        format!("https://{HOST}/admin?x"),
        format!("HTTP://{HOST}:80/x/../admin"),
        "http://APP.example.test./%61dmin".to_owned(),
    ] {
        for host in [HOST, "elsewhere.test"] {
            let answer = ask(to, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            let told = answer.head.get("x-postern-error");
            assert_eq!((answer.status(), told), (DENIED.0, Some(DENIED.1)), "{target}");
        }
    }
    // What follows a # no app would be sent, and no rule is asked about.
    let answer = ask(to, format!("GET /admin#/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert!(matches!(answer.status(), 400 | 403), "{answer:?}");
    assert_eq!(guarded.backend.hits(), 0);
}

/// HTTP/1.1 takes such spaces off (RFC 9110 section 5.5), HTTP/2 forbids them (RFC 9113 section 8.2.1): else a rule would see one
/// value, and the app another.
#[tokio::test]
async fn a_value_of_http2_with_spaces_around_it_is_no_way_past() {
    let rule = json!([{"header": {"name": "X-Role", "value": {"exact": "admin"}}}]);
    let guarded = Guarded::start(Transport::Plain, deny(rule)).await;
    let client = Http2::plain(guarded.front.postern.http).await;
    for value in [" admin", "admin ", "\tadmin", "admin\t", " ", "user, admin "] {
        let mut request = client.request(Method::GET, HOST, "/", "");
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert("x-role", value.clone());
        let answer = client.ask(request, b"").await;
        let told = answer.head.get("x-postern-error");
        assert_eq!((answer.status(), told), (400, Some("client:bad_request")), "{value:?}");
    }
    assert_eq!(guarded.backend.hits(), 0);
    assert_eq!(
        client.get(HOST, "/").await.status(),
        200,
        "the connection is as good as before"
    );
    for value in [" admin", "admin ", "\tadmin\t"] {
        guarded
            .refuses("/", &format!("X-Role:{value}\r\n"), DENIED.0, DENIED.1)
            .await;
    }
}

/// A match that one value of X-Env, `env` in the query and the cookie `env` has to hold for.
fn environment(place: &str, value: &str, not: bool) -> Value {
    json!([{place: {"name": "env", "value": {"exact": value}}, "not": not}])
}

/// A target and header lines.
type Asked = (&'static str, &'static str);

/// One value, and two of which an app may read either.
const VALUES: [(&str, Asked, [Asked; 2]); 3] = [
    (
        "header",
        ("/", "Env: lab\r\n"),
        [("/", "Env: lab\r\nEnv: live\r\n"), ("/", "Env: lab, live\r\n")],
    ),
    (
        "query",
        ("/?env=lab", ""),
        [("/?env=lab&env=live", ""), ("/?env=live&env=lab", "")],
    ),
    (
        "cookie",
        ("/", "Cookie: env=lab\r\n"),
        [
            ("/", "Cookie: env=lab; env=live\r\n"),
            ("/", "Cookie: env=live; env=lab\r\n"),
        ],
    ),
];

async fn what_lets_through_asks_every_value(over: Transport) {
    for (place, (target, one), twice) in VALUES {
        let rules = json!([
            {"name": "lab", "match": environment(place, "lab", false), "firewall": {"action": "Allow"}},
            {"name": "others", "firewall": {"action": "Deny"}},
        ]);
        let guarded = Guarded::start(over, rules).await;
        guarded.passes(target, one).await;
        for (target, more) in twice {
            guarded.refuses(target, more, DENIED.0, DENIED.1).await;
        }
    }
}

async fn what_denies_all_but_one_value_asks_every_value(over: Transport) {
    for (place, (target, one), twice) in VALUES {
        let guarded = Guarded::start(over, deny(environment(place, "lab", true))).await;
        guarded.passes(target, one).await;
        for (target, more) in twice {
            guarded.refuses(target, more, DENIED.0, DENIED.1).await;
        }
    }
}

async fn what_connection_names_is_there_for_nobody(over: Transport) {
    let rules = json!([
        {"name": "lab", "match": environment("header", "lab", false), "firewall": {"action": "Allow"}},
        {"name": "others", "firewall": {"action": "Deny"}},
    ]);
    let guarded = Guarded::start(over, rules).await;
    // HTTP/2 has no such field, and refuses it (RFC 9113 section 8.2.2).
    if over == Transport::Http2 {
        return;
    }
    for connection in [
        "Connection: env\r\n",
        "Connection: \u{e9}, ENV\r\n",
        "Connection: x\r\nConnection: y , env\r\n",
    ] {
        let answer = guarded.get("/", &format!("Env: lab\r\n{connection}")).await;
        assert_eq!(answer.status(), DENIED.0, "{connection}");
    }
    assert_eq!(guarded.backend.hits(), 0);
}
