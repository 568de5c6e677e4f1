//! Apps that speak TLS: whom Postern trusts, by which name, as whom it shows itself, and that no request or socket takes a
//! connection whose handshake it would not have made. The apps are Node's and Python's.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::apps::{App, Runtime};
use crate::support::backend::Backend;
use crate::support::certs::{Authority, Leaf};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{Answer, End, Wire, ask, get};
use crate::support::ws::{self, frame, handshake};
use crate::support::{noise, within};

const HOST: &str = "app.example.test";
/// What an app is called where its Deployment says nothing.
const NAME: &str = "app.default.svc";
const MIB: usize = 1024 * 1024;

/// Met by that authority; `more` fields of upstreamTls.
fn site(authority: &Authority, more: Value) -> Site {
    named("app", HOST, authority, more)
}

fn named(name: &str, host: &str, authority: &Authority, more: Value) -> Site {
    let mut tls = json!({"caRef": {"kind": "ConfigMap", "name": "ca"}});
    let fields = tls.as_object_mut().expect("is one");
    fields.extend(more.as_object().expect("fields").clone());
    Site::new(name, host)
        .app_protocol("https")
        .spec(json!({"upstreamTls": tls}))
        .with(authority.config_map("default", "ca"))
}

async fn app(leaf: &Leaf) -> App {
    app_with(leaf, &[]).await
}

async fn app_with(leaf: &Leaf, more: &[(&'static str, &str)]) -> App {
    let pair = [("CERT", leaf.certificate.as_str()), ("KEY", leaf.key.as_str())];
    App::start_with(Runtime::Node, "tls.mjs", &[&pair, more].concat()).await
}

/// An app with a good certificate, and Postern before it.
async fn start() -> (Authority, App, Postern) {
    let authority = Authority::new("apps");
    let app = app(&authority.server(&[NAME])).await;
    let postern = Postern::start(&[site(&authority, json!({})).to(app.address)]).await;
    (authority, app, postern)
}

fn is_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status(), answer.head.get("x-postern-error")),
        (status, Some(code))
    );
}

/// Plain requests and upgrades end alike.
async fn refuses(postern: &Postern, status: u16, code: &str) {
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        handshake(HOST, "/", ""),
    ] {
        is_refused(&ask(postern.http, request).await, status, code);
    }
}

#[tokio::test]
async fn app_is_met_by_the_name_of_its_service() {
    let (_authority, _app, postern) = start().await;
    let mut client = Wire::connect(postern.http).await;
    let mut ports = Vec::new();
    for _ in 0..3 {
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        let agreed = client.answer().await.json();
        assert_eq!(agreed["name"], NAME);
        assert_eq!(agreed["protocol"], "http/1.1");
        assert_eq!(agreed["version"], "TLSv1.3");
        assert_eq!(agreed["host"], HOST, "the name on TLS is not the Host");
        ports.push(agreed["port"].clone());
    }
    assert!(ports.iter().all(|port| *port == ports[0]), "the connection is reused");
}

#[tokio::test]
async fn app_is_met_by_the_name_in_the_manifest() {
    let authority = Authority::new("apps");
    // An address is verified, and is no SNI (RFC 6066 section 3).
    for (name, sent) in [
        ("inner.example.test", json!("inner.example.test")),
        ("127.0.0.1", json!(false)),
    ] {
        let app = app(&authority.server(&[name])).await;
        let postern = Postern::start(&[site(&authority, json!({"serverName": name})).to(app.address)]).await;
        assert_eq!(get(postern.http, HOST, "/").await.json()["name"], sent);
    }
}

