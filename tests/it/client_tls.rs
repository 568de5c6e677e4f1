//! Client certificates: who is let in, and what the app learns of them.

use rustls::AlertDescription;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::certs::Authority;
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::tls::Client;
use crate::support::wire::Wire;
use crate::tls::ask;

const HOST: &str = "app.example.test";
const HEADER: &str = "x-forwarded-client-cert";

struct Guarded {
    servers: Authority,
    clients: Authority,
    backend: Backend,
    postern: Postern,
}

impl Guarded {
    async fn start(mode: &str) -> Self {
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let backend = Backend::saying("ok").await;
        let rule = json!({"caRef": {"kind": "ConfigMap", "name": "ca"}, "mode": mode});
        let postern =
            Postern::start(&[site(&servers, &backend, &rule).with(clients.config_map("default", "ca"))]).await;
        Self {
            servers,
            clients,
            backend,
            postern,
        }
    }
}

fn site(servers: &Authority, backend: &Backend, rule: &Value) -> Site {
    Site::new("app", HOST)
        .to(backend.address)
        .tls(&servers.server(&[HOST]))
        .spec(json!({"clientTls": rule}))
}

#[tokio::test]
async fn required_certificate_is_required_in_both_versions() {
    let guarded = Guarded::start("Required").await;
    let address = guarded.postern.https;
    for version in [&TLS12, &TLS13] {
        let client = Client::speaking(&guarded.servers, &[version]);
        let refusal = client.refusal(address, HOST).await;
        // TLS 1.2 knows no alert of that name (RFC 5246 section 7.4.6 says handshake_failure).
        let expected = [
            AlertDescription::CertificateRequired,
            AlertDescription::HandshakeFailure,
        ];
        assert!(expected.contains(&refusal), "{refusal:?}");

        let mut wire = client
            .showing(&guarded.clients.client("alice"))
            .connect(address, HOST)
            .await;
        assert_eq!(ask(&mut wire, HOST).await.status(), 200);
    }
    assert_eq!(guarded.backend.hits(), 2);
}

#[tokio::test]
async fn certificate_of_another_authority_is_refused_required_or_not() {
    let stranger = Authority::new("stranger");
    for mode in ["Required", "Optional"] {
        let guarded = Guarded::start(mode).await;
        // The server's own authority is another one, too.
        for authority in [&stranger, &guarded.servers] {
            let client = Client::of(&guarded.servers).showing(&authority.client("alice"));
            let refusal = client.refusal(guarded.postern.https, HOST).await;
            let expected = [
                AlertDescription::UnknownCA,
                AlertDescription::DecryptError,
                AlertDescription::BadCertificate,
            ];
            assert!(expected.contains(&refusal), "{refusal:?}");
        }
        // Nor is a server's certificate a client's.
        let client = Client::of(&guarded.servers).showing(&guarded.clients.server(&["alice"]));
        client.refusal(guarded.postern.https, HOST).await;
        assert_eq!(guarded.backend.hits(), 0);
    }
}

