//! `forwardAuth`: another service decides; it sees a plain GET and never the upgrade, and its refusals pass.

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, site};
use crate::support::site::Site;

over_each! {
    what_it_allows_passes_with_what_it_says,
    what_it_refuses_is_refused_in_its_words,
    without_a_decision_nobody_passes_unless_the_rule_says_so,
    a_url_leads_nowhere_that_the_operator_does_not_allow,
    a_path_that_apps_read_in_several_ways_is_not_asked_about,
}

const LOOPBACK: [&str; 2] = ["--allow-egress", "127.0.0.0/8"];
const UNAVAILABLE: (u16, &str) = (503, "policy:auth_unavailable");

fn rules(more: Value) -> Value {
    json!([{"name": "gate", "forwardAuth": more}])
}

fn at(gate: &Backend) -> String {
    format!("http://{}/decide", gate.address)
}

/// Answers every request with the same.
async fn gate(answer: &'static str) -> Backend {
    Backend::start(move |mut visit| async move {
        while visit.head().await.is_some() {
            visit.wire.send(answer).await;
        }
    })
    .await
}

async fn what_it_allows_passes_with_what_it_says(over: Transport) {
    let gate = gate("HTTP/1.1 200 OK\r\nX-User: ann\r\nX-Inside: 1\r\nContent-Length: 2\r\n\r\nok").await;
    let rules = rules(json!({
        "url": at(&gate), "responseHeaders": ["X-User", "X-Role"], "subjectHeader": "X-User",
    }));
    let guarded = Guarded::start_with(over, site(rules), &LOOPBACK).await;
    let claimed = "Authorization: Bearer t\r\nCookie: a=1\r\nX-User: mallory\r\nX_User: mallory\r\nX-Role: admin\r\n\
                   X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Uri: /free\r\n";
    for head in guarded.passes("/chat%20room?key=a", claimed).await {
        assert_eq!(head.all("x-user"), ["ann"]);
        for gone in ["x_user", "x-role", "x-inside"] {
            assert!(!head.has(gone), "{gone}");
        }
        let principal: Value =
            serde_json::from_str(head.get("x-postern-principal").expect("a principal")).expect("JSON");
        assert_eq!(
            (&principal["subject"], &principal["type"]),
            (&json!("ann"), &json!("Forwarded"))
        );
    }
    let asked = gate.heads();
    assert_eq!(asked.len(), 2);
    for head in asked {
        assert_eq!(head.target(), "/decide");
        let told = |name: &str| head.get(name).map(str::to_owned);
        assert_eq!(told("x-forwarded-method").as_deref(), Some("GET"));
        assert_eq!(told("x-forwarded-uri").as_deref(), Some("/chat%20room?key=a"));
        assert_eq!(told("x-forwarded-host").as_deref(), Some(HOST));
        assert_eq!(told("x-forwarded-proto").as_deref(), Some(guarded.front.scheme()));
        assert_eq!(told("x-forwarded-for").as_deref(), Some("127.0.0.1"));
        assert_eq!(told("authorization").as_deref(), Some("Bearer t"));
        assert_eq!(told("cookie").as_deref(), Some("a=1"));
        for never in [
            "upgrade",
            "connection",
            "sec-websocket-key",
            "sec-websocket-version",
            "content-length",
            "x-user",
        ] {
            assert!(!head.has(never), "{never}");
        }
    }
}

