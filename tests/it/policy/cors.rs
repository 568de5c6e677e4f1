//! `cors`: preflights are answered before anybody is asked who they are; what browsers are told goes with every answer.

use http::Method;
use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::front::{Front, Transport};
use crate::support::guarded::{Guarded, HOST, policy_with, site};
use crate::support::wire::Answer;

over_each! {
    a_preflight_is_answered_without_credentials,
    no_preflight_slips_past_who_is_asked_elsewhere,
    answers_and_refusals_can_be_read_by_the_listed_origins,
    the_first_rule_speaks_wherever_it_stands,
    everybody_may_read_where_the_rule_says_so,
}

const PAGE: &str = "https://page.test";

fn rules(cors: Value) -> Value {
    json!([
        {"name": "no", "match": [{"path": {"prefix": "/no"}}], "firewall": {"action": "Deny"}},
        {"name": "keys", "apiKey": {"secretSelector": {"matchLabels": {"app": "app"}}, "from": [{"bearer": {}}]}},
        {"name": "cors", "cors": cors},
    ])
}

fn preflight(origin: &str) -> String {
    format!("Origin: {origin}\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a, x-b\r\n")
}

fn told<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.head.get(&format!("access-control-{name}"))
}

async fn a_preflight_is_answered_without_credentials(over: Transport) {
    let cors = json!({
        "origins": [PAGE], "methods": ["GET", "PUT"], "headers": ["x-a", "authorization"], "credentials": true, "maxAge": "10m",
    });
    let guarded = Guarded::start(over, rules(cors)).await;
    let ask = async |target, more: &str| guarded.front.ask(Method::OPTIONS, HOST, target, more, b"").await;
    let answer = ask("/", &preflight(PAGE)).await;
    assert_eq!(answer.status(), 204, "{answer:?}");
    assert_eq!(told(&answer, "allow-origin"), Some(PAGE));
    assert_eq!(told(&answer, "allow-credentials"), Some("true"));
    assert_eq!(told(&answer, "allow-methods"), Some("GET, PUT"));
    assert_eq!(told(&answer, "allow-headers"), Some("x-a, authorization"));
    assert_eq!(told(&answer, "max-age"), Some("600"));
    assert!(answer.head.has("x-request-id"));

    let foreign = ask("/", &preflight("https://evil.test")).await;
    assert_eq!((foreign.status(), told(&foreign, "allow-origin")), (204, None));
    // What stands before it in order still decides; what is no preflight needs its credentials.
    assert_eq!(ask("/no", &preflight(PAGE)).await.status(), 403);
    assert_eq!(ask("/", "").await.status(), 401);
    assert_eq!(ask("/", &format!("Origin: {PAGE}\r\n")).await.status(), 401);
    assert_eq!(guarded.backend.hits(), 0);
}

async fn no_preflight_slips_past_who_is_asked_elsewhere(over: Transport) {
    let key = json!([{"name": "keys", "apiKey": {"secretSelector": {}}}]);
    let lenient = json!([
        {"name": "free", "match": [{"path": {"prefix": "/free"}}], "firewall": {"action": "Allow"}},
        {"name": "cors", "cors": {"origins": [PAGE]}},
    ]);
    let site = site(key).with(policy_with("pages", json!({"priority": 1, "rules": lenient})));
    let guarded = Guarded::start_with(over, site, &[]).await;
    for target in ["/", "/free"] {
        let answer = guarded
            .front
            .ask(Method::OPTIONS, HOST, target, &preflight(PAGE), b"")
            .await;
        assert_eq!((answer.status(), told(&answer, "allow-origin")), (204, Some(PAGE)));
    }
    assert_eq!(guarded.backend.hits(), 0);
}

