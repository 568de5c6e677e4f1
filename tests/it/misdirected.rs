//! A request must not use a connection whose handshake went by another certificate or another rule for clients than its
//! host's: 421, and the client takes another connection (RFC 9110 section 15.5.20).

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::certs::{Authority, Leaf};
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::tls::Client;
use crate::support::wire::{Answer, Wire, get};
use crate::support::ws::handshake;

/// Two hosts below one wildcard certificate, one with a certificate of its own, one with a rule for clients, one in the
/// care of the default.
struct Hosts {
    authority: Authority,
    shown: Leaf,
    backend: Backend,
    postern: Postern,
}

const ONE: &str = "one.wild.test";
const TWO: &str = "two.wild.test";
const OWN: &str = "own.wild.test";
const CLIENTS: &str = "clients.wild.test";
const DEFAULT: &str = "app.default.test";

impl Hosts {
    async fn start() -> Self {
        let authority = Authority::new("authority");
        let backend = Backend::saying("ok").await;
        let wild = authority.server(&["*.wild.test"]);
        let site = |name: &str, host: &str, secret: &str, more: Value| {
            let site = Site::new(name, host).to(backend.address);
            site.spec(json!({"tls": [{"secretName": secret}]})).spec(more)
        };
        let sites = [
            site("one", ONE, "wild", json!({})).with(wild.secret("default", "wild")),
            site("two", TWO, "wild", json!({})),
            site("own", OWN, "own", json!({})).with(authority.server(&[OWN]).secret("default", "own")),
            site(
                "clients",
                CLIENTS,
                "wild",
                json!({"clientTls": {"caRef": {"kind": "ConfigMap", "name": "ca"}}}),
            )
            .with(authority.config_map("default", "ca")),
            Site::new("default", DEFAULT)
                .to(backend.address)
                .with(authority.server(&[DEFAULT]).secret("ops", "default")),
        ];
        let postern = Postern::start_with(&sites, &["--default-tls-secret", "ops/default"]).await;
        let shown = authority.client("alice");
        Self {
            authority,
            shown,
            backend,
            postern,
        }
    }

    /// Shows its certificate where it is asked for one.
    fn client(&self) -> Client {
        Client::of(&self.authority).showing(&self.shown)
    }

    async fn wire(&self, sni: &str) -> Wire {
        self.client().connect(self.postern.https, sni).await
    }

    async fn http2(&self, sni: &str) -> Http2 {
        let client = self.client().offering(&["h2"]);
        Http2::connect(&client, self.postern.https, sni).await
    }
}

/// SNI, Host, and whether that is misdirected.
const CASES: [(&str, &str, bool); 12] = [
    (ONE, ONE, false),
    // One certificate, one rule: browsers coalesce them.
    (ONE, TWO, false),
    (ONE, OWN, true),
    (OWN, ONE, true),
    (OWN, OWN, false),
    (ONE, DEFAULT, true),
    (DEFAULT, DEFAULT, false),
    (DEFAULT, ONE, true),
    // One certificate, but another rule.
    (ONE, CLIENTS, true),
    (CLIENTS, ONE, true),
    (CLIENTS, CLIENTS, false),
    // Nobody's: a 404, as anywhere.
    (ONE, "unknown.test", false),
];

fn assert_directed(case: (&str, &str, bool), answer: &Answer) {
    let code = answer.head.get("x-postern-error");
    match case {
        (_, _, true) => assert_eq!(
            (case, answer.status(), code),
            (case, 421, Some("routing:misdirected")),
            "{answer:?}"
        ),
        (_, "unknown.test", false) => assert!([404, 421].contains(&answer.status()), "{case:?} {answer:?}"),
        (_, _, false) => assert_eq!((case, answer.status(), code), (case, 200, None), "{answer:?}"),
    }
}

#[tokio::test]
async fn host_of_another_certificate_or_rule_is_421_on_http1() {
    let hosts = Hosts::start().await;
    for case @ (sni, host, _) in CASES {
        let mut wire = hosts.wire(sni).await;
        wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = wire.answer().await;
        assert_directed(case, &answer);
        // A client that knows no 421 is led to a new connection all the same.
        let ends = answer.head.get("connection") == Some("close");
        assert_eq!((case, ends), (case, answer.status() == 421));
    }
}

