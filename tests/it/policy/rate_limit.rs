//! `rateLimit`: as many as the limit reach the app and not one more, plain requests and handshakes together; whom it counts;
//! and what clients are told of it.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, secret, site};
use crate::support::head::Head;
use crate::support::site::Site;
use crate::support::wire::{Answer, Wire};
use crate::support::ws::{self, handshake};

over_each! {
    the_limit_passes_and_not_one_more_of_64_clients_at_once,
    clients_are_told_where_they_stand,
    of_two_limits_the_strictest_refuses_and_is_told,
    no_header_of_a_client_makes_it_another,
    a_trusted_proxys_clients_are_counted_by_address_and_network,
    a_header_counts_apart_and_a_missing_one_falls_back_to_the_address,
    subjects_are_counted_and_not_their_keys,
    a_field_of_the_principal_counts_all_who_have_it,
    all_spellings_of_a_path_count_as_one,
    hosts_are_counted_apart_however_they_are_spelled,
    a_cost_takes_more_than_one,
    without_parts_everybody_counts_as_one,
    an_edit_of_the_limit_resets_nothing,
    a_shadow_limit_counts_apart_and_refuses_nobody,
    frames_of_an_open_socket_are_not_counted,
    what_an_earlier_rule_refuses_takes_nothing,
}

const LIMITED: (u16, &str) = (429, "client:rate_limited");
const TRUSTING: [&str; 2] = ["--trusted-proxies", "127.0.0.0/8"];

/// One rule whose first window outlasts the test.
fn few(limit: u32, by: Value) -> Value {
    json!([rule("few", limit, by)])
}

fn rule(name: &str, limit: u32, by: Value) -> Value {
    json!({"name": name, "rateLimit": {"limit": limit, "window": "1h", "by": by}})
}

/// Two requests pass, and then none: a limit of two is this key's own.
async fn has_two(guarded: &Guarded, target: &str, more: &str) {
    guarded.passes(target, more).await;
    has_none(guarded, target, more).await;
}

async fn has_none(guarded: &Guarded, target: &str, more: &str) {
    guarded.refuses(target, more, LIMITED.0, LIMITED.1).await;
}

async fn the_limit_passes_and_not_one_more_of_64_clients_at_once(over: Transport) {
    let guarded = Guarded::start(over, few(21, json!([{"remoteIp": {}}]))).await;
    let plain = join_all((0..32).map(|_| guarded.get("/", "")));
    let upgrades = join_all((0..32).map(|_| guarded.front.upgrade(HOST, "/", "")));
    let (plain, upgrades) = tokio::join!(plain, upgrades);
    let (answered, mut refused): (Vec<Answer>, Vec<Answer>) = plain.into_iter().partition(|it| it.status() == 200);
    let mut open = Vec::new();
    for upgrade in upgrades {
        match upgrade {
            Ok(socket) => open.push(socket),
            Err(answer) => refused.push(answer),
        }
    }
    assert_eq!(answered.len() + open.len(), 21);
    assert_eq!(guarded.backend.hits(), 21);
    for answer in refused {
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.head.get("x-postern-error"), Some(LIMITED.1));
    }
    has_none(&guarded, "/", "").await;
}

async fn clients_are_told_where_they_stand(over: Transport) {
    let limit = json!({"limit": 3, "window": "1m", "by": [{"remoteIp": {}}]});
    let guarded = Guarded::start(over, json!([{"name": "few", "rateLimit": limit}])).await;
    let plain = guarded.get("/", "").await;
    assert_eq!(plain.status(), 200);
    stands(&plain.head, 2, 1..=60);
    let (opened, _socket) = guarded.front.upgrade(HOST, "/", "").await.expect("opens");
    stands(&opened, 1, 1..=60);
    let last = guarded.get("/", "").await;
    stands(&last.head, 0, 1..=60);
    for head in [&plain.head, &opened, &last.head] {
        assert!(!head.has("retry-after"));
    }
    for answer in guarded.refuses("/", "", LIMITED.0, LIMITED.1).await {
        // A third of a full window has to fade after what is left of it.
        stands(&answer.head, 0, 61..=80);
        let left = answer.head.get("ratelimit").and_then(|it| it.rsplit("t=").next());
        assert_eq!(answer.head.get("retry-after"), left);
    }
}