#[tokio::test]
async fn app_gets_the_subject_and_no_forged_one() {
    let guarded = Guarded::start("Required").await;
    let client = Client::of(&guarded.servers).showing(&guarded.clients.client("alice"));
    let mut wire = client.connect(guarded.postern.https, HOST).await;
    wire.send(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-Client-Cert: Subject=\"CN=mallory\"\r\n\
         X_Forwarded_Client_Cert: Subject=\"CN=mallory\"\r\nConnection: x-forwarded-client-cert\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.answer().await.status(), 200);
    let head = guarded.backend.request().await;
    let subject = head.get(HEADER).expect("the subject");
    assert!(subject.contains("CN=alice"), "{subject}");
    assert!(!String::from_utf8_lossy(&head.raw).contains("mallory"), "{head:?}");
}

#[tokio::test]
async fn subject_cannot_break_out_of_its_header() {
    let guarded = Guarded::start("Required").await;
    for name in ["a\",Subject=\"CN=root", "a;Subject=root", "grüß dich", "a\\\"b"] {
        let client = Client::of(&guarded.servers).showing(&guarded.clients.client(name));
        let mut wire = client.connect(guarded.postern.https, HOST).await;
        assert_eq!((name, ask(&mut wire, HOST).await.status()), (name, 200));
        let head = guarded.backend.heads().pop().expect("a request");
        let told = head.get(HEADER).expect("the subject");
        // Unquoted text is what a reader takes as fields: one Subject alone.
        let mut quoted = false;
        let mut escaped = false;
        let bare: String = told
            .chars()
            .filter(|&c| {
                let was = escaped;
                escaped = quoted && c == '\\' && !was;
                if c == '"' && !was {
                    quoted = !quoted;
                }
                !quoted
            })
            .collect();
        assert!(!quoted, "{name}: {told}");
        assert_eq!(bare.matches("Subject=").count(), 1, "{name}: {told}");
        assert!(!bare.contains(','), "{name}: {told}");
    }
}

#[tokio::test]
async fn optional_certificate_is_told_if_there_is_one() {
    let guarded = Guarded::start("Optional").await;
    let client = Client::of(&guarded.servers);
    let mut wire = client.connect(guarded.postern.https, HOST).await;
    wire.send(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-Client-Cert: Subject=\"CN=mallory\"\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.answer().await.status(), 200);
    assert!(!guarded.backend.heads()[0].has(HEADER));
    let client = client.showing(&guarded.clients.client("alice"));
    let mut wire = client.connect(guarded.postern.https, HOST).await;
    assert_eq!(ask(&mut wire, HOST).await.status(), 200);
    let head = guarded.backend.heads().pop().expect("a request");
    assert!(
        head.get(HEADER).is_some_and(|told| told.contains("CN=alice")),
        "{head:?}"
    );
}

#[tokio::test]
async fn no_proxys_word_stands_for_a_certificate_where_the_host_asks_for_one() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let backend = Backend::saying("ok").await;
    let rule = json!({"caRef": {"kind": "ConfigMap", "name": "ca"}, "mode": "Optional"});
    let site = site(&servers, &backend, &rule).with(clients.config_map("default", "ca"));
    let postern = Postern::start_with(&[site], &["--trusted-proxies", "127.0.0.1"]).await;
    let told = "X-Forwarded-Proto: https\r\nX-Forwarded-Client-Cert: Subject=\"CN=mallory\"\r\n";
    let mut wire = Wire::connect(postern.http).await;
    wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{told}\r\n")).await;
    assert_eq!(wire.answer().await.status(), 200);
    assert!(!backend.heads()[0].has(HEADER));
}

#[tokio::test]
async fn upgrade_and_http2_tell_the_subject_too() {
    let guarded = Guarded::start("Required").await;
    let client = Client::of(&guarded.servers).showing(&guarded.clients.client("alice"));
    let mut wire = client.connect(guarded.postern.https, HOST).await;
    wire.send(crate::support::ws::handshake(HOST, "/", "")).await;
    // The app says 200: it takes no upgrade. What it was told counts.
    assert_eq!(wire.answer().await.status(), 200);
    let connection = Http2::connect(&client.offering(&["h2"]), guarded.postern.https, HOST).await;
    let forged = connection.request(
        http::Method::GET,
        HOST,
        "/",
        "X-Forwarded-Client-Cert: Subject=\"CN=mallory\"\r\n",
    );
    assert_eq!(connection.ask(forged, b"").await.status(), 200);
    let heads = guarded.backend.heads();
    assert_eq!(heads.len(), 2);
    for head in heads {
        let told = head.get(HEADER).expect("the subject");
        assert!(told.contains("CN=alice") && !told.contains("mallory"), "{told}");
    }
}

#[tokio::test]
async fn guarded_host_resumes_no_session() {
    // Else a certificate would be good for as long as its ticket, past its end and past a change of the rule.
    let guarded = Guarded::start("Required").await;
    for version in [&TLS12, &TLS13] {
        let client = Client::speaking(&guarded.servers, &[version]).showing(&guarded.clients.client("alice"));
        for _ in 0..2 {
            let mut wire = client.connect(guarded.postern.https, HOST).await;
            assert_eq!(wire.session().handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(ask(&mut wire, HOST).await.status(), 200);
        }
    }
}

#[tokio::test]
async fn rule_that_cannot_be_resolved_fails_closed() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let missing = json!({"caRef": {"kind": "ConfigMap", "name": "ca"}});
    let postern = Postern::start(&[site(&authority, &backend, &missing)]).await;
    let mut wire = Client::of(&authority).connect(postern.https, HOST).await;
    let answer = ask(&mut wire, HOST).await;
    assert_eq!(
        (answer.status(), answer.head.get("x-postern-error")),
        (503, Some("config:policy_invalid"))
    );
    assert_eq!(backend.hits(), 0);
}

#[tokio::test]
async fn new_rule_holds_for_connections_that_were_open_before() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let open = Site::new("app", HOST)
        .to(backend.address)
        .tls(&authority.server(&[HOST]));
    let postern = Postern::start(std::slice::from_ref(&open)).await;
    let client = Client::of(&authority);
    let mut wire = client.connect(postern.https, HOST).await;
    assert_eq!(ask(&mut wire, HOST).await.status(), 200);
    let rule = json!({"clientTls": {"caRef": {"kind": "ConfigMap", "name": "ca"}}});
    postern.apply(&open.spec(rule).with(authority.config_map("default", "ca")));
    crate::support::eventually("the rule holds", async || ask_status(&client, &postern).await.is_none()).await;
    assert_eq!(ask(&mut wire, HOST).await.status(), 421);
}

/// None: the handshake is refused.
async fn ask_status(client: &Client, postern: &Postern) -> Option<u16> {
    let mut wire = client.try_connect(postern.https, HOST).await.ok()?;
    wire.try_send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    Some(wire.try_head().await.ok()?.status())
}
