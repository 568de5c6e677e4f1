//! Which certificate a client meets, how it changes under open connections, and what a handshake agrees on.

use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConnection, HandshakeKind, ProtocolVersion, SignatureScheme};
use serde_json::json;

use crate::support::backend::Backend;
use crate::support::certs::{Authority, Leaf, secret};
use crate::support::eventually;
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::tls::Client;
use crate::support::wire::{Answer, End, Wire};
use crate::support::ws::{ACCEPT, handshake};

const HOST: &str = "app.example.test";

pub async fn ask(wire: &mut Wire, host: &str) -> Answer {
    wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    wire.answer().await
}

/// Waits until new clients are shown that certificate.
async fn shows(postern: &Postern, authority: &Authority, host: &str, leaf: &Leaf) {
    let so = async || match Client::of(authority).try_connect(postern.https, host).await {
        Ok(wire) => leaf.was_shown(&wire),
        Err(_) => false,
    };
    eventually(&format!("{host} shows the certificate"), so).await;
}

async fn one_site() -> (Authority, Backend, Postern) {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .tls(&authority.server(&[HOST]));
    let postern = Postern::start(&[site]).await;
    (authority, backend, postern)
}

#[tokio::test]
async fn certificate_is_the_exact_names_then_the_wildcards_then_a_covering_default() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let exact = authority.server(&["a.example.test"]);
    let wildcard = authority.server(&["*.example.test"]);
    let one = authority.server(&["unused.test", "one.default.test"]);
    let any = authority.server(&["*.default.test"]);
    let site = |name: &str, host: &str| Site::new(name, host).to(backend.address);
    let sites = [
        site("exact", "a.example.test").tls(&exact),
        site("wildcard", "*.example.test").tls(&wildcard),
        site("one", "one.default.test").with(one.secret("ops", "one")),
        site("two", "two.default.test").with(any.secret("ops", "any")),
    ];
    let postern = Postern::start_with(&sites, &["--default-tls-secret", "ops/one,ops/any"]).await;
    let cases = [
        ("a.example.test", &exact),
        ("b.example.test", &wildcard),
        ("one.default.test", &one),
        ("two.default.test", &any),
    ];
    for (host, leaf) in cases {
        let mut wire = Client::of(&authority).connect(postern.https, host).await;
        assert!(leaf.was_shown(&wire), "{host} shows another certificate");
        assert_eq!((host, ask(&mut wire, host).await.status()), (host, 200));
    }
}

#[tokio::test]
async fn client_without_sni_meets_the_default() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let default = authority.server(&["app.default.test"]);
    let sites = [
        Site::new("app", "app.default.test")
            .to(backend.address)
            .with(default.secret("ops", "default")),
        Site::new("own", HOST)
            .to(backend.address)
            .tls(&authority.server(&[HOST])),
    ];
    let postern = Postern::start_with(&sites, &["--default-tls-secret", "ops/default"]).await;
    let client = Client::of(&authority).without_sni();
    let mut wire = client.connect(postern.https, "app.default.test").await;
    assert!(default.was_shown(&wire));
    assert_eq!(ask(&mut wire, "app.default.test").await.status(), 200);
}

#[tokio::test]
async fn hosts_without_any_certificate_are_served_with_a_self_signed_one() {
    let backend = Backend::saying("ok").await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    for client in [Client::careless(), Client::careless().without_sni()] {
        let mut wire = client.connect(postern.https, HOST).await;
        assert_eq!(ask(&mut wire, HOST).await.text(), "ok");
    }
    let mut wire = Client::careless().connect(postern.https, "unknown.test").await;
    let answer = ask(&mut wire, "unknown.test").await;
    assert_eq!(
        (answer.status(), answer.head.get("x-postern-error")),
        (404, Some("routing:host_not_found"))
    );
}

#[tokio::test]
async fn certificate_that_does_not_cover_its_hostname_is_not_served() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let other = authority.server(&["other.example.test"]);
    let site = Site::new("app", HOST).to(backend.address).tls(&other);
    let postern = Postern::start(&[site]).await;
    let mut wire = Client::careless().connect(postern.https, HOST).await;
    assert!(!other.was_shown(&wire));
    assert_eq!(ask(&mut wire, HOST).await.status(), 200);
}

#[tokio::test]
async fn name_may_have_any_case_a_port_and_a_trailing_dot() {
    let (authority, _backend, postern) = one_site().await;
    let mut wire = Client::of(&authority).connect(postern.https, "App.EXAMPLE.test").await;
    for host in ["APP.example.test", "app.example.test:8443", "app.example.test."] {
        assert_eq!((host, ask(&mut wire, host).await.status()), (host, 200));
    }
}