#[tokio::test]
async fn host_of_another_certificate_or_rule_is_421_on_http2() {
    let hosts = Hosts::start().await;
    for case @ (sni, host, _) in CASES {
        let connection = hosts.http2(sni).await;
        assert_directed(case, &connection.get(host, "/").await);
        assert_eq!((case, connection.get(sni, "/").await.status()), (case, 200));
    }
}

#[tokio::test]
async fn misdirected_upgrade_never_reaches_the_app() {
    let hosts = Hosts::start().await;
    for (sni, host) in [(ONE, OWN), (ONE, CLIENTS), (OWN, CLIENTS)] {
        let mut wire = hosts.wire(sni).await;
        wire.send(handshake(host, "/", "")).await;
        assert_eq!((sni, host, wire.answer().await.status()), (sni, host, 421));
        let connection = hosts.http2(sni).await;
        assert_eq!(connection.get(sni, "/").await.status(), 200);
        let refused = connection
            .upgrade(host, "/", "")
            .await
            .err()
            .map(|answer| answer.status());
        assert_eq!((sni, host, refused), (sni, host, Some(421)));
    }
    let heads = hosts.backend.heads();
    assert!(heads.iter().all(|head| !head.has("upgrade")), "{heads:?}");
}

#[tokio::test]
async fn client_without_sni_is_served_the_defaults_hosts_alone() {
    let hosts = Hosts::start().await;
    let client = hosts.client().without_sni();
    let cases = [
        (DEFAULT, 200, None),
        (ONE, 421, Some("routing:misdirected")),
        (OWN, 421, Some("routing:misdirected")),
        (CLIENTS, 421, Some("routing:misdirected")),
    ];
    for (host, status, code) in cases {
        let mut wire = client.connect(hosts.postern.https, DEFAULT).await;
        wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = wire.answer().await;
        assert_eq!(
            (host, answer.status(), answer.head.get("x-postern-error")),
            (host, status, code)
        );
    }
}

#[tokio::test]
async fn sni_of_a_host_without_a_rule_is_no_way_around_a_required_certificate() {
    let hosts = Hosts::start().await;
    // Without a certificate to show, by another name under the same wildcard, and by no name at all.
    let client = Client::of(&hosts.authority);
    let mut wire = client.connect(hosts.postern.https, ONE).await;
    wire.send(format!("GET / HTTP/1.1\r\nHost: {CLIENTS}\r\n\r\n")).await;
    assert_eq!(wire.answer().await.status(), 421);
    // The target's host counts, not the header's.
    let mut wire = client.connect(hosts.postern.https, ONE).await;
    wire.send(format!("GET https://{CLIENTS}/ HTTP/1.1\r\nHost: {ONE}\r\n\r\n"))
        .await;
    assert_eq!(wire.answer().await.status(), 421);
    let connection = Http2::connect(&client.clone().offering(&["h2"]), hosts.postern.https, ONE).await;
    assert_eq!(connection.get(CLIENTS, "/").await.status(), 421);
    let heads = hosts.backend.heads();
    assert!(heads.iter().all(|head| head.get("host") != Some(CLIENTS)), "{heads:?}");
}

#[tokio::test]
async fn plaintext_is_no_way_around_a_required_certificate() {
    // Manifests are served in plaintext too, unless told otherwise.
    let hosts = Hosts::start().await;
    assert_eq!(get(hosts.postern.http, ONE, "/").await.status(), 200);
    let answer = get(hosts.postern.http, CLIENTS, "/x?y=1").await;
    assert_eq!(answer.status(), 308, "{answer:?}");
    let to = answer.head.get("location").unwrap_or_default();
    assert!(to.starts_with("https://clients.wild.test"), "{to}");
    assert!(to.ends_with("/x?y=1"), "{to}");
    let mut wire = Wire::connect(hosts.postern.http).await;
    wire.send(handshake(CLIENTS, "/", "")).await;
    let answer = wire.answer().await;
    assert_eq!(
        (answer.status(), answer.head.get("x-postern-error")),
        (426, Some("client:tls_required"))
    );
    let heads = hosts.backend.heads();
    assert!(heads.iter().all(|head| head.get("host") != Some(CLIENTS)), "{heads:?}");
}
