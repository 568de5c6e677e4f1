//! `cors`: preflights are answered before anybody is asked who they are; what browsers are told goes with every answer.

use http::Method;
use serde_json::{Value, json};

use crate::support::front::Transport;
use crate::support::guarded::{Guarded, HOST, policy_with, site};
use crate::support::wire::Answer;

over_each! {
    a_preflight_is_answered_without_credentials,
    no_preflight_slips_past_who_is_asked_elsewhere,
    answers_and_refusals_can_be_read_by_the_listed_origins,
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