#[tokio::test]
async fn ecdsa_and_rsa_certificates_stand_side_by_side() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let (ecdsa, rsa) = (authority.server(&[HOST]), authority.rsa_server(&[HOST]));
    let site = Site::new("app", HOST)
        .to(backend.address)
        .spec(json!({"tls": [{"secretName": "rsa"}, {"secretName": "ecdsa"}]}))
        .with(ecdsa.secret("default", "ecdsa"))
        .with(rsa.secret("default", "rsa"));
    let postern = Postern::start(&[site]).await;
    let rsa_alone = [
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PSS_SHA384,
        SignatureScheme::RSA_PKCS1_SHA256,
        SignatureScheme::RSA_PKCS1_SHA384,
    ];
    let ecdsa_alone = [SignatureScheme::ECDSA_NISTP256_SHA256];
    for (schemes, leaf) in [(&rsa_alone[..], &rsa), (&ecdsa_alone, &ecdsa)] {
        let client = Client::verifying(&authority, schemes);
        let mut wire = client.connect(postern.https, HOST).await;
        assert!(leaf.was_shown(&wire), "{schemes:?} got the other kind");
        assert_eq!(ask(&mut wire, HOST).await.status(), 200);
    }
}

#[tokio::test]
async fn new_secret_serves_new_handshakes_and_closes_no_socket() {
    let authority = Authority::new("authority");
    let backend = Backend::echoing().await;
    let site = |leaf: &Leaf| Site::new("app", HOST).to(backend.address).tls(leaf);
    let (old, new) = (authority.server(&[HOST]), authority.server(&[HOST]));
    let postern = Postern::start(&[site(&old)]).await;
    let mut socket = Client::of(&authority).connect(postern.https, HOST).await;
    assert!(old.was_shown(&socket));
    socket.send(handshake(HOST, "/", "")).await;
    assert_eq!(socket.head().await.get("sec-websocket-accept"), Some(ACCEPT));

    postern.apply(&site(&new));
    shows(&postern, &authority, HOST, &new).await;
    socket.send("still here?").await;
    assert_eq!(socket.exactly(11).await, b"still here?");
}

#[tokio::test]
async fn broken_secret_keeps_the_last_good_certificate() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let good = authority.server(&[HOST]);
    let site = Site::new("app", HOST).to(backend.address).tls(&good);
    let postern = Postern::start(&[site]).await;
    shows(&postern, &authority, HOST, &good).await;
    let other = authority.server(&[HOST]);
    let broken = [
        ("another's key", good.certificate.as_str(), other.key.as_str()),
        ("no key", &good.certificate, ""),
        ("no PEM", "certificate", "key"),
        (
            "no DER",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &good.key,
        ),
    ];
    for (case, certificate, key) in broken {
        // Its own marker tells when the edit is served.
        let marker = format!("{}.example.test", case.replace([' ', '\''], "-"));
        let site = Site::new("app", HOST)
            .to(backend.address)
            .spec(json!({"hostnames": [HOST, marker], "tls": [{"hostnames": [HOST], "secretName": "app"}]}))
            .with(secret("default", "app", certificate, key));
        postern.apply(&site);
        postern.answers(&marker, 200).await;
        let wire = Client::of(&authority).connect(postern.https, HOST).await;
        assert!(good.was_shown(&wire), "{case}");
    }
    postern.apply(&Site::new("app", HOST).to(backend.address).tls(&other));
    shows(&postern, &authority, HOST, &other).await;
}

#[tokio::test]
async fn broken_secret_costs_no_other_host_its_certificate() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let leaf = authority.server(&[HOST]);
    let sites = [
        Site::new("app", HOST).to(backend.address).tls(&leaf),
        Site::new("broken", "broken.test")
            .to(backend.address)
            .spec(json!({"tls": [{"secretName": "broken"}]}))
            .with(secret("default", "broken", "nonsense", "nonsense")),
        Site::new("missing", "missing.test")
            .to(backend.address)
            .spec(json!({"tls": [{"secretName": "missing"}]})),
    ];
    let postern = Postern::start(&sites).await;
    let wire = Client::of(&authority).connect(postern.https, HOST).await;
    assert!(leaf.was_shown(&wire));
    for host in ["broken.test", "missing.test"] {
        let mut wire = Client::careless().connect(postern.https, host).await;
        assert_eq!((host, ask(&mut wire, host).await.status()), (host, 200));
    }
}

#[tokio::test]
async fn both_versions_are_spoken_and_alpn_decides_the_protocol() {
    let (authority, _backend, postern) = one_site().await;
    for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let client = Client::speaking(&authority, &[version]);
        let offers = [
            (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
            (&["http/1.1", "h2"], Some(b"h2")),
            (&["http/1.1"], Some(b"http/1.1")),
            (&[], None),
        ];
        for (offer, agreed) in offers {
            let wire = client.clone().offering(offer).connect(postern.https, HOST).await;
            assert_eq!(wire.session().protocol_version(), Some(spoken));
            assert_eq!((offer, wire.session().alpn_protocol()), (offer, agreed));
        }
        let mut wire = client.clone().offering(&[]).connect(postern.https, HOST).await;
        assert_eq!(ask(&mut wire, HOST).await.status(), 200);
        let strange = client.offering(&["spdy/3"]);
        assert_eq!(
            strange.refusal(postern.https, HOST).await,
            AlertDescription::NoApplicationProtocol
        );
    }
}

