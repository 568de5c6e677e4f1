//! An ACME server that looks for its token, on both ports: answered before anything else happens to the request, and only
//! where the hostname's own namespace has the token.

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::tls::Client;
use crate::support::wire::{Wire, get};

const HOST: &str = "app.example.test";
const PATH: &str = "/.well-known/acme-challenge/token-1";

fn challenge(namespace: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": token, "namespace": namespace, "labels": {"postern.dev/use": "acme"}},
        "type": "Opaque",
        "stringData": {"hostname": HOST, "token": token, "keyAuthorization": format!("{token}.thumbprint")},
    })
}

async fn start(backend: &Backend) -> Postern {
    let site = Site::new("app", HOST).namespace("ours").to(backend.address);
    let site = site
        .with(challenge("ours", "token-1"))
        .with(challenge("theirs", "token-2"));
    Postern::start_with(&[site], &["--http", "redirect"]).await
}

#[tokio::test]
async fn known_token_is_answered_on_both_ports_and_never_redirected() {
    let backend = Backend::saying("ok").await;
    let postern = start(&backend).await;
    let answer = get(postern.http, HOST, PATH).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "token-1.thumbprint"));
    assert_eq!(answer.head.get("content-type"), Some("application/octet-stream"));
    assert!(answer.head.has("x-request-id"));
    let mut wire = Wire::connect(postern.http).await;
    wire.send(format!("HEAD {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    let answer = wire.answer_to_head().await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.get("content-length"), Some("18"));

    // The server follows redirects, and verifies no certificate then.
    let mut wire = Client::careless().connect(postern.https, HOST).await;
    wire.send(format!("GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(wire.answer().await.text(), "token-1.thumbprint");
    let http2 = Http2::connect(&Client::careless().offering(&["h2"]), postern.https, HOST).await;
    assert_eq!(http2.get(HOST, PATH).await.text(), "token-1.thumbprint");
    assert_eq!(backend.hits(), 0);
}

#[tokio::test]
async fn unknown_token_goes_the_normal_way() {
    let backend = Backend::saying("ok").await;
    let postern = start(&backend).await;
    for path in ["token-2", "token-3", "", "token-1/x"] {
        let path = format!("/.well-known/acme-challenge/{path}");
        assert_eq!(get(postern.http, HOST, &path).await.status(), 308, "{path}");
    }
    assert_eq!(get(postern.http, "other.example.test", PATH).await.status(), 404);
    postern.apply(&Site::new("app", HOST).namespace("ours").to(backend.address));
    eventually("a token that is withdrawn is unknown", async || {
        get(postern.http, HOST, PATH).await.status() == 308
    })
    .await;
}