async fn answers_and_refusals_can_be_read_by_the_listed_origins(over: Transport) {
    let rules = json!([
        {"name": "cors", "cors": {"origins": [PAGE, "https://*.pages.test"], "exposed": ["x-a"]}},
        {"name": "no", "match": [{"path": {"prefix": "/no"}}], "firewall": {"action": "Deny"}},
    ]);
    let guarded = Guarded::start(over, rules).await;
    for (target, status) in [("/", 200), ("/no", 403)] {
        for origin in [PAGE, "https://a.pages.test"] {
            let answer = guarded.get(target, &format!("Origin: {origin}\r\n")).await;
            assert_eq!((answer.status(), told(&answer, "allow-origin")), (status, Some(origin)));
            assert_eq!(told(&answer, "expose-headers"), Some("x-a"));
            assert!(
                answer.head.get("vary").is_some_and(|vary| vary.contains("origin")),
                "{answer:?}"
            );
        }
        let answer = guarded.get(target, "Origin: https://evil.test\r\n").await;
        assert_eq!((answer.status(), told(&answer, "allow-origin")), (status, None));
    }
}

async fn the_first_rule_speaks_wherever_it_stands(over: Transport) {
    const OTHER: &str = "https://other.test";
    let rules = json!([
        {"name": "free", "match": [{"path": {"prefix": "/free"}}], "firewall": {"action": "Allow"}},
        {"name": "keys", "apiKey": {"secretSelector": {}, "from": [{"bearer": {}}]}},
        {"name": "dark", "mode": "Shadow", "cors": {"origins": [OTHER]}},
        {"name": "elsewhere", "match": [{"path": {"prefix": "/else"}}], "cors": {"origins": [OTHER]}},
        {"name": "first", "cors": {"origins": [PAGE]}},
        {"name": "second", "cors": {"origins": [OTHER, PAGE], "credentials": true}},
    ]);
    let guarded = Guarded::start(over, rules).await;
    for (target, status) in [("/", 401), ("/free", 200), ("//x", 400)] {
        for (origin, told_origin) in [(PAGE, Some(PAGE)), (OTHER, None)] {
            let answer = guarded.get(target, &format!("Origin: {origin}\r\n")).await;
            assert_eq!(answer.status(), status, "{target}: {answer:?}");
            assert_eq!(told(&answer, "allow-origin"), told_origin, "{target}: {answer:?}");
            assert_eq!(told(&answer, "allow-credentials"), None);
            if status != 400 {
                let more = preflight(origin);
                let asked = guarded.front.ask(Method::OPTIONS, HOST, target, &more, b"").await;
                assert_eq!((asked.status(), told(&asked, "allow-origin")), (204, told_origin));
                assert_eq!(told(&asked, "allow-credentials"), None);
            }
        }
    }
    assert_eq!(guarded.backend.hits(), 2);
}

async fn everybody_may_read_where_the_rule_says_so(over: Transport) {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAccess-Control-Allow-Origin: https://app.test\r\n\
                  Access-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: x-secret\r\n\r\n";
    let backend = Backend::answering(answer).await;
    let all = json!([
        {"name": "some", "match": [{"path": {"prefix": "/some"}}], "cors": {"origins": [PAGE]}},
        {"name": "all", "cors": {"origins": ["*"], "headers": ["*"], "exposed": ["*"]}},
    ]);
    let front = Front::start(over, &[site(all).to(backend.address)]).await;
    let asked = front
        .ask(Method::OPTIONS, HOST, "/", &preflight("https://any.test"), b"")
        .await;
    assert_eq!((asked.status(), told(&asked, "allow-origin")), (204, Some("*")));
    assert_eq!(told(&asked, "allow-methods"), Some("GET, HEAD, POST"));
    assert_eq!(told(&asked, "allow-headers"), Some("x-a, x-b"));
    assert!(!asked.head.has("access-control-max-age") && told(&asked, "allow-credentials").is_none());
    assert_eq!(backend.hits(), 0);
    let any = "Origin: https://any.test\r\n";
    let answer = front.ask(Method::GET, HOST, "/", any, b"").await;
    assert_eq!(
        (told(&answer, "allow-origin"), told(&answer, "expose-headers")),
        (Some("*"), Some("*"))
    );
    assert_eq!(told(&answer, "allow-credentials"), None, "the app has no word in it");
    let answer = front.ask(Method::GET, HOST, "/some", any, b"").await;
    for name in ["allow-origin", "allow-credentials", "expose-headers"] {
        assert_eq!(told(&answer, name), None, "{answer:?}");
    }
}
