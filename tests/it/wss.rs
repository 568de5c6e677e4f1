//! `new WebSocket("wss://myapp-api-acme.<apex>/ws")`: the same app below the apex's wildcard and on a customer's domain, for
//! clients that are not ours.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::apps::{App, Runtime, tls_client};
use crate::support::backend::{Backend, next};
use crate::support::certs::{Authority, Leaf};
use crate::support::front::{Front, Transport};
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::tls::Client;
use crate::support::ws::handshake;
use crate::tls::ask;

/// Assigned, under the apex's wildcard.
pub const ASSIGNED: &str = "myapp-api-acme.example.test";
/// The customer's, with a Secret of its own.
pub const CUSTOM: &str = "ws.customer.test";

/// One app on both of its domains.
pub struct Domains {
    pub postern: Postern,
    pub authority: Authority,
    apex: Leaf,
    custom: Leaf,
}

impl Domains {
    /// With more flags of `run`.
    pub async fn start(app: SocketAddr, flags: &[&str]) -> Self {
        let authority = Authority::new("authority");
        let (apex, custom) = (authority.server(&["*.example.test"]), authority.server(&[CUSTOM]));
        let site = Site::new("myapp-api", CUSTOM)
            .namespace("acme")
            .to(app)
            .spec(json!({"tls": [{"hostnames": [CUSTOM], "secretName": "customer"}]}))
            .with(custom.secret("acme", "customer"))
            .with(apex.secret("ops", "apex"));
        let apex_flags = ["--apex-domain", "example.test", "--default-tls-secret", "ops/apex"];
        let postern = Postern::start_with(&[site], &[&apex_flags[..], flags].concat()).await;
        Self {
            postern,
            authority,
            apex,
            custom,
        }
    }

    fn shown_for(&self, host: &str) -> &Leaf {
        if host == ASSIGNED { &self.apex } else { &self.custom }
    }
}

#[tokio::test]
async fn wildcard_and_custom_domain_reach_the_app_over_http1_and_http2() {
    let (backend, mut sockets) = Backend::sockets().await;
    let domains = Domains::start(backend.address, &[]).await;
    let client = Client::of(&domains.authority);
    let address = domains.postern.https;
    for host in [ASSIGNED, CUSTOM] {
        let mut http1 = client.connect(address, host).await;
        assert!(domains.shown_for(host).was_shown(&http1), "{host}");
        http1.send(handshake(host, "/ws?x=1", "")).await;
        assert_eq!(http1.head().await.status(), 101);
        let connection = Http2::connect(&client.clone().offering(&["h2"]), address, host).await;
        let (_, http2) = connection.upgrade(host, "/ws?x=1", "").await.expect("a socket");
        for mut socket in [http1, http2] {
            let mut app = next(&mut sockets).await;
            assert_eq!((app.request.target(), app.request.get("host")), ("/ws?x=1", Some(host)));
            assert_eq!(app.request.get("x-forwarded-proto"), Some("https"));
            socket.send("x").await;
            assert_eq!(app.wire.exactly(1).await, b"x");
        }
    }
}

#[tokio::test]
async fn node_and_python_talk_to_the_sample_app_through_both_domains() {
    let app = App::start(Runtime::Node, "sample.mjs").await;
    let domains = Domains::start(app.address, &[]).await;
    let address = domains.postern.https.to_string();
    for host in [ASSIGNED, CUSTOM] {
        for (runtime, script) in [(Runtime::Node, "client.mjs"), (Runtime::Python, "client.py")] {
            tls_client(runtime, script, [&address, host, "/ws", "sample"], &domains.authority).await;
        }
    }
}

#[tokio::test]
async fn node_and_python_get_every_message_unchanged_compressed() {
    for (runtime, script) in [(Runtime::Node, "echo.mjs"), (Runtime::Python, "echo.py")] {
        let app = App::start(runtime, script).await;
        let domains = Domains::start(app.address, &[]).await;
        let address = domains.postern.https.to_string();
        for (runtime, script) in [(Runtime::Node, "client.mjs"), (Runtime::Python, "client.py")] {
            tls_client(runtime, script, [&address, CUSTOM, "/", "echo"], &domains.authority).await;
        }
    }
}

#[tokio::test]
async fn clients_of_http2_and_of_http1_alone_share_a_host_and_its_port() {
    let (backend, _sockets) = Backend::sockets().await;
    let domains = Domains::start(backend.address, &["--websocket-http2", "false"]).await;
    let (client, address) = (Client::of(&domains.authority), domains.postern.https);
    let http2 = Http2::connect(&client.clone().offering(&["h2", "http/1.1"]), address, CUSTOM).await;
    assert_eq!(http2.get(CUSTOM, "/").await.status(), 200);
    assert!(!http2.offers_sockets());
    // What a browser does then: a second connection, for the socket, that offers HTTP/1.1 alone.
    let mut http1 = client.connect(address, CUSTOM).await;
    http1.send(handshake(CUSTOM, "/ws", "")).await;
    assert_eq!(http1.head().await.status(), 101);
    assert_eq!(http2.get(CUSTOM, "/").await.status(), 200);
}

#[tokio::test]
async fn upgrade_from_http2_over_tls_reaches_the_app_as_http11() {
    let (backend, _sockets) = Backend::sockets().await;
    let front = Front::start(Transport::Http2, &[Site::new("app", CUSTOM).to(backend.address)]).await;
    let client = Client::of(&front.authority).offering(&["h2"]);
    let connection = Http2::connect(&client, front.address(), CUSTOM).await;
    assert_eq!(connection.get(CUSTOM, "/").await.status(), 200);
    assert!(connection.offers_sockets());
    let (head, _socket) = connection.upgrade(CUSTOM, "/ws", "").await.expect("a socket");
    assert!(!head.has("sec-websocket-accept"), "{head:?}");
    let request = backend.heads().pop().expect("a request");
    assert_eq!(request.line, "GET /ws HTTP/1.1");
    assert_eq!(request.get("sec-websocket-version"), Some("13"));
    assert!(
        request.get("sec-websocket-key").is_some_and(|key| key.len() == 24),
        "{request:?}"
    );
    assert!(
        request
            .get("upgrade")
            .is_some_and(|token| token.eq_ignore_ascii_case("websocket"))
    );
}

#[tokio::test]
async fn unknown_host_is_404_over_tls_and_no_app_sees_it() {
    let (backend, _sockets) = Backend::sockets().await;
    let domains = Domains::start(backend.address, &[]).await;
    let address = domains.postern.https;
    for host in ["unknown.test", "other-acme.example.test", "a.b.example.test"] {
        let mut wire = Client::careless().connect(address, host).await;
        assert_eq!((host, ask(&mut wire, host).await.status()), (host, 404));
        wire.send(handshake(host, "/", "")).await;
        assert_eq!((host, wire.answer().await.status()), (host, 404));
        let client = Client::careless().offering(&["h2"]);
        let connection = Http2::connect(&client, address, host).await;
        assert_eq!((host, connection.get(host, "/").await.status()), (host, 404));
        let refused = connection
            .upgrade(host, "/", "")
            .await
            .err()
            .map(|answer| answer.status());
        assert_eq!((host, refused), (host, Some(404)));
    }
    assert_eq!(backend.connections(), 0);
}
