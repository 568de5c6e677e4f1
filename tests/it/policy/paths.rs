//! Paths that apps read in different ways, where a rule goes by the path.

use http::Method;
use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::front::{Front, Transport};
use crate::support::guarded::{Guarded, HOST, backend, policy, policy_with, site};
use crate::support::site::Site;

over_each! {
    ambiguous_paths_are_refused_where_a_rule_goes_by_the_path,
    no_spelling_of_a_denied_path_passes,
    with_pass_no_spelling_passes_either,
    no_spelling_lets_through_what_only_one_path_may,
}

const ADMIN: &str = "/admin";

async fn ambiguous_paths_are_refused_where_a_rule_goes_by_the_path(over: Transport) {
    let deny = json!([{"name": "no", "match": [{"path": {"prefix": ADMIN}}], "firewall": {"action": "Deny"}}]);
    let guarded = Guarded::start(over, deny).await;
    for target in [
        "/a%2Fb",
        "/a%2fb",
        "/a%5Cb",
        "/a%00",
        "//a",
        "/a//b",
        "/%2e%2e/a",
        "/a/.%2e",
        "/%c0%af",
        "/a%zz",
    ] {
        guarded.refuses(target, "", 400, "client:ambiguous_path").await;
    }
    // Encoded where it need not be, resolved or not: there is one reading, or all of them are harmless.
    for target in ["/%61", "/a/../b", "/a;b=c", "/%C3%A4", "/a%20b", "/a/?x=//%2F"] {
        let [plain, _] = guarded.passes(target, "").await;
        assert_eq!(
            plain.line,
            format!("GET {target} HTTP/1.1"),
            "the path is sent as it came"
        );
    }
}

async fn no_spelling_of_a_denied_path_passes(over: Transport) {
    let deny = json!([{"name": "no", "match": [{"path": {"prefix": ADMIN}}], "firewall": {"action": "Deny"}}]);
    let guarded = Guarded::start(over, deny).await;
    for target in [
        "/admin",
        "/%61dmin",
        "/x/../admin",
        "/./admin",
        "/admin;x=1",
        "/admin;x=1/y",
        "/x/..;/admin",
        "/x/..%3B/admin",
        "/x/..%3bx=1/admin",
        "/admin%3Bx",
        "/admin/../admin",
        "/admin/./x",
        "/admin/%20",
        "/admin/../other",
    ] {
        guarded.refuses(target, "", 403, "client:firewall_denied").await;
    }
}

fn passing(rules: Value) -> Site {
    site(rules).spec(json!({"ambiguousPaths": "Pass"}))
}

async fn with_pass_no_spelling_passes_either(over: Transport) {
    let deny = json!([{"name": "no", "match": [{"path": {"prefix": ADMIN}}], "firewall": {"action": "Deny"}}]);
    let guarded = Guarded::start_with(over, passing(deny), &[]).await;
    for target in [
        "//admin",
        "/%2Fadmin",
        "/x%2F..%2Fadmin",
        "/x/%2e%2e/admin",
        "/x//../admin",
        "/%5Cadmin",
        "/admin%00",
        "/admin%00.html",
    ] {
        guarded.refuses(target, "", 403, "client:firewall_denied").await;
    }
    for target in ["/a%2Fb", "//a", "/a%5Cb"] {
        guarded.passes(target, "").await;
    }
}

async fn no_spelling_lets_through_what_only_one_path_may(over: Transport) {
    let rules = json!([
        {"name": "public", "match": [{"path": {"prefix": "/public"}}], "firewall": {"action": "Allow"}},
        {"name": "others", "firewall": {"action": "Deny"}},
    ]);
    let inverse = json!([
        {"name": "others", "match": [{"path": {"prefix": "/public"}, "not": true}], "firewall": {"action": "Deny"}},
    ]);
    for rules in [rules, inverse] {
        let guarded = Guarded::start_with(over, passing(rules), &[]).await;
        guarded.passes("/public/x", "").await;
        for target in [
            "/public/../admin",
            "/public/..;/admin",
            "/public%2F..%2Fadmin",
            "/x/../public",
            "/public/%2e%2e/x",
        ] {
            guarded.refuses(target, "", 403, "client:firewall_denied").await;
        }
    }
}

#[tokio::test]
async fn what_is_kept_from_the_root_is_kept_from_the_asterisk() {
    let deny = json!([{"name": "no", "match": [{"path": {"prefix": "/"}}], "firewall": {"action": "Deny"}}]);
    let guarded = Guarded::start(Transport::Plain, deny).await;
    let answer = guarded.front.ask(Method::OPTIONS, HOST, "*", "", b"").await;
    assert_eq!((answer.status(), guarded.backend.hits()), (403, 0));
}

