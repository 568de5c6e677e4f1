//! What the app is told of who it is, and that nobody else can say so.

use std::io::Write;
use std::process::{Command, Stdio};

use http::Method;
use serde_json::{Value, json};

use crate::support::front::{Front, Transport};
use crate::support::guarded::{Guarded, HOST, backend, policy, secret, site};
use crate::support::head::Head;
use crate::support::site::Site;
use crate::support::tokens;

over_each! {
    the_app_is_told_who_it_is,
    nobody_else_can_tell_the_app_who_it_is,
}

const KEY: &str = "Authorization: Bearer sesame\r\n";

fn keyed(optional: bool) -> Site {
    let keys = json!({"secretSelector": {}, "optional": optional});
    let alice = json!({"key": "sesame", "subject": "alice", "permissions": "a b", "roles": "ops", "meta": r#"{"plan": "größer"}"#});
    site(json!([{"name": "keys", "apiKey": keys}])).with(secret("api-key", "one", alice))
}

fn principal(head: &Head) -> Value {
    let text = head.get("x-postern-principal").expect("a principal");
    assert!(text.is_ascii(), "{text}");
    serde_json::from_str(text).expect("JSON")
}

async fn the_app_is_told_who_it_is(over: Transport) {
    let guarded = Guarded::start_with(over, keyed(true), &[]).await;
    for head in guarded.passes("/", KEY).await {
        let source =
            json!({"key": {"name": "one", "meta": {"plan": "größer"}, "roles": ["ops"], "permissions": ["a", "b"]}});
        let expected = json!({"version": "v1", "subject": "alice", "type": "ApiKey", "source": source});
        assert_eq!(principal(&head), expected);
    }
    for head in guarded.passes("/", "").await {
        assert!(
            !head.has("x-postern-principal") && !head.has("x-postern-principal-token"),
            "{head:?}"
        );
    }
}

async fn nobody_else_can_tell_the_app_who_it_is(over: Transport) {
    let guarded = Guarded::start_with(over, keyed(true), &[]).await;
    let forged = "X-Postern-Principal: {\"subject\":\"root\"}\r\nx_postern_principal: {\"subject\":\"root\"}\r\n\
                  X-Postern_Principal: root\r\nX-Postern-Principal-Token: root\r\nX_POSTERN_PRINCIPAL_TOKEN: root\r\n\
                  X.Postern.Principal: root\r\nX~Postern!Principal: root\r\nX-Postern-Principal.Token: root\r\n";
    for head in guarded.passes("/", forged).await {
        assert!(postern_says(&head).is_empty(), "{head:?}");
    }
    for head in guarded.passes("/", &format!("{forged}{KEY}")).await {
        assert_eq!(principal(&head)["subject"], "alice");
        assert_eq!(postern_says(&head), ["x-postern-principal"]);
    }
}

/// In whatever spelling an app may take for it: lighttpd, for one, makes `_` of all that is neither letter nor digit.
fn postern_says(head: &Head) -> Vec<String> {
    let names = head.headers.iter().map(|(name, _)| name.to_ascii_lowercase());
    names
        .filter(|name| {
            name.replace(|char: char| !char.is_ascii_alphanumeric(), "-")
                .starts_with("x-postern")
        })
        .collect()
}

#[tokio::test]
async fn what_postern_says_cannot_be_nominated_away() {
    let guarded = Guarded::start_with(Transport::Plain, keyed(false), &[]).await;
    let more = format!("{KEY}Connection: X-Postern-Principal, close\r\n");
    let answer = guarded.get("/", &more).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(principal(&guarded.backend.request().await)["subject"], "alice");
}

#[tokio::test]
async fn the_signed_principal_is_verified_by_a_library_that_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let flags = ["--principal-signing-key", key.to_str().unwrap()];
    let guarded = Guarded::start_with(Transport::Plain, keyed(false), &flags).await;
    let [plain, upgrade] = guarded.passes("/", KEY).await;
    let keys = guarded.front.postern.ask_admin("/principal-jwks").await.json();
    for head in [plain, upgrade] {
        let token = head.get("x-postern-principal-token").expect("a token");
        let claims = verified_by_node(&keys, token);
        assert_eq!(
            (&claims["iss"], &claims["sub"], &claims["aud"]),
            (&json!("postern"), &json!("alice"), &json!("default/app"))
        );
        assert_eq!(claims["principal"], principal(&head));
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    }
}

/// Whoever may write objects in another namespace has tokens signed for any id and of any name there.
#[tokio::test]
async fn no_other_namespace_has_a_principal_signed_for_this_app() {
    let key = tempfile::NamedTempFile::new().expect("a file");
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    std::fs::write(key.path(), pem.serialize_pem()).expect("writes");
    let backend = backend().await;
    let mut forger = Site::new("forger", "forger.test")
        .namespace("elsewhere")
        .spec(json!({"deploymentId": "app"}));
    for mut object in [
        policy("guard", json!([{"name": "keys", "apiKey": {"secretSelector": {}}}])),
        secret("api-key", "one", json!({"key": "sesame", "subject": "alice"})),
    ] {
        object["metadata"]["namespace"] = "elsewhere".into();
        if object["kind"] == "SentinelPolicy" {
            object["spec"]["targetRefs"] = json!([{"name": "forger"}]);
        }
        forger = forger.with(object);
    }
    let sites = [keyed(false).to(backend.address), forger.to(backend.address)];
    let flags = ["--principal-signing-key", key.path().to_str().expect("a path")];
    let front = Front::start_with(Transport::Plain, &sites, &flags).await;
    let mut told = Vec::new();
    for host in [HOST, "forger.test"] {
        let answer = front.ask(Method::GET, host, "/", KEY, b"").await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let head = backend.heads().pop().expect("a request");
        assert_eq!(head.get("x-deployment-id"), Some("app"));
        let claims = tokens::claims(head.get("x-postern-principal-token").expect("a token"));
        assert_eq!(claims["sub"], "alice");
        told.push(claims["aud"].clone());
    }
    assert_eq!(told, ["default/app", "elsewhere/app"]);
}

/// The claims, if Node's crypto takes the signature for that of a key of the set.
fn verified_by_node(keys: &Value, token: &str) -> Value {
    const SCRIPT: &str = "
        const crypto = require('crypto');
        const {keys, token} = JSON.parse(require('fs').readFileSync(0));
        const [head, body, signature] = token.split('.');
        const decode = (text) => JSON.parse(Buffer.from(text, 'base64url'));
        const jwk = keys.keys.find((key) => key.kid === decode(head).kid);
        const key = crypto.createPublicKey({key: jwk, format: 'jwk'});
        if (!crypto.verify(null, Buffer.from(head + '.' + body), key, Buffer.from(signature, 'base64url'))) process.exit(1);
        console.log(JSON.stringify(decode(body)));
    ";
    let mut node = Command::new("node");
    node.args(["-e", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut node = node.spawn().expect("node is installed");
    let question = json!({"keys": keys, "token": token}).to_string();
    node.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success(), "the signature does not hold");
    serde_json::from_slice(&output.stdout).unwrap()
}
