use std::collections::BTreeSet;
use std::sync::OnceLock;

use http::Method;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::object::UpstreamKey;
use crate::runtime::{Lazy, Slot};
use crate::upstream::{Endpoint, Protocol};

/// Says one answer to all, and keeps what it was asked.
struct Service {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    async fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (answer, seen) = (answer.to_owned(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                seen.lock().push(String::from_utf8(head).unwrap());
                let _ = stream.write_all(answer.as_bytes()).await;
                if answer.is_empty() {
                    // No answer, and no end either.
                    let _ = stream.read_u8().await;
                }
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> Target {
        Target::Url(format!("http://{}/decide?by=rule", self.address).parse().unwrap())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

fn rule(target: Target) -> ForwardAuth {
    ForwardAuth {
        target,
        timeout: Duration::from_secs(2),
        request_headers: Box::new([header::AUTHORIZATION, header::COOKIE]),
        response_headers: Box::default(),
        subject_header: None,
        fail_open: false,
    }
}

fn egress() -> Egress {
    Egress::new(BTreeSet::new(), ["127.0.0.0/8".parse().unwrap()].into())
}

fn service(endpoints: &[SocketAddr]) -> Target {
    let endpoint = |address: &SocketAddr| Endpoint {
        address: *address,
        runtime: Slot::default(),
    };
    Target::Service {
        upstream: Arc::new(Upstream {
            key: UpstreamKey {
                namespace: "acme".into(),
                service: "gate".into(),
                port: 8000,
            },
            protocol: Protocol::Http1,
            rotation: Lazy::default(),
            endpoints: endpoints.iter().map(endpoint).collect(),
        }),
        path: PathAndQuery::from_static("/decide"),
    }
}

async fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    HeaderMap::from_iter(lines.iter().map(line))
}

async fn check(rule: &ForwardAuth, egress: &Egress, headers: &HeaderMap) -> Result<Allowed, Refusal> {
    check_from(rule, egress, headers, false).await
}

async fn check_from(
    rule: &ForwardAuth,
    egress: &Egress,
    headers: &HeaderMap,
    trusted: bool,
) -> Result<Allowed, Refusal> {
    let request = Request {
        method: &Method::GET,
        headers,
        authority: &HeaderValue::from_static("App.example:8443"),
        host: "app.example",
        uri: &Uri::from_static("/chat%20room?key=a&key=b"),
        client: Some([192, 0, 2, 1].into()),
        trusted,
        https: true,
        web_socket: true,
        certificate: None,
        readings: OnceLock::new(),
    };
    rule.check(&request, &"acme".into(), egress).await
}

async fn decided(answer: &str, configure: impl FnOnce(&mut ForwardAuth)) -> Result<Allowed, Refusal> {
    let service = Service::start(answer).await;
    let mut rule = rule(service.url());
    configure(&mut rule);
    check(&rule, &egress(), &HeaderMap::new()).await
}

fn reason(decided: Result<Allowed, Refusal>) -> Option<Reason> {
    decided.err().map(|refusal| refusal.reason)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn the_service_is_told_of_the_request_and_gets_no_upgrade() {
    let service = Service::start(OK).await;
    let mut rule = rule(service.url());
    rule.request_headers = [
        "authorization",
        "cookie",
        "x-tenant",
        "upgrade",
        "connection",
        "sec-websocket-key",
        "x-forwarded-for",
    ]
    .map(HeaderName::from_static)
    .into();
    let sent = headers(&[
        ("authorization", "Bearer t"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "k"),
        ("sec-websocket-version", "13"),
        ("content-length", "5"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-uri", "/elsewhere"),
        ("x-other", "1"),
    ]);
    check(&rule, &egress(), &sent).await.unwrap();
    let asked = service.asked().remove(0).to_lowercase();
    let (line, rest) = asked.split_once("\r\n").unwrap();
    assert_eq!(line, "get /decide?by=rule http/1.1");
    let mut lines: Vec<_> = rest.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    let host = format!("host: {}", service.address);
    assert_eq!(
        lines,
        [
            "authorization: bearer t",
            "cdn-loop: postern",
            "cookie: a=1",
            "cookie: b=2",
            &host,
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-host: app.example:8443",
            "x-forwarded-method: get",
            "x-forwarded-proto: https",
            "x-forwarded-uri: /chat%20room?key=a&key=b",
        ]
    );
}

/// A trusted proxy may say such a thing of its own, or let a client's through.
#[tokio::test]
async fn what_the_service_is_told_of_the_request_is_said_once_and_by_nobody_else() {
    let service = Service::start(OK).await;
    let mut rule = rule(service.url());
    let names = [
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-method",
        "x-forwarded-proto",
        "x-forwarded-uri",
        "x_forwarded_uri",
        "x-forwarded-client-cert",
    ];
    rule.request_headers = names.map(HeaderName::from_static).into();
    let sent = headers(&names.map(|name| (name, "another's")));
    check_from(&rule, &egress(), &sent, true).await.unwrap();
    let asked = service.asked().remove(0).to_lowercase();
    let told: Vec<_> = asked.lines().filter(|line| line.contains("another's")).collect();
    assert_eq!(told, ["x-forwarded-client-cert: another's"], "{asked}");
    for name in &names[..5] {
        assert_eq!(asked.matches(&format!("\n{name}: ")).count(), 1, "{asked}");
    }
}

#[tokio::test]
async fn what_it_tells_the_app_stands_in_place_of_the_clients_and_names_the_principal() {
    let answer = "HTTP/1.1 204 No Content\r\nx-user: ann\r\nx-role: a\r\nx-role: b\r\nx-other: 1\r\n\r\n";
    let allowed = decided(answer, |rule| {
        rule.response_headers = ["x-user", "x-role", "x-none"].map(HeaderName::from_static).into();
        rule.subject_header = Some(HeaderName::from_static("x-user"));
    });
    let allowed = allowed.await.unwrap();
    assert_eq!(
        allowed.told,
        headers(&[("x-user", "ann"), ("x-role", "a"), ("x-role", "b"), ("x-none", "")])
    );
    let principal = allowed.principal.unwrap();
    assert_eq!((principal.subject(), principal.kind()), ("ann", Kind::Forwarded));
}

#[tokio::test]
async fn without_a_subject_there_is_no_principal_and_with_an_impossible_one_no_passage() {
    let subject = |rule: &mut ForwardAuth| rule.subject_header = Some(HeaderName::from_static("x-user"));
    assert!(decided(OK, subject).await.unwrap().principal.is_none());
    for user in ["", "\u{80}\u{80}", &"u".repeat(5000)] {
        let answer = format!("HTTP/1.1 200 OK\r\nx-user: {user}\r\ncontent-length: 0\r\n\r\n");
        let decided = decided(&answer, |rule| {
            subject(rule);
            rule.fail_open = true;
        });
        let decided = decided.await;
        match user.chars().next() {
            Some('\u{80}') => assert!(decided.is_ok(), "UTF-8 is text"),
            _ => assert_eq!(reason(decided), Some(Reason::AuthUnavailable), "{user:.9}"),
        }
    }
}

#[tokio::test]
async fn a_refusal_passes_with_its_status_body_and_the_headers_a_client_needs() {
    let answer = "HTTP/1.1 302 Found\r\nlocation: https://login.example/?a=b\r\nset-cookie: s=1\r\nset-cookie: t=2\r\n\
                  www-authenticate: Basic\r\ncontent-type: text/html\r\ncontent-encoding: br\r\ncache-control: no-store\r\n\
                  retry-after: 5\r\nx-inside: 10.0.0.7\r\nx-postern-error: none\r\nconnection: keep-alive, x-inside\r\n\
                  content-length: 5\r\n\r\nLogin";
    let refusal = decided(answer, |rule| rule.fail_open = true).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::AuthRefused);
    let passed = refusal.answer.unwrap();
    assert_eq!(
        (passed.status(), &passed.body()[..]),
        (StatusCode::FOUND, &b"Login"[..])
    );
    let wanted = headers(&[
        ("location", "https://login.example/?a=b"),
        ("set-cookie", "s=1"),
        ("set-cookie", "t=2"),
        ("www-authenticate", "Basic"),
        ("content-type", "text/html"),
        ("content-encoding", "br"),
        ("cache-control", "no-store"),
        ("retry-after", "5"),
    ]);
    assert_eq!(*passed.headers(), wanted);
}

#[tokio::test]
async fn a_refusal_whose_body_fails_refuses_all_the_same_even_where_failures_let_pass() {
    let long = "x".repeat(MAX_BODY + 1);
    for answer in [
        format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{long}",
            long.len()
        ),
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\nx".to_owned(),
        "HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(),
    ] {
        let refusal = decided(&answer, |rule| {
            rule.fail_open = true;
            rule.timeout = Duration::from_millis(300);
        });
        let refusal = refusal.await.unwrap_err();
        assert_eq!(refusal.reason, Reason::AuthRefused);
        assert!(refusal.answer.unwrap().body().is_empty());
    }
}

#[tokio::test]
async fn without_a_decision_nothing_passes_unless_the_rule_says_so() {
    for answer in [
        "",
        "garbage",
        "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 700 What\r\ncontent-length: 0\r\n\r\n",
    ] {
        for fail_open in [false, true] {
            let decided = decided(answer, |rule| {
                rule.timeout = Duration::from_millis(200);
                rule.fail_open = fail_open;
                rule.response_headers = Box::new([HeaderName::from_static("x-user")]);
            });
            match decided.await {
                Ok(allowed) => {
                    assert!(fail_open && allowed.principal.is_none(), "{answer}");
                    // What the client says of itself under this name goes all the same.
                    assert_eq!(allowed.told, headers(&[("x-user", "")]));
                }
                Err(refusal) => assert_eq!(
                    (fail_open, refusal.reason),
                    (false, Reason::AuthUnavailable),
                    "{answer}"
                ),
            }
        }
    }
    let mut gone = rule(Target::Url(format!("http://{}/", dead().await).parse().unwrap()));
    assert_eq!(
        reason(check(&gone, &egress(), &HeaderMap::new()).await),
        Some(Reason::AuthUnavailable)
    );
    gone.fail_open = true;
    assert!(check(&gone, &egress(), &HeaderMap::new()).await.is_ok());
}

#[tokio::test]
async fn where_it_may_not_go_is_no_outage() {
    let service = Service::start(OK).await;
    let mut rule = rule(service.url());
    rule.fail_open = true;
    let closed = Egress::new(BTreeSet::new(), Box::default());
    assert_eq!(
        reason(check(&rule, &closed, &HeaderMap::new()).await),
        Some(Reason::AuthUnavailable)
    );
    assert!(service.asked().is_empty());
}

#[tokio::test]
async fn a_service_is_asked_at_an_endpoint_that_can_be_reached_under_its_own_name() {
    let up = Service::start(OK).await;
    let egress = Egress::new(BTreeSet::new(), Box::default());
    let reachable = rule(service(&[dead().await, dead().await, up.address]));
    check(&reachable, &egress, &HeaderMap::new()).await.unwrap();
    let asked = up.asked().remove(0);
    assert!(asked.starts_with("GET /decide HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: gate.acme.svc:8000\r\n"), "{asked}");
    let none = rule(service(&[]));
    assert_eq!(
        reason(check(&none, &egress, &HeaderMap::new()).await),
        Some(Reason::AuthUnavailable)
    );
}