/// One app behind two Deployments, as where only a part of it is kept from strangers.
async fn split(open: Value, guarded: Value) -> (Front, Backend) {
    let backend = backend().await;
    let deny = json!({
        "targetRefs": [{"name": "guarded"}],
        "rules": [{"name": "no", "firewall": {"action": "Deny"}}],
    });
    let sites = [
        Site::new("open", HOST).spec(open).to(backend.address),
        Site::new("guarded", HOST)
            .spec(guarded)
            .to(backend.address)
            .with(policy_with("guard", deny)),
    ];
    let front = Front::start_with(Transport::Plain, &sites, &[]).await;
    (front, backend)
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_past_the_rules_of_its_deployment() {
    let (front, backend) = split(json!({}), json!({"paths": [{"path": ADMIN}]})).await;
    assert_eq!(front.get(HOST, ADMIN).await.status(), 403);
    for target in [
        "/%61dmin",
        "//admin",
        "/x/../admin",
        "/x%2F..%2Fadmin",
        "/admin;a",
        "/x/..;/admin/y",
        "/%5Cadmin",
        "/;%2Fadmin",
        "/;%5C..%2Fadmin",
        // Harmless as far as anybody knows: but no list of what apps make of a path is complete.
        "/a%2Fb",
        "//a",
    ] {
        let answer = front.get(HOST, target).await;
        assert_eq!(
            answer.head.get("x-postern-error"),
            Some("client:ambiguous_path"),
            "{target}"
        );
        assert_eq!(answer.status(), 400, "{target}");
    }
    assert_eq!(backend.hits(), 0);
    for target in ["/a/../b", "/%C3%A4", "/a;b=c"] {
        assert_eq!(
            front.get(HOST, target).await.status(),
            200,
            "{target}: all readings are the open one's"
        );
    }
}

#[tokio::test]
async fn no_detour_through_an_open_path_leads_past_the_rules_of_the_rest() {
    let (front, backend) = split(json!({"paths": [{"path": "/public"}]}), json!({})).await;
    for target in ["/public/../x", "/public/%2e%2e/x", "/public/..;/x", "/public%2F..%2Fx"] {
        let status = front.get(HOST, target).await.status();
        assert!(matches!(status, 400 | 403), "{target}: {status}");
    }
    assert_eq!(backend.hits(), 0);
    assert_eq!(front.get(HOST, "/public/%20x").await.status(), 200);
}

#[tokio::test]
async fn with_pass_no_reading_of_a_path_leads_past_the_rules_of_another_deployment() {
    let open = json!({"ambiguousPaths": "Pass"});
    let (front, backend) = split(open, json!({"paths": [{"path": ADMIN}]})).await;
    for target in ["//admin", "/;%2Fadmin", "/;%5C..%2Fadmin", "/x%2F..%2Fadmin"] {
        let answer = front.get(HOST, target).await;
        let code = answer.head.get("x-postern-error");
        assert_eq!(
            (answer.status(), code),
            (400, Some("client:ambiguous_path")),
            "{target}"
        );
    }
    assert_eq!(backend.hits(), 0);
    for target in ["/group%2Fproject", "//a", "/x%2F..%2Fy"] {
        assert_eq!(front.get(HOST, target).await.status(), 200, "{target}");
    }
}

#[tokio::test]
async fn with_pass_no_reading_of_a_path_passes_a_rule() {
    let deny = json!([{"name": "no", "match": [{"path": {"prefix": ADMIN}}], "firewall": {"action": "Deny"}}]);
    let guarded = Guarded::start_with(Transport::Plain, passing(deny), &[]).await;
    for target in [
        "/;%2Fadmin",
        "/;%5C..%2Fadmin",
        "/;%2fadmin%00.css",
        "/x;%2F..%2F..%2Fadmin",
    ] {
        guarded.refuses(target, "", 403, "client:firewall_denied").await;
    }
}

#[tokio::test]
async fn where_no_rule_goes_by_the_path_every_path_passes() {
    let rules = json!([{"name": "no", "match": [{"header": {"name": "x-no"}}], "firewall": {"action": "Deny"}}]);
    let guarded = Guarded::start(Transport::Plain, rules).await;
    for target in ["//a", "/a%2Fb", "/%2e%2e"] {
        guarded.passes(target, "").await;
    }
}

#[tokio::test]
async fn a_shadow_rule_on_paths_refuses_none() {
    let rules = json!([
        {"name": "no", "mode": "Shadow", "match": [{"path": {"prefix": "/a"}}], "firewall": {"action": "Deny"}},
    ]);
    let site = Site::new("app", HOST).with(policy("guard", rules));
    let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
    for target in ["//a", "/a", "/a%2Fb"] {
        guarded.passes(target, "").await;
    }
}
