//! `apiKey`: which keys pass, from which places of a request, and which never do.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, secret, site};
use crate::support::http2::Http2;
use crate::support::site::Site;
use crate::support::tls::Client;
use crate::support::wire::ask;
use crate::support::ws::{TEXT, frame, handshake};

over_each! {
    a_key_is_found_in_each_of_the_places,
    keys_that_are_missing_unknown_disabled_or_expired_are_refused,
    permissions_are_needed_as_the_rule_writes_them,
    a_place_that_holds_two_different_keys_is_refused,
    an_optional_key_may_be_missing_but_not_wrong,
}

const MISSING: (u16, &str) = (401, "client:missing_credentials");
const INVALID: (u16, &str) = (401, "client:invalid_key");
const FORBIDDEN: (u16, &str) = (403, "client:insufficient_permissions");

/// SHA-256 of "sesame-hashed", by sha256sum.
const HASHED: &str = "efd8c98c9163cd27d87a6fce89b806db0921c6dd300d704ee4463555370fa049";

fn rule(fields: Value) -> Value {
    let mut rule = json!({"secretSelector": {"matchLabels": {"app": "app"}}});
    rule.as_object_mut()
        .expect("is one")
        .extend(fields.as_object().expect("fields").clone());
    json!([{"name": "keys", "apiKey": rule}])
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

async fn subject(guarded: &Guarded, target: &str, more: &str) -> String {
    let [plain, upgrade] = guarded.passes(target, more).await;
    let told = plain.get("x-postern-principal").map(str::to_owned);
    assert_eq!(told.as_deref(), upgrade.get("x-postern-principal"));
    let told: Value = serde_json::from_str(&told.expect("a principal")).expect("JSON");
    told["subject"].as_str().expect("a subject").to_owned()
}

async fn a_key_is_found_in_each_of_the_places(over: Transport) {
    let from = json!([
        {"bearer": {}},
        {"header": {"name": "X-Api-Key"}},
        {"header": {"name": "X-Token", "prefix": "Token "}},
        {"query": {"name": "api key"}},
        {"cookie": {"name": "session"}},
        {"subprotocol": {"prefix": "bearer."}},
    ]);
    let site = site(rule(json!({"from": from})))
        .with(secret("api-key", "one", json!({"key": "sesame-1"})))
        .with(secret("api-key", "two", json!({"key": "sesame-2", "subject": "ann"})));
    let guarded = Guarded::start_with(over, site, &[]).await;
    for (target, more) in [
        ("/", "Authorization: Bearer sesame-2\r\n"),
        ("/", "Authorization: bearer   sesame-2\r\n"),
        ("/", "X-Api-Key: sesame-2\r\n"),
        ("/", "x-api-key:sesame-2 \r\n"),
        ("/", "X_Api_Key: sesame-2\r\n"),
        ("/", "X-Token: Token sesame-2\r\n"),
        ("/", "X-Token: tOKEN sesame-2\r\n"),
        ("/?a=b&api+key=sesame-2", ""),
        ("/?api%20key=%73esame-2&a", ""),
        ("/?a=1;api%20key=sesame-2", ""),
        ("/", "Cookie: a=b; session=sesame-2\r\n"),
        ("/", "Cookie: a=b\r\nCookie: session=\"sesame-2\"\r\n"),
        ("/", "Sec-WebSocket-Protocol: chat, bearer.sesame-2\r\n"),
        (
            "/",
            "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: bearer.sesame-2\r\n",
        ),
        // The same value twice is one value.
        ("/?api+key=sesame-2&api%20key=sesame-2", ""),
        ("/", "X-Api-Key: sesame-2\r\nX_Api_Key: sesame-2\r\n"),
        ("/", "Cookie: session=sesame-2; session=sesame-2\r\n"),
        // The first place that holds something counts; a place that holds nothing holds no key.
        ("/", "X-Api-Key: \r\nCookie: session=sesame-2\r\n"),
        ("/", "Authorization: Basic YTpi\r\nX-Api-Key: sesame-2\r\n"),
        ("/", "X-Token: sesame-9\r\nCookie: session=sesame-2\r\n"),
    ] {
        assert_eq!(subject(&guarded, target, more).await, "ann", "{target} {more}");
    }
    assert_eq!(subject(&guarded, "/", &bearer("sesame-1")).await, "one");
    // In its order: a wrong one in an earlier place is not made good by a later one.
    let more = bearer("sesame-9") + "X-Api-Key: sesame-2\r\n";
    guarded.refuses("/", &more, INVALID.0, INVALID.1).await;
    for (target, more) in [
        ("/?API+KEY=sesame-2", ""),
        ("/?api-key=sesame-2", ""),
        ("/", "Cookie: Session=sesame-2\r\n"),
        ("/", "Cookie: a=session=sesame-2\r\n"),
        ("/", "X-Token: sesame-2\r\n"),
        ("/", "Authorization: sesame-2\r\n"),
        ("/", "Authorization: Bearersesame-2\r\n"),
        ("/", "Authorization: Bearer\r\n"),
        ("/", "Proxy-Authorization: Bearer sesame-2\r\n"),
        ("/", "Sec-WebSocket-Protocol: sesame-2, BEARER.sesame-2\r\n"),
        ("/sesame-2?sesame-2", "X-Api-Keys: sesame-2\r\n"),
    ] {
        guarded.refuses(target, more, MISSING.0, MISSING.1).await;
    }
}

async fn keys_that_are_missing_unknown_disabled_or_expired_are_refused(over: Transport) {
    let site = site(rule(json!({})))
        .with(secret(
            "api-key",
            "good",
            json!({"key": "sesame-good", "expiresAt": "2999-01-01T00:00:00Z", "enabled": "true"}),
        ))
        .with(secret("api-key", "hashed", json!({"sha256": HASHED})))
        .with(secret(
            "api-key",
            "off",
            json!({"key": "sesame-off", "enabled": "false"}),
        ))
        .with(secret(
            "api-key",
            "over",
            json!({"key": "sesame-over", "expiresAt": "2020-01-01T00:00:00Z"}),
        ))
        .with(secret("htpasswd", "other", json!({"key": "sesame-other"})));
    let guarded = Guarded::start_with(over, site, &[]).await;
    assert_eq!(subject(&guarded, "/", &bearer("sesame-good")).await, "good");
    assert_eq!(subject(&guarded, "/", &bearer("sesame-hashed")).await, "hashed");
    for answer in guarded.refuses("/", "", MISSING.0, MISSING.1).await {
        assert_eq!(answer.head.get("www-authenticate"), Some(r#"Bearer realm="postern""#));
    }
    for key in [
        "sesame",
        "sesame-off",
        "sesame-over",
        // A Secret for another purpose.
        "sesame-other",
        "SESAME-GOOD",
        "sesame-good2",
        "sesame-goo",
        "sesame-good,sesame-good",
        // Whoever has seen the hash has no key.
        HASHED,
        "sesame%2Dgood",
        "\u{e9}",
    ] {
        for answer in guarded.refuses("/", &bearer(key), INVALID.0, INVALID.1).await {
            let challenge = answer.head.get("www-authenticate");
            assert_eq!(challenge, Some(r#"Bearer realm="postern", error="invalid_token""#));
        }
    }
}

async fn permissions_are_needed_as_the_rule_writes_them(over: Transport) {
    let site = site(rule(json!({"permissions": "chat.read AND (chat.write OR admin)"})));
    let held = [
        ("k0", "", false),
        ("k1", "chat.read", false),
        ("k2", "chat.write admin", false),
        ("k3", "chat.read,chat.write", true),
        ("k4", "admin\n chat.read", true),
        ("k5", "chat.reader chat.writer administrator", false),
        ("k6", "chat.* *", false),
        ("k7", "Chat.Read Admin", false),
        ("k8", "x y chat.write z chat.read", true),
    ];
    let site = held.iter().fold(site, |site, (name, permissions, _)| {
        site.with(secret(
            "api-key",
            name,
            json!({"key": format!("sesame-{name}"), "permissions": permissions}),
        ))
    });
    let guarded = Guarded::start_with(over, site, &[]).await;
    for (name, _, allowed) in held {
        let more = bearer(&format!("sesame-{name}"));
        if allowed {
            assert_eq!(subject(&guarded, "/", &more).await, name);
        } else {
            guarded.refuses("/", &more, FORBIDDEN.0, FORBIDDEN.1).await;
        }
    }
    guarded.refuses("/", &bearer("sesame"), INVALID.0, INVALID.1).await;
}

async fn a_place_that_holds_two_different_keys_is_refused(over: Transport) {
    let from = json!([
        {"bearer": {}}, {"header": {"name": "X-Api-Key"}}, {"query": {"name": "key"}},
        {"cookie": {"name": "key"}}, {"subprotocol": {"prefix": "bearer."}},
    ]);
    let site = site(rule(json!({"from": from}))).with(secret("api-key", "one", json!({"key": "sesame-1"})));
    let guarded = Guarded::start_with(over, site, &[]).await;
    for (target, more) in [
        (
            "/",
            "Authorization: Bearer sesame-1\r\nAuthorization: Bearer sesame-2\r\n",
        ),
        (
            "/",
            "Authorization: Bearer sesame-2\r\nAuthorization: Bearer sesame-1\r\n",
        ),
        ("/", "Authorization: Bearer sesame-1\r\nAuthorization: Basic YTpi\r\n"),
        ("/", "Authorization: Bearer sesame-1, Bearer sesame-1\r\n"),
        ("/", "Authorization: Bearer sesame-1 sesame-2\r\n"),
        ("/", "X-Api-Key: sesame-1\r\nX-Api-Key: sesame-2\r\n"),
        ("/", "X-Api-Key: sesame-1\r\nX_Api_Key: sesame-2\r\n"),
        ("/", "X-Api_Key: sesame-2\r\nX-Api-Key: sesame-1\r\n"),
        ("/", "X-Api-Key: sesame-1, sesame-1\r\n"),
        ("/", "X-Api-Key: sesame-1\r\nX-Api-Key:\r\n"),
        ("/?key=sesame-1&key=sesame-2", ""),
        ("/?key=sesame-2&%6bey=sesame-1", ""),
        ("/?key=sesame-1&key", ""),
        ("/?key=sesame-1&a=b;key=sesame-2", ""),
        ("/", "Cookie: key=sesame-1; key=sesame-2\r\n"),
        ("/", "Cookie: key=sesame-1\r\nCookie: key=sesame-2\r\n"),
        ("/", "Sec-WebSocket-Protocol: bearer.sesame-1, bearer.sesame-2\r\n"),
        (
            "/",
            "Sec-WebSocket-Protocol: bearer.sesame-1\r\nSec-WebSocket-Protocol: bearer.sesame-2\r\n",
        ),
    ] {
        guarded.refuses(target, more, INVALID.0, INVALID.1).await;
    }
}

async fn an_optional_key_may_be_missing_but_not_wrong(over: Transport) {
    let site = site(rule(json!({"optional": true, "permissions": "chat"})))
        .with(secret(
            "api-key",
            "one",
            json!({"key": "sesame-1", "permissions": "chat"}),
        ))
        .with(secret("api-key", "two", json!({"key": "sesame-2"})));
    let guarded = Guarded::start_with(over, site, &[]).await;
    for head in guarded.passes("/", "").await {
        assert!(!head.has("x-postern-principal"), "{head:?}");
    }
    assert_eq!(subject(&guarded, "/", &bearer("sesame-1")).await, "one");
    guarded
        .refuses("/", &bearer("sesame-2"), FORBIDDEN.0, FORBIDDEN.1)
        .await;
    guarded.refuses("/", &bearer("sesame-3"), INVALID.0, INVALID.1).await;
}

#[tokio::test]
async fn a_malformed_secret_costs_its_own_key_alone() {
    let malformed = [
        json!({}),
        json!({"key": ""}),
        json!({"key": "sesame-bad", "sha256": HASHED}),
        json!({"sha256": "sesame-bad"}),
        json!({"sha256": &HASHED[1..]}),
        json!({"key": "sesame\u{e9}"}),
        json!({"key": "x".repeat(8193)}),
        json!({"key": "sesame-bad", "enabled": "yes"}),
        json!({"key": "sesame-bad", "expiresAt": "tomorrow"}),
        json!({"key": "sesame-bad", "expiresAt": ""}),
        json!({"key": "sesame-bad", "permissions": "chat;admin"}),
        json!({"key": "sesame-bad", "meta": "[1]"}),
        json!({"key": "sesame-bad", "meta": "{"}),
        json!({"key": "sesame-bad", "subject": ""}),
        json!({"key": "sesame-bad", "roles": "role ".repeat(300)}),
    ];
    let site = site(rule(json!({}))).with(secret("api-key", "good", json!({"key": "sesame-good"})));
    let site = malformed.iter().enumerate().fold(site, |site, (at, data)| {
        site.with(secret("api-key", &format!("bad-{at}"), data.clone()))
    });
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    assert_eq!(subject(&guarded, "/", &bearer("sesame-good")).await, "good");
    for key in ["sesame-bad", "sesame", ""] {
        let expected = if key.is_empty() { MISSING } else { INVALID };
        guarded.refuses("/", &bearer(key), expected.0, expected.1).await;
    }
    guarded
        .refuses("/", &bearer(&"x".repeat(8193)), INVALID.0, INVALID.1)
        .await;
}

#[tokio::test]
async fn a_rule_whose_every_secret_is_unusable_lets_nobody_in() {
    let named = json!([{"name": "keys", "apiKey": {"secretRefs": [{"name": "bad"}, {"name": "absent"}]}}]);
    let bad = || secret("api-key", "bad", json!({"key": "sesame", "enabled": "maybe"}));
    for rules in [rule(json!({})), named] {
        let guarded = Guarded::start_with(Transport::Plain, site(rules).with(bad()), &[]).await;
        guarded.refuses("/", &bearer("sesame"), INVALID.0, INVALID.1).await;
        guarded.refuses("/", "", MISSING.0, MISSING.1).await;
    }
}

#[tokio::test]
async fn only_the_secrets_that_a_rule_names_or_selects_count() {
    let labelled = |name: &str, key: &str, label: &str| {
        let mut secret = secret("api-key", name, json!({"key": key}));
        secret["metadata"]["labels"]["app"] = label.into();
        secret
    };
    let mut foreign = secret("api-key", "foreign", json!({"key": "sesame-foreign"}));
    foreign["metadata"]["namespace"] = "elsewhere".into();
    let named = json!([{"name": "keys", "apiKey": {"secretRefs": [{"name": "mine"}, {"name": "foreign"}]}}]);
    for rules in [rule(json!({})), named] {
        let site = site(rules)
            .with(labelled("mine", "sesame-mine", "app"))
            .with(labelled("theirs", "sesame-theirs", "other"))
            .with(foreign.clone());
        let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
        assert_eq!(subject(&guarded, "/", &bearer("sesame-mine")).await, "mine");
        for key in ["sesame-theirs", "sesame-foreign"] {
            guarded.refuses("/", &bearer(key), INVALID.0, INVALID.1).await;
        }
    }
}

#[tokio::test]
async fn of_two_secrets_with_the_same_key_the_stricter_counts() {
    let site = site(rule(json!({})))
        .with(secret("api-key", "a-on", json!({"key": "sesame-1"})))
        .with(secret(
            "api-key",
            "b-off",
            json!({"key": "sesame-1", "enabled": "false"}),
        ))
        .with(secret("api-key", "c-on", json!({"key": "sesame-2"})))
        .with(secret(
            "api-key",
            "d-over",
            json!({"key": "sesame-2", "expiresAt": "2020-01-01T00:00:00Z"}),
        ))
        .with(secret("api-key", "e-on", json!({"key": "sesame-3"})))
        .with(secret("api-key", "f-on", json!({"key": "sesame-3"})));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    for key in ["sesame-1", "sesame-2"] {
        guarded.refuses("/", &bearer(key), INVALID.0, INVALID.1).await;
    }
    assert_eq!(subject(&guarded, "/", &bearer("sesame-3")).await, "e-on");
}

fn keyed(names: &[&str]) -> Site {
    names.iter().fold(site(rule(json!({}))), |site, name| {
        site.with(secret("api-key", name, json!({"key": format!("sesame-{name}")})))
    })
}

#[tokio::test]
async fn a_key_is_revoked_by_deleting_its_secret_and_its_open_sockets_stay() {
    let guarded = Guarded::start_with(Transport::Plain, keyed(&["one", "two"]), &[]).await;
    let postern = &guarded.front.postern;
    let (_, mut socket) = guarded
        .front
        .upgrade(HOST, "/", &bearer("sesame-one"))
        .await
        .expect("a socket");
    postern.apply(&keyed(&["two", "three"]).to(guarded.backend.address));
    let asked = async |key: &str| guarded.get("/", &bearer(key)).await.status();
    eventually("the revoked key is refused", async || asked("sesame-one").await == 401).await;
    guarded.refuses("/", &bearer("sesame-one"), INVALID.0, INVALID.1).await;
    // One edit, one step: whoever saw the one saw the other.
    assert_eq!((asked("sesame-two").await, asked("sesame-three").await), (200, 200));
    let message = frame(true, TEXT, Some([1, 2, 3, 4]), b"still here");
    socket.send(&message).await;
    assert_eq!(socket.exactly(message.len()).await, message);
}

#[tokio::test]
async fn a_key_is_refused_on_open_connections_too() {
    let guarded = Guarded::start_with(Transport::Http2, keyed(&["one"]), &[]).await;
    let client = Client::of(&guarded.front.authority).offering(&["h2"]);
    let connection = Http2::connect(&client, guarded.front.address(), HOST).await;
    let asked = async |connection: &Http2| {
        let request = connection.request(http::Method::GET, HOST, "/", &bearer("sesame-one"));
        connection.ask(request, b"").await.status()
    };
    assert_eq!(asked(&connection).await, 200);
    let leaf = guarded.front.authority.server(&[HOST]);
    let disabled = site(rule(json!({})))
        .to(guarded.backend.address)
        .with(secret(
            "api-key",
            "one",
            json!({"key": "sesame-one", "enabled": "false"}),
        ))
        .tls(&leaf);
    guarded.front.postern.apply(&disabled);
    eventually("the connection's next request is refused", async || {
        asked(&connection).await == 401
    })
    .await;
    let refused = connection.upgrade(HOST, "/", &bearer("sesame-one")).await.map(|_| ());
    assert_eq!(refused.expect_err("refused").status(), 401);
}

#[tokio::test]
async fn a_key_is_revoked_while_the_last_good_rules_stand_in_for_a_broken_edit() {
    let guarded = Guarded::start_with(Transport::Plain, keyed(&["one", "two"]), &[]).await;
    let broken = |names: &[&str]| {
        let mut rules = rule(json!({}));
        let bad = json!({"name": "bad", "match": [{"path": {"regex": "("}}], "firewall": {"action": "Deny"}});
        rules.as_array_mut().expect("a list").push(bad);
        let site = names.iter().fold(site(rules), |site, name| {
            site.with(secret("api-key", name, json!({"key": format!("sesame-{name}")})))
        });
        site.to(guarded.backend.address)
    };
    let postern = &guarded.front.postern;
    postern.apply(&broken(&["one", "two"]));
    let last_good = [("kind", "SentinelPolicy"), ("state", "last_good")];
    eventually("the last good rules stand in", async || {
        postern.metric("postern_objects", &last_good).await == 1.0
    })
    .await;
    for key in ["sesame-one", "sesame-two"] {
        guarded.passes("/", &bearer(key)).await;
    }
    postern.apply(&broken(&["two"]));
    eventually("the key is revoked", async || {
        guarded.get("/", &bearer("sesame-one")).await.status() == 401
    })
    .await;
    guarded.refuses("/", &bearer("sesame-one"), INVALID.0, INVALID.1).await;
    guarded.passes("/", &bearer("sesame-two")).await;
    assert_eq!(postern.metric("postern_objects", &last_good).await, 1.0);
}

/// The first that authenticates says who it is; each of them has to let the request pass.
#[tokio::test]
async fn of_two_rules_on_keys_both_decide_and_the_first_names_the_principal() {
    let by = |name: &str, header: &str| json!({"name": name, "apiKey": {"secretRefs": [{"name": name}], "from": [{"header": {"name": header}, "forward": false}]}});
    let site = site(json!([by("one", "X-One"), by("two", "X-Two")]))
        .with(secret("api-key", "one", json!({"key": "sesame-one"})))
        .with(secret("api-key", "two", json!({"key": "sesame-two"})));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    let both = "X-One: sesame-one\r\nX-Two: sesame-two\r\n";
    assert_eq!(subject(&guarded, "/", both).await, "one");
    for head in guarded.passes("/", both).await {
        assert!(!head.has("x-one") && !head.has("x-two"), "{head:?}");
    }
    for (more, (status, code)) in [
        ("X-One: sesame-one\r\n", MISSING),
        ("X-Two: sesame-two\r\n", MISSING),
        ("X-One: sesame-two\r\nX-Two: sesame-one\r\n", INVALID),
        ("X-One: sesame-one\r\nX-Two: sesame-one\r\n", INVALID),
    ] {
        guarded.refuses("/", more, status, code).await;
    }
}

#[tokio::test]
async fn a_key_expires_without_an_edit() {
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let site = site(rule(json!({}))).with(secret(
        "api-key",
        "soon",
        json!({"key": "sesame", "expiresAt": soon.to_string()}),
    ));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    let asked = async || guarded.get("/", &bearer("sesame")).await.status();
    // Its first answer is before its end, unless this machine has slept for seconds.
    assert_eq!(asked().await, 200);
    eventually("the key has expired", async || asked().await == 401).await;
}

#[tokio::test]
async fn keys_may_be_long_and_not_endless() {
    let longest = "k".repeat(8192);
    let site = site(rule(json!({"from": [{"bearer": {}}, {"query": {"name": "key"}}]}))).with(secret(
        "api-key",
        "long",
        json!({"key": longest}),
    ));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    assert_eq!(subject(&guarded, "/", &bearer(&longest)).await, "long");
    assert_eq!(subject(&guarded, &format!("/?key={longest}"), "").await, "long");
    let more = longest.clone() + "k";
    guarded.refuses("/", &bearer(&more), INVALID.0, INVALID.1).await;
    guarded
        .refuses(&format!("/?key={more}"), "", INVALID.0, INVALID.1)
        .await;
    // Past what a head may hold nobody looks for a key.
    let hits = guarded.backend.hits();
    let huge = bearer(&"k".repeat(70 * 1024));
    assert_eq!(guarded.get("/", &huge).await.status(), 431);
    let huge = format!("/?key={}", "k".repeat(40 * 1024));
    assert_eq!(guarded.get(&huge, "").await.status(), 414);
    assert_eq!(guarded.backend.hits(), hits);
    // Nobody hides a second key behind many other parameters.
    let many = format!("/?{}key=wrong&key={longest}", "a&".repeat(2000));
    guarded.refuses(&many, "", INVALID.0, INVALID.1).await;
}

#[tokio::test]
async fn a_line_that_is_no_text_is_no_key_and_hides_none() {
    let from = json!([{"header": {"name": "X-Api-Key"}}, {"cookie": {"name": "key"}}]);
    let site = site(rule(json!({"from": from}))).with(secret("api-key", "one", json!({"key": "sesame"})));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    for (line, status) in [
        (&b"X-Api-Key: \xff\xfe"[..], 401),
        (b"X-Api-Key: sesame\xff", 401),
        (b"Cookie: key=sesame\xff", 401),
        (b"Cookie: a=\xff; key=sesame", 200),
        (b"X-Api-Key: sesame\r\nX-Other: \xff", 200),
    ] {
        for head in [
            format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
            handshake(HOST, "/", ""),
        ] {
            let at = head.len() - 2;
            let request = [&head.as_bytes()[..at], line, &b"\r\n\r\n"[..]].concat();
            let hits = guarded.backend.hits();
            let upgrade = head.contains("Upgrade");
            let expected = if status == 200 && upgrade { 101 } else { status };
            let answer = if expected == 101 {
                let mut wire = guarded.front.wire(HOST).await;
                wire.send(&request).await;
                wire.head().await.status()
            } else {
                ask(guarded.front.address(), &request).await.status()
            };
            assert_eq!(answer, expected, "{:?}", String::from_utf8_lossy(line));
            assert_eq!(guarded.backend.hits() - hits, usize::from(status == 200));
        }
    }
}