async fn what_it_refuses_is_refused_in_its_words(over: Transport) {
    for (answer, status, body) in [
        (
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"gate\"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
             Content-Type: text/plain\r\nX-Inside: 1\r\nContent-Length: 7\r\n\r\nWho is?",
            401,
            "Who is?",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\nContent-Length: 0\r\n\r\n",
            302,
            "",
        ),
        // What it says of itself or of Postern is not the client's to hear.
        (
            "HTTP/1.1 403 Forbidden\r\nX-Postern-Error: none\r\nX-Request-Id: 7\r\nConnection: close, X-Inside\r\nX-Inside: 1\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            403,
            "no",
        ),
    ] {
        let gate = gate(answer).await;
        let rules = rules(json!({"url": at(&gate), "failOpen": true}));
        let guarded = Guarded::start_with(over, site(rules), &LOOPBACK).await;
        for refused in guarded.refuses("/", "", status, "client:auth_refused").await {
            assert_eq!(refused.text(), body);
            assert!(!refused.head.has("x-inside"));
            match status {
                403 => {
                    assert_eq!(refused.head.all("x-postern-error").len(), 1);
                    assert!(refused.head.get("x-request-id").is_some_and(|id| id.len() > 8));
                    for name in ["upgrade", "sec-websocket-accept", "transfer-encoding"] {
                        assert!(!refused.head.has(name), "{refused:?}");
                    }
                }
                302 => assert_eq!(refused.head.get("location"), Some("https://login.example/")),
                _ => {
                    assert_eq!(refused.head.get("www-authenticate"), Some("Basic realm=\"gate\""));
                    assert_eq!(refused.head.all("set-cookie"), ["a=1", "b=2"]);
                    assert_eq!(refused.head.get("content-type"), Some("text/plain"));
                }
            }
        }
    }
}

async fn without_a_decision_nobody_passes_unless_the_rule_says_so(over: Transport) {
    let failing = gate("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").await;
    let silent = gate("").await;
    let dead = {
        let gate = gate("").await;
        at(&gate)
    };
    for url in [at(&failing), at(&silent), dead] {
        for fail_open in [false, true] {
            let rules = rules(json!({
                "url": url, "timeout": "100ms", "failOpen": fail_open, "responseHeaders": ["X-User"],
            }));
            let guarded = Guarded::start_with(over, site(rules), &LOOPBACK).await;
            if fail_open {
                for head in guarded.passes("/", "X-User: mallory\r\n").await {
                    assert!(!head.has("x-user") && !head.has("x-postern-principal"));
                }
            } else {
                guarded.refuses("/", "", UNAVAILABLE.0, UNAVAILABLE.1).await;
            }
        }
    }
}

async fn a_url_leads_nowhere_that_the_operator_does_not_allow(over: Transport) {
    let gate = gate("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    // By a name that leads there, too, and by an address that means the same.
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{}/decide", gate.address.port());
        let guarded = Guarded::start(over, rules(json!({"url": url, "failOpen": true}))).await;
        guarded.refuses("/", "", UNAVAILABLE.0, UNAVAILABLE.1).await;
    }
    assert_eq!(gate.connections(), 0);
}

#[tokio::test]
async fn a_service_is_asked_at_its_endpoints_under_its_own_name() {
    let gate = gate("HTTP/1.1 204 No Content\r\n\r\n").await;
    let rules = rules(json!({"service": {"name": "gate", "port": 80, "path": "/ask"}}));
    let app = crate::support::guarded::backend().await;
    let sites = [
        site(rules).to(app.address),
        Site::new("gate", "gate.example.test").to(gate.address),
    ];
    let front = crate::support::front::Front::start(Transport::Plain, &sites).await;
    assert!(front.upgrade(HOST, "/", "").await.is_ok());
    let asked = gate.request().await;
    assert_eq!(
        (asked.target(), asked.get("host")),
        ("/ask", Some("gate.default.svc:80"))
    );
    assert_eq!(app.hits(), 1);
}

async fn a_path_that_apps_read_in_several_ways_is_not_asked_about(over: Transport) {
    let gate = gate("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let guarded = Guarded::start_with(over, site(rules(json!({"url": at(&gate)}))), &LOOPBACK).await;
    for target in ["/public/..%2fadmin", "/public//x", "/a%5Cb"] {
        guarded.refuses(target, "", 400, "client:ambiguous_path").await;
    }
    assert_eq!(gate.hits(), 0);
    guarded.passes("/public/x", "").await;
}