#[tokio::test]
async fn sessions_are_resumed_with_tickets() {
    let (authority, _backend, postern) = one_site().await;
    for version in [&TLS12, &TLS13] {
        let client = Client::speaking(&authority, &[version]);
        let mut first = client.connect(postern.https, HOST).await;
        assert_eq!(first.session().handshake_kind(), Some(HandshakeKind::Full));
        // The tickets of 1.3 come behind the handshake.
        assert_eq!(ask(&mut first, HOST).await.status(), 200);
        let mut second = client.connect(postern.https, HOST).await;
        assert_eq!(second.session().handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(ask(&mut second, HOST).await.status(), 200);
    }
}

#[tokio::test]
async fn session_of_one_name_is_not_resumed_for_another() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let (one, two) = ("one.example.test", "two.example.test");
    let sites = [one, two].map(|host| {
        let name = host.split('.').next().expect("a label");
        Site::new(name, host)
            .to(backend.address)
            .tls(&authority.server(&[host]))
    });
    let postern = Postern::start(&sites).await;
    let client = Client::of(&authority);
    let mut first = client.connect(postern.https, one).await;
    assert_eq!(ask(&mut first, one).await.status(), 200);
    let second = client.connect(postern.https, two).await;
    assert_eq!(second.session().handshake_kind(), Some(HandshakeKind::Full));
}

#[tokio::test]
async fn early_data_is_never_invited() {
    let (authority, _backend, postern) = one_site().await;
    let client = Client::speaking(&authority, &[&TLS13]).with_early_data();
    let mut first = client.connect(postern.https, HOST).await;
    assert_eq!(ask(&mut first, HOST).await.status(), 200);
    let name = ServerName::try_from(HOST).expect("a name");
    let mut resuming = ClientConnection::new(client.config(), name).expect("begins");
    assert!(
        resuming.early_data().is_none(),
        "the server's ticket invites early data"
    );
    let second = client.connect(postern.https, HOST).await;
    assert_eq!(second.session().handshake_kind(), Some(HandshakeKind::Resumed));
}

#[tokio::test]
async fn tls_options_change_under_open_connections() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .tls(&authority.server(&[HOST]));
    let postern = Postern::start_configured(&[site], &json!({"log": "info"})).await;
    let old = Client::speaking(&authority, &[&TLS12]);
    let both = Client::of(&authority).offering(&["h2", "http/1.1"]);
    let mut kept = old.connect(postern.https, HOST).await;
    let kept_http2 = Http2::connect(&both, postern.https, HOST).await;

    postern.configure(&json!({"tlsMinVersion": "1.3", "http2": false}));
    eventually("TLS 1.2 is refused", async || {
        old.try_connect(postern.https, HOST).await.is_err()
    })
    .await;
    assert_eq!(
        old.refusal(postern.https, HOST).await,
        AlertDescription::ProtocolVersion
    );
    let wire = both.connect(postern.https, HOST).await;
    assert_eq!(wire.session().alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(ask(&mut kept, HOST).await.status(), 200);
    assert_eq!(kept_http2.get(HOST, "/").await.status(), 200);

    postern.configure(&json!({"tlsMinVersion": "1.2", "http2": true}));
    let so = async || old.try_connect(postern.https, HOST).await.is_ok();
    eventually("TLS 1.2 is spoken again", so).await;
    let wire = both.connect(postern.https, HOST).await;
    assert_eq!(wire.session().alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn default_certificates_change_with_the_settings() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let (one, two) = (authority.server(&[HOST]), authority.server(&[HOST]));
    let site = Site::new("app", HOST)
        .to(backend.address)
        .with(one.secret("ops", "one"))
        .with(two.secret("ops", "two"));
    let postern = Postern::start_configured(&[site], &json!({"defaultTlsSecret": ["ops/one"]})).await;
    shows(&postern, &authority, HOST, &one).await;
    postern.configure(&json!({"defaultTlsSecret": ["ops/two"]}));
    shows(&postern, &authority, HOST, &two).await;
}

#[tokio::test]
async fn idle_connection_ends_cleanly_after_the_keep_alive_timeout() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let site = Site::new("app", HOST)
        .to(backend.address)
        .tls(&authority.server(&[HOST]));
    let postern = Postern::start_configured(&[site], &json!({"keepAliveTimeout": "1s"})).await;
    let mut wire = Client::of(&authority).connect(postern.https, HOST).await;
    let start = Instant::now();
    assert_eq!(ask(&mut wire, HOST).await.status(), 200);
    // With a close_notify: nobody can have cut the answer short.
    assert_eq!(wire.rest().await, (Vec::new(), End::Fin));
    assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}