/// Of a limit of three in a minute.
fn stands(head: &Head, remaining: u32, reset: std::ops::RangeInclusive<u64>) {
    let number = |name: &str| -> u64 { head.get(name).expect(name).parse().expect("a number") };
    assert_eq!(number("x-ratelimit-limit"), 3);
    assert_eq!(number("x-ratelimit-remaining"), u64::from(remaining));
    assert_eq!(head.get("ratelimit-policy"), Some("\"few\";q=3;w=60"));
    let standing = head.get("ratelimit").expect("a standing");
    let left = standing.strip_prefix(&format!("\"few\";r={remaining};t="));
    let left: u64 = left.expect(standing).parse().expect("seconds");
    assert!(reset.contains(&left), "{left}");
    // The answer may have been on its way while a second ended.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let at = number("x-ratelimit-reset");
    assert!(
        (now - 20 + left..=now + left).contains(&at),
        "{at} is not {left} after {now}"
    );
}

async fn of_two_limits_the_strictest_refuses_and_is_told(over: Transport) {
    for order in [["wide", "narrow"], ["narrow", "wide"]] {
        let limits = order.map(|name| rule(name, if name == "wide" { 100 } else { 2 }, json!([])));
        let guarded = Guarded::start(over, json!(limits)).await;
        let told = |answer: &Answer| {
            let told = ["ratelimit", "ratelimit-policy", "x-ratelimit-limit"];
            let told = told.map(|name| answer.head.get(name).unwrap_or_default().to_owned());
            assert!(told[0].starts_with("\"narrow\";r="), "{told:?}");
            assert_eq!(told[1..], ["\"narrow\";q=2;w=3600".to_owned(), "2".to_owned()]);
        };
        told(&guarded.get("/", "").await);
        told(&guarded.get("/", "").await);
        for answer in guarded.refuses("/", "", LIMITED.0, LIMITED.1).await {
            told(&answer);
        }
    }
}

async fn no_header_of_a_client_makes_it_another(over: Transport) {
    let guarded = Guarded::start(over, few(2, json!([{"remoteIp": {}}]))).await;
    guarded.passes("/", "").await;
    for more in [
        "X-Forwarded-For: 203.0.113.1\r\n",
        "X-Forwarded-For: 203.0.113.2, 127.0.0.1\r\n",
        "X_Forwarded_For: 203.0.113.3\r\n",
        "Forwarded: for=203.0.113.4\r\n",
        "X-Real-IP: 203.0.113.5\r\nCF-Connecting-IP: 203.0.113.5\r\nTrue-Client-IP: 203.0.113.5\r\n",
    ] {
        has_none(&guarded, "/", more).await;
    }
}

async fn a_trusted_proxys_clients_are_counted_by_address_and_network(over: Transport) {
    let guarded = Guarded::start_with(over, site(few(2, json!([{"remoteIp": {}}]))), &TRUSTING).await;
    let from = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    has_two(&guarded, "/", &from("203.0.113.9")).await;
    for same in [
        "::ffff:203.0.113.9",
        "[::ffff:cb00:7109]:4711",
        "198.51.100.1, 203.0.113.9",
    ] {
        has_none(&guarded, "/", &from(same)).await;
    }
    has_two(&guarded, "/", &from("203.0.113.10")).await;
    has_two(&guarded, "/", &from("2001:db8:0:1::1")).await;
    for same in [
        "2001:db8:0:1::2",
        "2001:db8:0:1:ffff:ffff:ffff:ffff",
        "[2001:db8:0:1::3]:9",
    ] {
        has_none(&guarded, "/", &from(same)).await;
    }
    has_two(&guarded, "/", &from("2001:db8:0:2::1")).await;

    let subscriber = json!([{"remoteIp": {"ipv6PrefixLength": 48}}]);
    let guarded = Guarded::start_with(over, site(few(2, subscriber)), &TRUSTING).await;
    has_two(&guarded, "/", &from("2001:db8:0:1::1")).await;
    has_none(&guarded, "/", &from("2001:db8:0:ffff::1")).await;
    has_two(&guarded, "/", &from("2001:db8:1:1::1")).await;
}

