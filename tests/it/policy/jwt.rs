//! `jwt`: tokens of one issuer pass, and what only looks like one does not; keys come with the rule or from a URL.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::front::Transport;
use crate::support::guarded::{Guarded, site};
use crate::support::tokens::{self, Issuer, at, bearer, config_map};
use crate::support::{LIMIT, eventually, eventually_within};

over_each! {
    tokens_of_the_issuer_pass_and_others_do_not,
    a_token_in_a_subprotocol_opens_a_socket_and_the_app_does_not_see_it,
}

const INVALID: (u16, &str) = (401, "client:invalid_token");
const UNAVAILABLE: (u16, &str) = (503, "policy:auth_unavailable");
const LOOPBACK: [&str; 2] = ["--allow-egress", "127.0.0.0/8"];

fn rules(jwks: Value, more: Value) -> Value {
    let mut jwt = json!({
        "issuer": "https://issuer.example",
        "audiences": ["chat"],
        "algorithms": ["ES256", "RS256"],
        "jwks": jwks,
    });
    let fields = more.as_object().expect("fields");
    jwt.as_object_mut().expect("fields").extend(fields.clone());
    json!([{"name": "tokens", "jwt": jwt}])
}

fn by_config_map() -> Value {
    json!({"configMapRef": {"name": "keys"}})
}

fn claims(more: Value) -> Value {
    let mut claims = json!({"iss": "https://issuer.example", "aud": "chat", "sub": "ann", "exp": at(600)});
    claims
        .as_object_mut()
        .expect("claims")
        .extend(more.as_object().expect("claims").clone());
    claims
}

/// A server of keys: what it says can be changed, and whether it says anything at all.
struct KeyServer {
    backend: Backend,
    answer: Arc<Mutex<String>>,
}

impl KeyServer {
    async fn start(answer: String) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let said = answer.clone();
        let backend = Backend::start(move |mut visit| {
            let said = said.clone();
            async move {
                while visit.head().await.is_some() {
                    let answer = said.lock().expect("no test thread panicked").clone();
                    visit.wire.send(answer).await;
                }
            }
        });
        Self {
            backend: backend.await,
            answer,
        }
    }

    fn say(&self, answer: String) {
        *self.answer.lock().expect("no test thread panicked") = answer;
    }

    fn url(&self) -> Value {
        json!({"url": format!("http://{}/keys", self.backend.address)})
    }
}