#[tokio::test]
async fn app_that_cannot_be_verified_sees_no_request() {
    let (authority, other) = (Authority::new("apps"), Authority::new("others"));
    for (leaf, why) in [
        (other.server(&[NAME]), "UnknownIssuer"),
        (authority.server(&["else.default.svc"]), "not valid for name"),
        (authority.server_until(&[NAME], -1), "expired"),
        (authority.client(NAME), "extended key usage"),
    ] {
        let backend = Backend::start_tls(&leaf, |mut visit| async move {
            while visit.request().await.is_some() {
                visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        })
        .await;
        let site = site(&authority, json!({})).to(backend.address);
        let postern = Postern::start_with(&[site], &["--log", "debug"]).await;
        refuses(&postern, 502, "upstream:bad_gateway").await;
        postern.tells(why).await;
        assert_eq!(backend.hits(), 0, "{why}");
        let failed = [("deployment", "app"), ("result", "tls_failed")];
        assert_eq!(postern.metric("postern_dial_attempts_total", &failed).await, 2.0);
    }
}

#[tokio::test]
async fn without_authorities_of_its_own_an_app_is_met_by_the_systems() {
    let authority = Authority::new("apps");
    let app = app(&authority.server(&[NAME])).await;
    let site = Site::new("app", HOST).app_protocol("https").to(app.address);
    let postern = Postern::start_trusting(std::slice::from_ref(&site), &authority.pem()).await;
    assert_eq!(get(postern.http, HOST, "/").await.json()["name"], NAME);
    for trusted in [Authority::new("others").pem(), String::new()] {
        let postern = Postern::start_trusting(std::slice::from_ref(&site), &trusted).await;
        refuses(&postern, 502, "upstream:bad_gateway").await;
    }
}

#[tokio::test]
async fn app_in_plaintext_behind_an_https_port_is_502() {
    let authority = Authority::new("apps");
    let app = App::start(Runtime::Node, "echo.mjs").await;
    let site = site(&authority, json!({})).to(app.address);
    let postern = Postern::start_with(&[site], &["--log", "debug"]).await;
    refuses(&postern, 502, "upstream:bad_gateway").await;
    postern.tells("no TLS with the app").await;
}

#[tokio::test]
async fn slow_handshake_is_503_within_the_time_to_connect() {
    let authority = Authority::new("apps");
    let (backend, visits) = Backend::visits().await;
    let times = json!({"timeouts": {"connect": "200ms"}});
    let postern = Postern::start(&[site(&authority, json!({})).to(backend.address).spec(times)]).await;
    let start = Instant::now();
    refuses(&postern, 503, "upstream:unreachable").await;
    assert!(start.elapsed() < Duration::from_secs(4), "after {:?}", start.elapsed());
    let slow = [("deployment", "app"), ("result", "timed_out")];
    assert_eq!(postern.metric("postern_dial_attempts_total", &slow).await, 2.0);
    drop(visits);
}

#[tokio::test]
async fn next_endpoint_is_tried_after_a_failed_handshake() {
    let (authority, other) = (Authority::new("apps"), Authority::new("others"));
    let good = app(&authority.server(&[NAME])).await;
    let stranger = app(&other.server(&[NAME])).await;
    let plain = Backend::saying("never").await;
    let (silent, visits) = Backend::visits().await;
    let site = [stranger.address, plain.address, silent.address, good.address]
        .into_iter()
        .fold(site(&authority, json!({})), Site::to)
        .spec(json!({"timeouts": {"connect": "200ms"}, "balancing": {"strategy": "Random"}}));
    let postern = Postern::start(&[site]).await;
    for i in 0..10 {
        let body = format!("body {i}");
        let length = body.len();
        let post = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n{body}");
        assert_eq!(ask(postern.http, post).await.text(), body);
        ws::open(postern.http, HOST, "/").await;
    }
    assert_eq!(plain.hits(), 0);
    drop(visits);
}

#[tokio::test]
async fn app_that_speaks_tls12_alone_is_met() {
    let authority = Authority::new("apps");
    for leaf in [authority.server(&[NAME]), authority.rsa_server(&[NAME])] {
        let app = app_with(&leaf, &[("MAX_VERSION", "TLSv1.2")]).await;
        let postern = Postern::start(&[site(&authority, json!({})).to(app.address)]).await;
        assert_eq!(get(postern.http, HOST, "/").await.json()["version"], "TLSv1.2");
    }
}

#[tokio::test]
async fn sessions_are_resumed() {
    let (_authority, _app, postern) = start().await;
    let mut resumed = Vec::new();
    for _ in 0..3 {
        resumed.push(get(postern.http, HOST, "/close").await.json()["resumed"].clone());
    }
    assert_eq!(resumed, [false, true, true]);
}

/// An app that demands client certificates, and the authority of those.
async fn demanding(authority: &Authority) -> (Authority, App) {
    let clients = Authority::new("clients");
    let app = app_with(&authority.server(&[NAME]), &[("CLIENT_CA", &clients.pem())]).await;
    (clients, app)
}

fn showing(name: &str, host: &str, authority: &Authority, leaf: &Leaf) -> Site {
    let reference = json!({"clientCertificateRef": {"name": format!("{name}-shown")}});
    named(name, host, authority, reference).with(leaf.secret("default", &format!("{name}-shown")))
}

#[tokio::test]
async fn app_that_demands_a_certificate_is_shown_the_one_in_the_manifest() {
    let authority = Authority::new("apps");
    let (clients, app) = demanding(&authority).await;
    let shown = showing("app", HOST, &authority, &clients.client("postern")).to(app.address);
    let postern = Postern::start(&[shown]).await;
    assert_eq!(get(postern.http, HOST, "/").await.json()["client"], "postern");
    let (mut socket, agreed) = open_agreed(&postern).await;
    assert_eq!(agreed["client"], "postern");
    socket.close(None).await.expect("closes");
    // Without one, and with one that the app does not know.
    for site in [
        site(&authority, json!({})),
        showing("app", HOST, &authority, &authority.client("postern")),
    ] {
        let postern = Postern::start(&[site.to(app.address)]).await;
        refuses(&postern, 502, "upstream:bad_gateway").await;
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

async fn open_agreed(postern: &Postern) -> (Socket, Value) {
    let mut socket = ws::connect(postern.http, HOST, "/agreed").await;
    let first = within("a message", socket.next())
        .await
        .expect("comes")
        .expect("is one");
    let agreed = serde_json::from_str(first.to_text().expect("a text")).expect("is JSON");
    (socket, agreed)
}

#[tokio::test]
async fn connections_are_not_shared_by_deployments_that_show_different_certificates() {
    let authority = Authority::new("apps");
    let (clients, app) = demanding(&authority).await;
    let service = json!({"service": {"name": "app", "port": 80}});
    let one = showing("app", HOST, &authority, &clients.client("one")).to(app.address);
    let two = showing("other", "other.example.test", &authority, &clients.client("two")).spec(service);
    let postern = Postern::start(&[one, two]).await;
    let mut ports = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (i, (host, name)) in [(HOST, "one"), ("other.example.test", "two")].into_iter().enumerate() {
            let agreed = get(postern.http, host, "/").await.json();
            assert_eq!(agreed["client"], name);
            ports[i].push(agreed["port"].clone());
        }
    }
    for ports in ports {
        assert!(
            ports.iter().all(|port| *port == ports[0]),
            "each has its own: {ports:?}"
        );
    }
}

#[tokio::test]
async fn rotated_client_certificate_is_shown_at_once_and_cuts_no_socket() {
    let authority = Authority::new("apps");
    let (clients, app) = demanding(&authority).await;
    let site = |name: &str| showing("app", HOST, &authority, &clients.client(name)).to(app.address);
    let postern = Postern::start(&[site("first")]).await;
    let (mut old, agreed) = open_agreed(&postern).await;
    assert_eq!(agreed["client"], "first");
    assert_eq!(get(postern.http, HOST, "/").await.json()["client"], "first");
    postern.apply(&site("second"));
    // The pooled connection never gets a pause to age in.
    let so = async || get(postern.http, HOST, "/").await.json()["client"] == "second";
    crate::support::eventually("the second is shown", so).await;
    for _ in 0..10 {
        assert_eq!(get(postern.http, HOST, "/").await.json()["client"], "second");
    }
    assert_eq!(open_agreed(&postern).await.1["client"], "second");
    old.send(Message::text("still here")).await.expect("is open");
    let back = within("a message", old.next()).await.expect("comes").expect("is one");
    assert_eq!(back, Message::text("still here"));
}

#[tokio::test]
async fn connection_that_another_authority_vouched_for_serves_nobody() {
    let (authority, app, postern) = start().await;
    assert_eq!(get(postern.http, HOST, "/").await.status(), 200);
    let other = Authority::new("others");
    postern.apply(&site(&other, json!({})).to(app.address));
    postern.refuses(HOST, "upstream:bad_gateway").await;
    refuses(&postern, 502, "upstream:bad_gateway").await;
    postern.apply(&site(&authority, json!({})).to(app.address));
    postern.answers(HOST, 200).await;
}

#[tokio::test]
async fn connection_in_plaintext_serves_no_port_that_has_become_https() {
    let authority = Authority::new("apps");
    let app = App::start(Runtime::Node, "echo.mjs").await;
    let tls = site(&authority, json!({})).to(app.address);
    let postern = Postern::start(&[tls.clone().app_protocol("http")]).await;
    assert_eq!(get(postern.http, HOST, "/").await.text(), "hello");
    postern.apply(&tls);
    postern.refuses(HOST, "upstream:bad_gateway").await;
}

#[tokio::test]
async fn bodies_pass_unchanged() {
    let (_authority, _app, postern) = start().await;
    let body = noise(5 * MIB, 1);
    let post = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = ask(postern.http, [post.as_bytes(), &body].concat()).await;
    assert!(answer.body == body, "the body came back changed");
}

async fn echoes(postern: &Postern) {
    let mut socket = ws::connect(postern.http, HOST, "/").await;
    for size in [0, 1, 125, 65_536, 3 * MIB, 16 * MIB] {
        let message = Message::binary(noise(size, size as u64));
        let (mut sink, mut stream) = (&mut socket).split();
        let (sent, echoed) = within("an echo", async {
            tokio::join!(sink.send(message.clone()), stream.next())
        })
        .await;
        sent.expect("sends");
        assert!(
            echoed.expect("comes").expect("is one") == message,
            "{size} bytes came back changed"
        );
    }
    socket.close(None).await.expect("closes");
    let end = within("the app's close", async {
        while let Some(Ok(_)) = socket.next().await {}
    });
    end.await;
}

#[tokio::test]
async fn socket_to_a_wss_app_of_node_echoes_messages_of_all_sizes() {
    let authority = Authority::new("apps");
    let app = app(&authority.server(&[NAME])).await;
    let site = site(&authority, json!({}))
        .app_protocol("kubernetes.io/wss")
        .to(app.address);
    echoes(&Postern::start(&[site]).await).await;
}

#[tokio::test]
async fn socket_to_a_wss_app_of_python_echoes_messages_of_all_sizes() {
    let authority = Authority::new("apps");
    let leaf = authority.server(&[NAME]);
    let pair = [("CERT", leaf.certificate.as_str()), ("KEY", leaf.key.as_str())];
    let app = App::start_with(Runtime::Python, "echo.py", &pair).await;
    let site = site(&authority, json!({}))
        .app_protocol("kubernetes.io/wss")
        .to(app.address);
    echoes(&Postern::start(&[site]).await).await;
}

#[tokio::test]
async fn bytes_behind_the_101_and_the_end_of_the_app_reach_the_client() {
    let authority = Authority::new("apps");
    for size in [1, 1000, 200_000] {
        let words = frame(true, ws::BINARY, None, &noise(size, 3));
        let sent = words.clone();
        let backend = Backend::start_tls(&authority.server(&[NAME]), move |mut visit| {
            let words = sent.clone();
            async move {
                let Some(request) = visit.head().await else { return };
                visit
                    .wire
                    .send([ws::accepted(&request).as_bytes(), &words].concat())
                    .await;
                visit.wire.finish().await;
                visit.wire.rest().await;
            }
        })
        .await;
        let postern = Postern::start(&[site(&authority, json!({})).to(backend.address)]).await;
        let mut client = ws::open(postern.http, HOST, "/").await;
        assert!(client.rest().await == (words, End::Fin), "{size} bytes arrived changed");
    }
}

#[tokio::test]
async fn answer_that_ends_without_the_end_of_tls_is_cut_off() {
    let authority = Authority::new("apps");
    // No length: only TLS can say that this is all (RFC 9112 section 9.8).
    let backend = Backend::start_tls(&authority.server(&[NAME]), |mut visit| async move {
        visit.head().await;
        visit.wire.send("HTTP/1.1 200 OK\r\n\r\nhalf").await;
    })
    .await;
    let postern = Postern::start(&[site(&authority, json!({})).to(backend.address)]).await;
    let mut client = Wire::connect(postern.http).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(client.head().await.status(), 200);
    let (rest, _) = client.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "half an answer looks whole");
}

#[tokio::test]
async fn no_key_is_told_to_anyone() {
    let authority = Authority::new("apps");
    let (clients, app) = demanding(&authority).await;
    let leaf = clients.client("postern");
    let site = showing("app", HOST, &authority, &leaf).to(app.address);
    let postern = Postern::start_with(&[site], &["--log", "trace"]).await;
    assert_eq!(get(postern.http, HOST, "/").await.json()["client"], "postern");
    let told = [
        postern.log().join("\n"),
        postern.ask_admin("/debug/snapshot").await.text(),
        postern.ask_admin("/metrics").await.text(),
    ];
    let secrets: Vec<_> = leaf.key.lines().filter(|line| !line.starts_with("-----")).collect();
    assert!(!secrets.is_empty() && told[1].contains("app-shown"));
    for told in told {
        assert!(secrets.iter().all(|secret| !told.contains(secret)), "a key is told");
    }
}