#[tokio::test]
async fn clients_that_a_balancer_names_by_proxy_protocol_are_counted_by_address_and_network() {
    let flags = [&TRUSTING[..], &["--proxy-protocol", "true"]].concat();
    let limit = site(few(2, json!([{"remoteIp": {}}])));
    let guarded = Guarded::start_with(Transport::Plain, limit, &flags).await;
    // A plain request and a handshake: their statuses.
    let ask = async |family: &str, client: &str, to: &str| {
        let mut statuses = Vec::new();
        let plain = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 198.51.100.77\r\n\r\n");
        for request in [plain, handshake(HOST, "/", "")] {
            let mut wire = Wire::connect(guarded.front.postern.http).await;
            wire.send(format!("PROXY {family} {client} {to} 50000 80\r\n{request}"))
                .await;
            statuses.push(wire.head().await.status());
        }
        statuses
    };
    let four = async |client: &str| ask("TCP4", client, "198.51.100.1").await;
    let six = async |client: &str| ask("TCP6", client, "2001:db8::1").await;
    assert_eq!(four("203.0.113.9").await, [200, 101]);
    assert_eq!(four("203.0.113.9").await, [429, 429]);
    assert_eq!(six("::ffff:203.0.113.9").await, [429, 429]);
    assert_eq!(four("203.0.113.10").await, [200, 101]);
    assert_eq!(six("2001:db8:0:1::1").await, [200, 101]);
    assert_eq!(six("2001:db8:0:1:8000::2").await, [429, 429]);
    assert_eq!(six("2001:db8:0:2::1").await, [200, 101]);
    assert_eq!(guarded.backend.hits(), 8);
}

async fn a_header_counts_apart_and_a_missing_one_falls_back_to_the_address(over: Transport) {
    let limit = site(few(2, json!([{"header": {"name": "X-Tenant"}}])));
    let guarded = Guarded::start_with(over, limit, &TRUSTING).await;
    has_two(&guarded, "/", "X-Tenant: a\r\n").await;
    has_none(&guarded, "/", "x-tenant:  a\r\nX-Forwarded-For: 203.0.113.1\r\n").await;
    has_two(&guarded, "/", "X-Tenant: b\r\n").await;
    has_two(&guarded, "/", "").await;
    for missing in ["X-Tenant:\r\n", "X-Tenants: c\r\n"] {
        has_none(&guarded, "/", missing).await;
    }
    has_two(&guarded, "/", "X-Forwarded-For: 203.0.113.1\r\n").await;
    // An address as a header is no address.
    has_two(&guarded, "/", "X-Tenant: 127.0.0.1\r\n").await;
}