fn ok(key_set: &Value) -> String {
    let body = key_set.to_string();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn guarded_by_url(keys: &KeyServer, flags: &[&str]) -> Guarded {
    Guarded::start_with(Transport::Plain, site(rules(keys.url(), json!({}))), flags).await
}

async fn tokens_of_the_issuer_pass_and_others_do_not(over: Transport) {
    let (issuer, other) = (Issuer::new("a"), Issuer::new("a"));
    let rules = rules(
        by_config_map(),
        json!({"permissions": "chat.read", "permissionsClaim": "scope"}),
    );
    let site = site(rules).with(config_map("keys", &issuer.key_set()));
    let guarded = Guarded::start_with(over, site, &[]).await;
    let may = |more: Value| {
        let mut claims = claims(more);
        claims["scope"] = "openid chat.read".into();
        claims
    };

    let good = issuer.token(&may(json!({})));
    for head in guarded.passes("/", &bearer(&good)).await {
        let principal: Value =
            serde_json::from_str(head.get("x-postern-principal").expect("a principal")).expect("JSON");
        assert_eq!(
            (&principal["subject"], &principal["type"]),
            (&json!("ann"), &json!("Jwt"))
        );
        assert_eq!(principal["identity"]["issuer"], "https://issuer.example");
        assert!(head.has("authorization"), "forwarded unless told otherwise");
    }
    let rsa = json!({"alg": "RS256", "kid": issuer.kid("rsa")});
    guarded.passes("/", &bearer(&issuer.sign(&rsa, &may(json!({}))))).await;

    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid});
    let (name, value) = (issuer.kid("p256"), issuer.kid("rsa"));
    for token in [
        // Another's, in the same name.
        other.token(&may(json!({}))),
        // The algorithm is not the token's to choose.
        issuer.sign(&header("HS256", &value), &may(json!({}))),
        issuer.sign(&header("none", &name), &may(json!({}))),
        issuer.sign(&header("ES256", &value), &may(json!({}))),
        // A key's name is no path and no query.
        issuer.sign(&header("ES256", "../../../dev/null"), &may(json!({}))),
        issuer.sign(&header("ES256", "x' OR '1'='1"), &may(json!({}))),
        issuer.sign(&header("ES256", &"k".repeat(5000)), &may(json!({}))),
        issuer.token(&may(json!({"exp": at(-31)}))),
        issuer.token(&may(json!({"nbf": at(60)}))),
        issuer.token(&may(json!({"iss": "https://issuer.example/"}))),
        issuer.token(&may(json!({"aud": "files"}))),
        "x.y.z".to_owned(),
        "x".repeat(9000),
    ] {
        let refused = guarded.refuses("/", &bearer(&token), INVALID.0, INVALID.1).await;
        for answer in refused {
            let challenge = answer.head.get("www-authenticate").expect("a challenge");
            assert!(challenge.contains("invalid_token"), "{challenge}");
            assert!(!answer.text().contains(&token), "a token is no answer's to say");
        }
    }
    let two = format!("{}{}", bearer(&good), bearer("x.y.z"));
    guarded.refuses("/", &two, INVALID.0, INVALID.1).await;
    guarded.refuses("/", "", 401, "client:missing_credentials").await;
    let weak = bearer(&issuer.token(&claims(json!({"scope": "openid"}))));
    guarded
        .refuses("/", &weak, 403, "client:insufficient_permissions")
        .await;
    // Within the clocks' difference.
    guarded
        .passes(
            "/",
            &bearer(&issuer.token(&may(json!({"exp": at(-10), "nbf": at(10)})))),
        )
        .await;
}

async fn a_token_in_a_subprotocol_opens_a_socket_and_the_app_does_not_see_it(over: Transport) {
    let issuer = Issuer::new("a");
    let rules = rules(
        by_config_map(),
        json!({"from": [{"subprotocol": {"prefix": "bearer."}}]}),
    );
    let site = site(rules).with(config_map("keys", &issuer.key_set()));
    let guarded = Guarded::start_with(over, site, &[]).await;
    let entry = format!("bearer.{}", issuer.token(&claims(json!({}))));
    for head in guarded
        .passes("/", &format!("Sec-WebSocket-Protocol: {entry}, chat\r\n"))
        .await
    {
        assert_eq!(head.get("sec-websocket-protocol"), Some("chat"));
    }
}

#[tokio::test]
async fn keys_by_url_are_there_before_anybody_asks_and_stay_when_the_url_does_not() {
    let issuer = Issuer::new("a");
    let keys = KeyServer::start(ok(&issuer.key_set())).await;
    let guarded = guarded_by_url(&keys, &LOOPBACK).await;
    eventually("keys are fetched", async || keys.backend.hits() == 1).await;
    keys.say("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_owned());
    for number in 0..5 {
        let token = issuer.token(&claims(json!({"jti": number})));
        guarded.passes("/", &bearer(&token)).await;
    }
    assert_eq!(keys.backend.hits(), 1, "a request fetches no keys");
    let request = keys.backend.request().await;
    assert_eq!(request.target(), "/keys");
}

#[tokio::test]
async fn until_the_url_answers_nobody_passes_and_then_everybody_with_a_token() {
    let issuer = Issuer::new("a");
    let good = bearer(&issuer.token(&claims(json!({}))));
    let long = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n{}",
        " ".repeat(2_000_000)
    );
    for broken in [
        "HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ok(&json!({"keys": []})),
        long,
    ] {
        let keys = KeyServer::start(broken).await;
        let guarded = guarded_by_url(&keys, &LOOPBACK).await;
        eventually("the URL is asked", async || keys.backend.hits() > 0).await;
        guarded.refuses("/", &good, UNAVAILABLE.0, UNAVAILABLE.1).await;
        guarded.refuses("/", "", 401, "client:missing_credentials").await;
        keys.say(ok(&issuer.key_set()));
        eventually("keys are fetched again", async || {
            guarded.get("/", &good).await.status() == 200
        })
        .await;
    }
}

