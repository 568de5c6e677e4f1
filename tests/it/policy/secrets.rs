//! No credential leaves: not in logs, whatever their level, not in metrics, debug pages, answers or what the verbs print.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use crate::support::backend::Backend;
use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, secret, site};
use crate::support::tokens::{Issuer, at, bearer as bearer_line};

over_each! {
    no_credential_is_to_be_found_anywhere,
}

/// What clients send, and what Secrets and other services say.
const SECRETS: [&str; 11] = [
    "key-in-a-bearer-header-1",
    "key-in-a-header-of-its-own-2",
    "key-in-the-query-3",
    "key-in-a-cookie-4",
    "key-in-a-subprotocol-5",
    "key-that-nobody-has-6",
    "password-of-bob-7",
    "key-that-the-app-expects-8",
    "token-that-the-gate-tells-the-app-9",
    "session-that-the-gate-is-shown-10",
    "private-half-of-a-key-11",
];

/// Tells the app something that is nobody else's to know.
async fn gate() -> Backend {
    Backend::start(|mut visit| async move {
        while visit.head().await.is_some() {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nX-Inside: {}\r\nContent-Length: 0\r\n\r\n",
                SECRETS[8]
            );
            visit.wire.send(answer).await;
        }
    })
    .await
}

async fn no_credential_is_to_be_found_anywhere(over: Transport) {
    let gate = gate().await;
    let issuer = Issuer::new("a");
    let mut keys = issuer.key_set();
    keys["keys"][0]["d"] = SECRETS[10].into();
    let hash = bcrypt::hash(SECRETS[6], 4).expect("a hash");
    let claims = json!({"iss": "https://issuer.example", "sub": "ann", "exp": at(600)});
    let tokens = [issuer.token(&claims), Issuer::new("a").token(&claims)];
    let from = json!([
        {"bearer": {}}, {"header": {"name": "X-Api-Key"}}, {"query": {"name": "key"}}, {"cookie": {"name": "key"}},
        {"subprotocol": {"prefix": "bearer."}},
    ]);
    let rules = json!([
        {"name": "log", "logging": {
            "requestHeaders": ["Authorization", "X-Api-Key", "Cookie", "Sec-WebSocket-Protocol"], "responseHeaders": ["Sec-WebSocket-Protocol"], "query": true,
        }},
        {"name": "keys", "match": [{"path": {"prefix": "/keys"}}], "apiKey": {"secretSelector": {}, "from": from}},
        {"name": "users", "match": [{"path": {"prefix": "/users"}}], "basicAuth": {"secretRef": {"name": "users"}}},
        {"name": "tokens", "match": [{"path": {"prefix": "/tokens"}}], "jwt": {
            "issuer": "https://issuer.example", "audiences": [], "algorithms": ["ES256"], "jwks": {"secretRef": {"name": "jwks"}},
        }},
        {"name": "gate", "match": [{"path": {"prefix": "/gate"}}], "forwardAuth": {
            "url": format!("http://{}/", gate.address), "responseHeaders": ["X-Inside"],
        }},
        {"name": "dark", "mode": "Shadow", "apiKey": {"secretSelector": {}, "from": from}},
        {"name": "set", "requestHeaders": {"set": [{"name": "X-Secret", "value": SECRETS[7]}]}},
    ]);
    let mut site = site(rules).with(secret("htpasswd", "users", json!({"auth": format!("bob:{hash}")})));
    site = site.with(secret("jwks", "jwks", json!({"jwks.json": keys.to_string()})));
    for (at, key) in SECRETS[..5].iter().enumerate() {
        site = site.with(secret("api-key", &format!("key-{at}"), json!({"key": key})));
    }
    let manifest = site.manifest();
    let signing = tempfile::NamedTempFile::new().expect("a file");
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)
        .expect("a key")
        .serialize_pem();
    std::fs::write(signing.path(), &pem).expect("writes");
    let signing = signing.path().to_str().expect("a path");
    let flags = [
        "--log",
        "trace",
        "--allow-egress",
        "127.0.0.0/8",
        "--principal-signing-key",
        signing,
    ];
    let guarded = Guarded::start_with(over, site, &flags).await;

    let [
        bearer,
        header,
        query,
        cookie,
        subprotocol,
        nobodys,
        password,
        _,
        _,
        session,
        _,
    ] = SECRETS;
    guarded
        .passes("/keys", &format!("Authorization: Bearer {bearer}\r\n"))
        .await;
    guarded.passes("/keys", &format!("X-Api-Key: {header}\r\n")).await;
    guarded.passes(&format!("/keys?a=b&key={query}"), "").await;
    guarded.passes("/keys", &format!("Cookie: a=b; key={cookie}\r\n")).await;
    guarded
        .passes(
            "/keys",
            &format!("Sec-WebSocket-Protocol: chat, bearer.{subprotocol}\r\n"),
        )
        .await;
    let mut told = String::new();
    for more in [
        format!("Authorization: Bearer {nobodys}\r\n"),
        format!("X-Api-Key: {nobodys}\r\nX-Api-Key: {bearer}\r\n"),
        format!("Cookie: key={nobodys}\r\n"),
        format!("Sec-WebSocket-Protocol: bearer.{nobodys}\r\n"),
    ] {
        for answer in guarded
            .refuses(&format!("/keys?key={nobodys}"), &more, 401, "client:invalid_key")
            .await
        {
            told.push_str(&format!("{answer:?}{}", answer.text()));
        }
    }
    let basic = |password: &str| {
        format!(
            "Authorization: Basic {}\r\n",
            BASE64_STANDARD.encode(format!("bob:{password}"))
        )
    };
    let [user, _] = guarded.passes("/users", &basic(password)).await;
    guarded.passes("/tokens", &bearer_line(&tokens[0])).await;
    for head in guarded.passes("/gate", &format!("Cookie: s={session}\r\n")).await {
        assert_eq!(head.get("x-inside"), Some(SECRETS[8]));
    }
    let signed = user.get("x-postern-principal-token").expect("a token").to_owned();
    for (target, more, code) in [
        ("/users", basic(nobodys), "client:invalid_credentials"),
        ("/tokens", bearer_line(&tokens[1]), "client:invalid_token"),
        ("/tokens", bearer_line(nobodys), "client:invalid_token"),
    ] {
        for answer in guarded.refuses(target, &more, 401, code).await {
            told.push_str(&format!("{answer:?}{}", answer.text()));
        }
    }
    let postern = &guarded.front.postern;
    for page in ["/metrics", "/debug/snapshot", "/debug/config"] {
        told.push_str(&postern.ask_admin(page).await.text());
    }
    let why = format!("/debug/why?host={HOST}&path=/keys%3Fkey%3D{query}&header=authorization:Bearer%20{nobodys}");
    told.push_str(&postern.ask_admin(&why).await.text());

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), &manifest).unwrap();
    let postern_binary = || std::process::Command::new(env!("CARGO_BIN_EXE_postern"));
    let path = folder.path().to_str().unwrap();
    for arguments in [
        &["check", path][..],
        &["why", HOST, "--manifests", path, "--bearer", bearer],
    ] {
        let output = postern_binary().args(arguments).output().unwrap();
        told.push_str(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }
    assert!(told.len() > 10_000 && told.contains("guard"), "the pages are there");
    let records = postern.records();
    assert!(!records.is_empty(), "the access log is there");
    let log = format!("{}{records:?}", postern.log().join("\n"));
    let signatures = tokens
        .iter()
        .chain([&signed])
        .filter_map(|token| token.rsplit('.').next());
    let pem = pem.lines().nth(1).expect("a key");
    for secret in SECRETS.into_iter().chain(signatures).chain([&*hash, pem]) {
        for spelling in spellings(secret) {
            assert!(
                !told.contains(&spelling),
                "{secret} as {spelling} is told: {}",
                around(&told, &spelling)
            );
            assert!(
                !log.contains(&spelling),
                "{secret} as {spelling} is logged: {}",
                around(&log, &spelling)
            );
        }
    }
}

/// As it is, and what it could be guessed or used from.
fn spellings(secret: &str) -> Vec<String> {
    let hash = digest(&SHA256, secret.as_bytes());
    vec![
        secret.to_owned(),
        BASE64_STANDARD.encode(secret),
        BASE64_URL_SAFE_NO_PAD.encode(secret),
        BASE64_STANDARD.encode(format!("bob:{secret}")),
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        BASE64_STANDARD.encode(hash.as_ref()),
    ]
}

fn around<'a>(text: &'a str, found: &str) -> &'a str {
    let at = text.find(found).unwrap_or_default();
    let (from, to) = (at.saturating_sub(400), (at + 200).min(text.len()));
    &text[text.floor_char_boundary(from)..text.floor_char_boundary(to)]
}