/// Who shows a key is counted by this part.
async fn counting_keys(over: Transport, part: Value) -> Guarded {
    let who = json!({"secretSelector": {"matchLabels": {"app": "app"}}, "from": [{"header": {"name": "X-Key"}}], "optional": true});
    let site = site(json!([{"name": "who", "apiKey": who}, rule("few", 2, json!([part]))]))
        .with(secret(
            "api-key",
            "one",
            json!({"key": "k1", "subject": "ann", "meta": r#"{"plan": "free"}"#}),
        ))
        .with(secret(
            "api-key",
            "two",
            json!({"key": "k2", "subject": "ann", "meta": r#"{"plan": "paid"}"#}),
        ))
        .with(secret(
            "api-key",
            "three",
            json!({"key": "k3", "subject": "bob", "meta": r#"{"plan": "free"}"#}),
        ))
        .with(secret("api-key", "four", json!({"key": "k4", "subject": "cid"})));
    Guarded::start_with(over, site, &TRUSTING).await
}

async fn subjects_are_counted_and_not_their_keys(over: Transport) {
    let guarded = counting_keys(over, json!({"authenticatedSubject": {}})).await;
    has_two(&guarded, "/", "X-Key: k1\r\n").await;
    has_none(&guarded, "/", "X-Key: k2\r\nX-Forwarded-For: 203.0.113.1\r\n").await;
    has_two(&guarded, "/", "X-Key: k3\r\n").await;
    // Who shows none is its address.
    has_two(&guarded, "/", "").await;
    has_two(&guarded, "/", "X-Forwarded-For: 203.0.113.1\r\n").await;
    // Who shows a wrong one is told so, and takes nothing.
    let forged = "X-Key: k9\r\nX-Forwarded-For: 203.0.113.2\r\n";
    guarded.refuses("/", forged, 401, "client:invalid_key").await;
    has_two(&guarded, "/", "X-Forwarded-For: 203.0.113.2\r\n").await;
}

async fn a_field_of_the_principal_counts_all_who_have_it(over: Transport) {
    let guarded = counting_keys(over, json!({"principalField": {"name": "source.key.meta.plan"}})).await;
    has_two(&guarded, "/", "X-Key: k1\r\n").await;
    has_none(&guarded, "/", "X-Key: k3\r\nX-Forwarded-For: 203.0.113.1\r\n").await;
    has_two(&guarded, "/", "X-Key: k2\r\n").await;
    // Without the field it is its address, as is nobody in particular.
    has_two(&guarded, "/", "X-Key: k4\r\n").await;
    has_none(&guarded, "/", "").await;
}

async fn all_spellings_of_a_path_count_as_one(over: Transport) {
    let rules = few(2, json!([{"path": {}}]));
    let guarded = Guarded::start(over, rules.clone()).await;
    has_two(&guarded, "/a/b", "").await;
    for same in [
        "/a/b?x=1",
        "/a/b?",
        "/%61/b",
        "/a/%62",
        "/a/./b",
        "/x/../a/b",
        "/a;x=1/b",
        "/a/b;x=1?y",
    ] {
        has_none(&guarded, same, "").await;
    }
    for other in ["/a", "/a/b/", "/a/B", "/a/b/c"] {
        has_two(&guarded, other, "").await;
    }
    guarded.refuses("/a//b", "", 400, "client:ambiguous_path").await;

    let lenient = site(rules).spec(json!({"ambiguousPaths": "Pass"}));
    let guarded = Guarded::start_with(over, lenient, &[]).await;
    has_two(&guarded, "/a/b", "").await;
    for same in ["/a//b", "//a/b", "/a%2Fb", "/a/%2e/b", "/a/x%2F../b", "/a%5Cb"] {
        has_none(&guarded, same, "").await;
    }
}

async fn hosts_are_counted_apart_however_they_are_spelled(over: Transport) {
    const OTHER: &str = "other.example.test";
    let site = site(few(2, json!([{"host": {}}]))).spec(json!({"hostnames": [HOST, OTHER]}));
    let guarded = Guarded::start_with(over, site, &[]).await;
    let statuses = async |host: &str| {
        let opened = guarded.front.upgrade(host, "/", "").await;
        [
            guarded.front.get(host, "/").await.status(),
            opened.map_or_else(|refused| refused.status(), |_| 200),
        ]
    };
    assert_eq!(statuses(HOST).await, [200, 200]);
    for same in [HOST, "APP.example.TEST", "app.example.test.", "app.example.test:8080"] {
        assert_eq!(statuses(same).await, [429, 429], "{same}");
    }
    assert_eq!(statuses(OTHER).await, [200, 200]);
    assert_eq!(statuses(OTHER).await, [429, 429]);
    assert_eq!(guarded.backend.hits(), 4);
}

async fn a_cost_takes_more_than_one(over: Transport) {
    let limit = json!({"limit": 10, "window": "1h", "cost": 4});
    let guarded = Guarded::start(over, json!([{"name": "few", "rateLimit": limit}])).await;
    has_two(&guarded, "/", "").await;
    let refused = guarded.get("/", "").await;
    assert_eq!(refused.head.get("x-ratelimit-remaining"), Some("2"));
}

async fn without_parts_everybody_counts_as_one(over: Transport) {
    let guarded = Guarded::start_with(over, site(few(2, json!([]))), &TRUSTING).await;
    has_two(&guarded, "/", "").await;
    has_none(&guarded, "/x?y", "X-Forwarded-For: 203.0.113.1\r\nX-Tenant: a\r\n").await;
}

/// Which counts under /counted alone.
fn counted(limit: u32, mode: &str) -> Value {
    let path = json!([{"path": {"prefix": "/counted"}}]);
    let limit = json!({"limit": limit, "window": "1h", "by": [{"remoteIp": {}}]});
    json!([{"name": "few", "mode": mode, "match": path, "rateLimit": limit}])
}

async fn an_edit_of_the_limit_resets_nothing(over: Transport) {
    let guarded = Guarded::start_with(over, Site::new("app", HOST), &[]).await;
    guarded.edit("one", counted(4, "Enforce")).await;
    guarded.passes("/counted", "").await;
    guarded.edit("higher", counted(6, "Enforce")).await;
    guarded.passes("/counted", "").await;
    guarded.edit("lower", counted(3, "Enforce")).await;
    has_none(&guarded, "/counted", "").await;
    guarded.edit("as before", counted(6, "Enforce")).await;
    has_two(&guarded, "/counted", "").await;
}

async fn a_shadow_limit_counts_apart_and_refuses_nobody(over: Transport) {
    let guarded = Guarded::start_with(over, Site::new("app", HOST), &[]).await;
    guarded.edit("one", counted(4, "Enforce")).await;
    guarded.passes("/counted", "").await;
    guarded.edit("two", counted(4, "Shadow")).await;
    for _ in 0..3 {
        guarded.passes("/counted", "").await;
    }
    assert!(!guarded.get("/counted", "").await.head.has("ratelimit"));
    assert_eq!(guarded.decisions("few", "shadow", "passed").await, 4.0);
    assert_eq!(guarded.decisions("few", "shadow", "refused").await, 3.0);
    guarded.edit("three", counted(4, "Enforce")).await;
    has_two(&guarded, "/counted", "").await;
}

async fn frames_of_an_open_socket_are_not_counted(over: Transport) {
    let guarded = Guarded::start(over, few(1, json!([{"remoteIp": {}}]))).await;
    let mut socket = guarded.front.open(HOST, "/").await;
    for nth in 0..100_u8 {
        let frame = ws::frame(true, ws::BINARY, Some([1, 2, 3, 4]), &[nth; 10]);
        socket.send(&frame).await;
        assert_eq!(socket.exactly(frame.len()).await, frame);
    }
    has_none(&guarded, "/", "").await;
    socket.send("still open").await;
    assert_eq!(socket.exactly(10).await, b"still open");
}

async fn what_an_earlier_rule_refuses_takes_nothing(over: Transport) {
    let deny = json!({"name": "no", "match": [{"path": {"prefix": "/no"}}], "firewall": {"action": "Deny"}});
    let guarded = Guarded::start(over, json!([deny, rule("few", 2, json!([]))])).await;
    for _ in 0..3 {
        guarded.refuses("/no", "", 403, "client:firewall_denied").await;
    }
    has_two(&guarded, "/", "").await;
}