#[tokio::test]
async fn a_url_leads_nowhere_that_the_operator_does_not_allow_not_even_by_a_redirect() {
    let issuer = Issuer::new("a");
    let good = bearer(&issuer.token(&claims(json!({}))));
    let keys = KeyServer::start(ok(&issuer.key_set())).await;
    let guarded = guarded_by_url(&keys, &[]).await;
    guarded.refuses("/", &good, UNAVAILABLE.0, UNAVAILABLE.1).await;
    assert_eq!(keys.backend.connections(), 0);

    let address = keys.backend.address;
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: http://{address}/keys\r\nContent-Length: 0\r\n\r\n");
    let redirecting = KeyServer::start(redirect).await;
    let guarded = guarded_by_url(&redirecting, &LOOPBACK).await;
    eventually("the URL is asked", async || redirecting.backend.hits() > 0).await;
    guarded.refuses("/", &good, UNAVAILABLE.0, UNAVAILABLE.1).await;
    assert_eq!(keys.backend.connections(), 0);
}

#[tokio::test]
async fn new_keys_are_found_by_the_first_token_that_they_sign_and_old_ones_go() {
    let (old, new) = (Issuer::new("a"), Issuer::new("b"));
    let keys = KeyServer::start(ok(&old.key_set())).await;
    let guarded = guarded_by_url(&keys, &LOOPBACK).await;
    let (by_old, by_new) = (old.token(&claims(json!({}))), new.token(&claims(json!({}))));
    guarded.passes("/", &bearer(&by_old)).await;
    guarded.refuses("/", &bearer(&by_new), INVALID.0, INVALID.1).await;
    assert_eq!(keys.backend.hits(), 1, "keys are not asked for again at once");

    keys.say(ok(&new.key_set()));
    let asked = bearer(&by_new);
    eventually_within(LIMIT, "the new key is found", async || {
        guarded.get("/", &asked).await.status() == 200
    })
    .await;
    assert_eq!(keys.backend.hits(), 2);
    guarded.passes("/", &asked).await;
    // Remembered or not: its key is gone.
    guarded.refuses("/", &bearer(&by_old), INVALID.0, INVALID.1).await;
}

#[tokio::test]
async fn a_signed_principal_is_for_this_app_and_no_client_can_forge_it() {
    let issuer = Issuer::new("a");
    let key = tempfile::NamedTempFile::new().expect("a file");
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)
        .expect("a key")
        .serialize_pem();
    std::fs::write(key.path(), pem).expect("writes");
    let site = site(rules(by_config_map(), json!({}))).with(config_map("keys", &issuer.key_set()));
    let flags = ["--principal-signing-key", key.path().to_str().expect("a path")];
    let guarded = Guarded::start_with(Transport::Plain, site, &flags).await;
    let claimed = "X-Postern-Principal-Token: forged\r\nX_Postern_Principal_Token: forged\r\n";
    let sent = format!("{claimed}{}", bearer(&issuer.token(&claims(json!({})))));
    for head in guarded.passes("/", &sent).await {
        let token = head.all("x-postern-principal-token");
        let [token] = token[..] else { panic!("{token:?}") };
        assert!(!head.has("x_postern_principal_token"));
        let told = tokens::claims(token);
        assert_eq!((&told["iss"], &told["sub"]), (&json!("postern"), &json!("ann")));
        assert_eq!(
            (head.get("x-deployment-id"), &told["aud"]),
            (Some("app"), &json!("default/app"))
        );
        let principal: Value =
            serde_json::from_str(head.get("x-postern-principal").expect("a principal")).expect("JSON");
        assert_eq!(told["principal"], principal);
    }
}
