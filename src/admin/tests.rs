use std::net::Ipv4Addr;

use http::HeaderName;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::Flags;
use crate::live::Live;
use crate::policy::Signer;
use crate::snapshot::Snapshot;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fn view() -> View {
    let settings = Flags::default().settings().unwrap();
    View {
        metrics: Arc::new(Metrics::new(Arc::default(), u64::MAX)),
        live: Arc::new(LiveCell::default()),
        services: Arc::default(),
        // Pages only borrow the last value: the sender may go.
        settings: watch::channel(Arc::new(settings)).1,
        addresses: BTreeMap::from([("http", "127.0.0.1:41234".parse().unwrap())]),
        readiness: Arc::new(Readiness::default()),
    }
}

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), value.parse().unwrap()))
        .collect()
}

fn get(view: &View, peer: IpAddr, target: &str, host: &str) -> Page {
    view.answer(
        peer,
        &Method::GET,
        &target.parse().unwrap(),
        &headers(&[(header::HOST, host)]),
    )
}

fn status(view: &View, peer: IpAddr, target: &str, host: &str) -> u16 {
    get(view, peer, target, host).status().as_u16()
}

async fn body(page: Page) -> String {
    String::from_utf8(page.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn others_see_health_and_metrics_alone() {
    let view = view();
    view.readiness.ready();
    for (target, seen) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/debug/config", 404),
        ("/debug/snapshot", 404),
        ("/debug/why?host=a", 404),
        ("/", 404),
    ] {
        assert_eq!(status(&view, ELSEWHERE, target, "localhost"), seen, "{target}");
    }
}

/// A sidecar before the admin port comes from loopback on behalf of everybody.
#[test]
fn nobody_sees_debug_pages_where_they_are_off() {
    let mut view = view();
    let flags = Flags {
        admin_debug: AdminDebug::Off,
        ..Flags::default()
    };
    view.settings = watch::channel(Arc::new(flags.settings().unwrap())).1;
    for target in ["/debug/config", "/debug/snapshot", "/debug/why?host=a"] {
        assert_eq!(status(&view, HERE, target, "localhost"), 404, "{target}");
    }
    assert_eq!(status(&view, HERE, "/livez", "localhost"), 200);
}

#[tokio::test]
async fn everybody_sees_the_keys_of_the_signed_principal_where_there_are_any() {
    let mut view = view();
    assert_eq!(status(&view, HERE, "/principal-jwks", "localhost"), 404);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let signer = Signer::read(key.serialize_pem().as_bytes()).unwrap();
    view.services = Arc::new(Services {
        signer: Some(signer),
        ..Services::default()
    });
    let page = get(&view, ELSEWHERE, "/principal-jwks", "postern.example");
    assert_eq!(page.status(), 200);
    assert_eq!(page.headers()[header::CONTENT_TYPE], KEY_SET);
    let keys = serde_json::from_str::<serde_json::Value>(&body(page).await).unwrap();
    assert_eq!(
        (keys["keys"][0]["kty"].as_str(), keys["keys"][0].get("d")),
        (Some("OKP"), None)
    );
}

#[test]
fn loopback_sees_debug_pages_under_a_local_name_alone() {
    let view = view();
    for (host, seen) in [
        ("localhost", 200),
        ("LocalHost:9090", 200),
        ("127.0.0.1:9090", 200),
        ("127.9.9.9", 200),
        ("[::1]:9090", 200),
        ("evil.example", 403),
        ("localhost.evil.example:9090", 403),
        ("10.0.0.1:9090", 403),
        ("", 403),
    ] {
        assert_eq!(status(&view, HERE, "/debug/config", host), seen, "{host:?}");
    }
    let config: Uri = "/debug/config".parse().unwrap();
    let answer = |headers| view.answer(HERE, &Method::GET, &config, &headers).status();
    assert_eq!(answer(HeaderMap::new()), StatusCode::FORBIDDEN);
    let mut two = headers(&[(header::HOST, "localhost")]);
    two.append(header::HOST, HeaderValue::from_static("evil.example"));
    assert_eq!(answer(two), StatusCode::FORBIDDEN);
    assert_eq!(
        status(&view, HERE, "http://evil.example/debug/config", "localhost"),
        403
    );
    assert_eq!(
        status(&view, "::ffff:127.0.0.1".parse().unwrap(), "/debug/config", "localhost"),
        200
    );
}

#[test]
fn other_methods_are_refused_with_what_is_allowed() {
    let view = view();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let page = view.answer(ELSEWHERE, &method, &"/metrics".parse().unwrap(), &HeaderMap::new());
        assert_eq!(page.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(page.headers()[header::ALLOW], "GET, HEAD");
    }
}

#[tokio::test]
async fn readiness_goes_from_starting_to_ready_to_draining_and_never_back() {
    let view = view();
    assert_eq!(status(&view, ELSEWHERE, "/livez", "a"), 200);
    view.readiness.pending(vec!["services".to_owned()]);
    let page = get(&view, ELSEWHERE, "/readyz", "a");
    assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body(page).await, "starting: waiting for services\n");

    view.readiness.ready();
    view.readiness.pending(vec!["services".to_owned()]);
    view.readiness.started().await;
    assert_eq!(status(&view, ELSEWHERE, "/readyz", "a"), 200);

    view.readiness.drain();
    view.readiness.ready();
    assert_eq!(status(&view, ELSEWHERE, "/readyz", "a"), 503);
    assert_eq!(status(&view, ELSEWHERE, "/livez", "a"), 200);
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let page = get(&view(), ELSEWHERE, "/metrics", "a");
    assert!(
        page.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(body(page).await.ends_with("# EOF\n"));
}

#[tokio::test]
async fn debug_pages_show_settings_addresses_and_the_snapshot() {
    let view = view();
    let config: serde_json::Value =
        serde_json::from_str(&body(get(&view, HERE, "/debug/config", "localhost")).await).unwrap();
    assert_eq!(config["settings"]["shutdownDelay"], "5s");
    assert_eq!(config["addresses"]["http"], "127.0.0.1:41234");

    assert_eq!(status(&view, HERE, "/debug/snapshot", "localhost"), 503);
    assert_eq!(status(&view, HERE, "/debug/why?host=a.example", "localhost"), 503);
    view.live.publish(Arc::new(Live {
        snapshot: Snapshot::default(),
        version: 7,
    }));
    let snapshot: serde_json::Value =
        serde_json::from_str(&body(get(&view, HERE, "/debug/snapshot", "localhost")).await).unwrap();
    assert_eq!(snapshot["version"], 7);
    assert_eq!(snapshot["hash"].as_str().unwrap().len(), 16);
    assert!(snapshot["snapshot"]["hosts"].is_object());
}

#[tokio::test]
async fn why_reads_its_question_decoded() {
    let view = view();
    view.live.publish(Arc::new(Live {
        snapshot: Snapshot::default(),
        version: 1,
    }));
    assert_eq!(status(&view, HERE, "/debug/why", "localhost"), 400);
    let page = tokio::task::spawn_blocking(move || {
        let target = "/debug/why?host=A.example%3A8080&path=%2Fa%2520b%3Fc&method=PUT&ip=192.0.2.1&header=A%3A%20b";
        get(&view, HERE, target, "localhost")
    });
    let page = page.await.unwrap();
    let answer: why::Explanation = serde_json::from_str(&body(page).await).unwrap();
    assert_eq!((answer.host.as_str(), answer.path.as_str()), ("a.example", "/a%20b"));
    assert_eq!(answer.error.unwrap().code, "routing:host_not_found");
}

#[tokio::test]
async fn one_request_is_answered_per_connection_and_head_has_no_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::new(view())));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let twice = "HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(twice.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_crowd_of_idle_connections_keeps_no_probe_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::new(view())));
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    let mut probe = TcpStream::connect(address).await.unwrap();
    probe
        .write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    probe.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
}
