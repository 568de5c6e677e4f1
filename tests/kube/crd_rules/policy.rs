//! The same of SentinelPolicy.

use kube::api::{Patch, PatchParams, PostParams, ValidationDirective};
use postern::api::policy::{
    ApiKey, BasicAuth, ByRemoteIp, Cors, ForwardAuth, Jwt, Logging, Mode, OpenApi, Origin, RateLimit, SentinelPolicy,
    SentinelPolicySpec,
};
use serde_json::{Value, json};

use super::{accepts, changed, list, of_kind, refuses, table, untyped};
use crate::cluster::{Cluster, applying};

fn valid() -> Value {
    json!({"targetRefs": [{"name": "app"}], "rules": [{"name": "a", "firewall": {"action": "Deny"}}]})
}

fn with(change: Value) -> Value {
    changed(valid(), change)
}

/// A policy of one rule of this kind.
fn rule(kind: Value) -> Value {
    with(json!({"rules": [changed(json!({"name": "a"}), kind)]}))
}

/// A policy of one rule with these matches.
fn matching(matches: Value) -> Value {
    rule(json!({"match": matches, "firewall": {"action": "Deny"}}))
}

fn jwt(change: Value) -> Value {
    let jwt = json!({"issuer": "i", "audiences": ["a"], "jwks": {"url": "https://idp.example.com/keys"}, "algorithms": ["ES256"]});
    rule(json!({"jwt": changed(jwt, change)}))
}

fn rate_limit(change: Value) -> Value {
    rule(json!({"rateLimit": changed(json!({"limit": 10, "window": "1m"}), change)}))
}

fn from(source: Value) -> Value {
    rule(json!({"apiKey": {"secretSelector": {}, "from": [source]}}))
}

fn text(length: usize) -> Value {
    json!("a".repeat(length))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_decided_is_accepted() {
    let cluster = Cluster::shared("policy-accepted").await;
    let names = |count: usize| list(count, |i| json!({"name": format!("n-{i}")}));
    let path = |kind: &str, text: &str| json!([{"path": {kind: text, "ignoreCase": true}}]);
    let edit = json!({"name": "X-Frame-Options", "value": ""});
    let accepted = [
        with(json!({})),
        with(json!({"targetRefs": [{"group": "postern.dev", "kind": "Deployment", "name": "app.v2"}]})),
        with(json!({"targetRefs": names(16)})),
        with(json!({"targetRefs": null, "targetSelector": {}})),
        with(
            json!({"targetRefs": null, "targetSelector": {"matchLabels": {"app.kubernetes.io/name": "chat", "b": ""}}}),
        ),
        with(json!({"priority": -1000, "mode": "Shadow"})),
        with(
            json!({"rules": list(64, |i| json!({"name": format!("r{i}"), "enabled": false, "mode": "Shadow", "firewall": {"action": "Allow"}}))}),
        ),
        matching(list(16, |_| json!({"webSocket": false}))),
        matching(path("exact", "/")),
        matching(path("prefix", "/a/ü b")),
        matching(path("suffix", ".php")),
        matching(path("regex", "/v[0-9]+/.*")),
        matching(json!([{"method": ["GET", "M-SEARCH"], "not": true}])),
        matching(
            json!([{"header": {"name": "X-A"}}, {"header": {"name": "X-A", "present": false}}, {"header": {"name": "X-A", "value": {"exact": ""}}}]),
        ),
        matching(json!([{"query": {"name": "a b[]"}}, {"query": {"name": "a", "value": {"suffix": "b"}}}])),
        matching(json!([{"cookie": {"name": "a", "value": {"regex": "b+"}}}])),
        matching(json!([{"remoteIp": ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::/0"]}, {"webSocket": true}])),
        rule(
            json!({"apiKey": {"secretSelector": {"matchLabels": {"app": "chat"}}, "permissions": "a AND (b OR c)", "optional": true}}),
        ),
        rule(json!({"apiKey": {"secretRefs": names(64), "from": [
            {"bearer": {}},
            {"header": {"name": "X-Api-Key"}},
            {"header": {"name": "Authorization", "prefix": "Token "}, "forward": false},
            {"query": {"name": "api key"}, "forward": true},
            {"cookie": {"name": "key"}},
            {"subprotocol": {"prefix": "bearer."}},
        ]}})),
        jwt(json!({"audiences": [], "jwks": {"secretRef": {"name": "keys"}}})),
        jwt(json!({"jwks": {"configMapRef": {"name": "keys"}}, "clockSkew": "0s"})),
        jwt(json!({"jwks": {"url": "http://[2001:db8::1]:8080/keys?a=b"}, "clockSkew": "10m"})),
        jwt(json!({"algorithms": ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]})),
        jwt(
            json!({"requiredClaims": [{"claim": "https://example.com/tenant"}, {"claim": "tier", "value": "gold"}], "permissionsClaim": "scope"}),
        ),
        rule(json!({"basicAuth": {"secretRef": {"name": "users"}, "realm": "staff only", "forward": false}})),
        rule(json!({"forwardAuth": {"url": "https://auth.example.com", "timeout": "5s"}})),
        rule(
            json!({"forwardAuth": {"service": {"name": "auth", "port": "http", "path": "/check?a=b"}, "timeout": "1ms", "responseHeaders": ["X-User", "Authorization"], "subjectHeader": "X-User"}}),
        ),
        rate_limit(json!({"limit": 1_000_000_000, "window": "24h", "cost": 1_000_000_000})),
        rate_limit(json!({"window": "1s", "scope": "Shared", "onStoreFailure": "Deny"})),
        rate_limit(json!({"by": [
            {"remoteIp": {}},
            {"remoteIp": {"ipv6PrefixLength": 128}},
            {"header": {"name": "X-Tenant"}},
            {"authenticatedSubject": {}},
            {"path": {}},
            {"principalField": {"name": "source.key.meta.plan"}},
            {"host": {}},
        ]})),
        rule(json!({"connectionLimit": {"max": 1, "by": [{"remoteIp": {}}], "scope": "Shared"}})),
        rule(json!({"origin": {"allowed": [
            "same-host",
            "https://app.example.com",
            "https://*.example.com:8443",
            "http://localhost:3000",
            "http://[::1]:3000",
            "chrome-extension://abcdefgh",
        ], "allowMissing": false}})),
        rule(
            json!({"openapi": {"documentRef": {"name": "api"}, "validate": ["Query", "Body"], "maxBodyBytes": 16_777_216}}),
        ),
        rule(json!({"openapi": {"documentRef": {"name": "api"}, "validate": []}})),
        rule(json!({"cors": {"origins": ["*"], "headers": ["*"], "exposed": ["*"]}})),
        rule(
            json!({"cors": {"origins": ["https://app.example.com"], "methods": ["PUT"], "headers": ["X-A"], "credentials": true, "maxAge": "24h"}}),
        ),
        rule(
            json!({"requestHeaders": {"set": [edit, {"name": "Authorization", "value": "Basic eDp5"}], "add": [edit, edit], "remove": ["Cookie", "X-Posterns"]}}),
        ),
        rule(json!({"responseHeaders": {"remove": ["Server"]}})),
        rule(json!({"logging": {}})),
        rule(
            json!({"logging": {"requestHeaders": ["User-Agent"], "responseHeaders": ["Location"], "query": true, "sample": 1}}),
        ),
    ];
    for spec in accepted {
        accepts(
            &untyped::<SentinelPolicy>(&cluster),
            &of_kind("SentinelPolicy", "a", spec),
        )
        .await;
    }
}

/// The apiserver bounds what the CRD's rules may cost on one object, too. All bounds are reached here.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_policy_is_accepted() {
    let cluster = Cluster::shared("policy-largest").await;
    let name = |i: usize| format!("{i:0>128}");
    let lines = list(32, |i| json!({"name": name(i), "value": ""}));
    let matches = list(
        16,
        |_| json!({"remoteIp": list(64, |i| json!(format!("10.0.{i}.0/24")))}),
    );
    let rule = |kind: &str, i: usize| {
        let edits = json!({"set": lines, "add": lines, "remove": list(32, |i| json!(name(i)))});
        json!({"name": format!("r-{i}"), "match": matches, kind: edits})
    };
    let rules = list(64, |i| rule(["requestHeaders", "responseHeaders"][i % 2], i));
    let object = of_kind("SentinelPolicy", "a", with(json!({"rules": rules})));
    accepts(&untyped::<SentinelPolicy>(&cluster), &object).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decided_is_refused_and_the_field_is_named() {
    let cluster = Cluster::shared("policy-refused").await;
    let names = |count: usize| list(count, |i| json!({"name": format!("n-{i}")}));
    let deny = json!({"action": "Deny"});
    let forward_auth = |change: Value| {
        let valid = json!({"url": "https://auth.example.com"});
        rule(json!({"forwardAuth": changed(valid, change)}))
    };
    let origin = |origin: &str| rule(json!({"origin": {"allowed": [origin]}}));
    let cors = |change: Value| rule(json!({"cors": changed(json!({"origins": ["https://a.test"]}), change)}));
    let by = |part: Value| rate_limit(json!({"by": [part]}));
    let set = |name: &str, value: &str| rule(json!({"requestHeaders": {"set": [{"name": name, "value": value}]}}));
    let header = |value: Value| matching(json!([{"header": {"name": "X-A", "value": value}}]));
    let one_of = "needs exactly one of";
    let at = "spec.rules[0]";
    let refused = [
        // The whole.
        (with(json!({"targetRefs": null})), "spec", one_of),
        (with(json!({"targetSelector": {}})), "spec", one_of),
        (with(json!({"targetRefs": []})), "spec.targetRefs", "at least 1"),
        (with(json!({"targetRefs": names(17)})), "spec.targetRefs", "Too many"),
        (
            with(json!({"targetRefs": [{"name": "a"}, {"kind": "Deployment", "name": "a"}]})),
            "spec.targetRefs[1]",
            "Duplicate",
        ),
        (
            with(json!({"targetRefs": [{"group": "apps", "name": "a"}]})),
            "spec.targetRefs[0].group",
            "Unsupported",
        ),
        (
            with(json!({"targetRefs": [{"kind": "Service", "name": "a"}]})),
            "spec.targetRefs[0].kind",
            "Unsupported",
        ),
        (
            with(json!({"targetRefs": [{"name": "other/a"}]})),
            "spec.targetRefs[0].name",
            "match",
        ),
        (
            with(json!({"targetRefs": null, "targetSelector": {"matchLabels": {"a": "b c"}}})),
            "spec.targetSelector.matchLabels.a",
            "match",
        ),
        (with(json!({"priority": 1001})), "spec.priority", "1000"),
        (with(json!({"priority": -1001})), "spec.priority", "-1000"),
        (with(json!({"mode": "Warn"})), "spec.mode", "Unsupported"),
        (with(json!({"rules": null})), "spec.rules", "Required"),
        (with(json!({"rules": []})), "spec.rules", "at least 1"),
        (
            with(json!({"rules": list(65, |i| json!({"name": format!("r{i}"), "firewall": deny}))})),
            "spec.rules",
            "Too many",
        ),
        (
            with(json!({"rules": [{"name": "a", "firewall": deny}, {"name": "a", "logging": {}}]})),
            "spec.rules[1]",
            "Duplicate",
        ),
        // A rule.
        (rule(json!({})), at, "needs exactly one of firewall, apiKey, jwt"),
        (
            rule(json!({"challenge": {}})),
            at,
            "needs exactly one of firewall, apiKey, jwt",
        ),
        (
            rule(json!({"firewall": deny, "logging": {}})),
            at,
            "needs exactly one of firewall, apiKey, jwt",
        ),
        (
            rule(json!({"name": null, "logging": {}})),
            "spec.rules[0].name",
            "Required",
        ),
        (
            rule(json!({"name": "No Admin", "logging": {}})),
            "spec.rules[0].name",
            "match",
        ),
        (
            rule(json!({"name": text(64), "logging": {}})),
            "spec.rules[0].name",
            "63",
        ),
        (
            rule(json!({"mode": "Warn", "logging": {}})),
            "spec.rules[0].mode",
            "Unsupported",
        ),
        (
            rule(json!({"firewall": {}})),
            "spec.rules[0].firewall.action",
            "Required",
        ),
        (
            rule(json!({"firewall": {"action": "Challenge"}})),
            "spec.rules[0].firewall.action",
            "Unsupported",
        ),
        // Its matches.
        (
            matching(list(17, |_| json!({"webSocket": true}))),
            "spec.rules[0].match",
            "Too many",
        ),
        (matching(json!([{}])), "spec.rules[0].match[0]", one_of),
        (matching(json!([{"not": true}])), "spec.rules[0].match[0]", one_of),
        (
            matching(json!([{"webSocket": true, "method": ["GET"]}])),
            "spec.rules[0].match[0]",
            one_of,
        ),
        (matching(json!([{"path": {}}])), "spec.rules[0].match[0].path", one_of),
        (
            matching(json!([{"path": {"exact": "/a", "prefix": "/a"}}])),
            "spec.rules[0].match[0].path",
            one_of,
        ),
        (
            matching(json!([{"path": {"exact": "a"}}])),
            "spec.rules[0].match[0].path",
            "a path must begin with /",
        ),
        (
            matching(json!([{"path": {"prefix": "a"}}])),
            "spec.rules[0].match[0].path",
            "a path must begin with /",
        ),
        (
            matching(json!([{"path": {"prefix": ""}}])),
            "spec.rules[0].match[0].path.prefix",
            "at least 1",
        ),
        (
            matching(json!([{"path": {"regex": text(513)}}])),
            "spec.rules[0].match[0].path.regex",
            "512",
        ),
        (
            matching(json!([{"method": []}])),
            "spec.rules[0].match[0].method",
            "at least 1",
        ),
        (
            matching(json!([{"method": ["get"]}])),
            "spec.rules[0].match[0].method[0]",
            "match",
        ),
        (
            matching(json!([{"method": ["GET", "GET"]}])),
            "spec.rules[0].match[0].method[1]",
            "Duplicate",
        ),
        (
            matching(json!([{"header": {"name": "a b"}}])),
            "spec.rules[0].match[0].header.name",
            "match",
        ),
        (
            matching(json!([{"header": {"name": "a:"}}])),
            "spec.rules[0].match[0].header.name",
            "match",
        ),
        (
            matching(json!([{"header": {"name": "a", "present": true, "value": {"exact": "b"}}}])),
            "spec.rules[0].match[0].header",
            "present and value are mutually exclusive",
        ),
        (
            matching(json!([{"query": {"name": "a", "present": true, "value": {"exact": "b"}}}])),
            "spec.rules[0].match[0].query",
            "present and value are mutually exclusive",
        ),
        (header(json!({})), "spec.rules[0].match[0].header.value", one_of),
        (
            header(json!({"ignoreCase": true})),
            "spec.rules[0].match[0].header.value",
            one_of,
        ),
        (
            header(json!({"prefix": "a", "suffix": "b"})),
            "spec.rules[0].match[0].header.value",
            one_of,
        ),
        (
            header(json!({"suffix": ""})),
            "spec.rules[0].match[0].header.value.suffix",
            "at least 1",
        ),
        (
            header(json!({"exact": text(1025)})),
            "spec.rules[0].match[0].header.value.exact",
            "1024",
        ),
        (
            matching(json!([{"cookie": {"name": ""}}])),
            "spec.rules[0].match[0].cookie.name",
            "at least 1",
        ),
        (
            matching(json!([{"remoteIp": []}])),
            "spec.rules[0].match[0].remoteIp",
            "at least 1",
        ),
        (
            matching(json!([{"remoteIp": ["10.0.0.0/33"]}])),
            "spec.rules[0].match[0].remoteIp",
            "every network",
        ),
        (
            matching(json!([{"remoteIp": ["10.0.0.1"]}])),
            "spec.rules[0].match[0].remoteIp",
            "every network",
        ),
        (
            matching(json!([{"remoteIp": ["10.0.0/8"]}])),
            "spec.rules[0].match[0].remoteIp",
            "every network",
        ),
        (
            matching(json!([{"remoteIp": ["::ffff:10.0.0.0/104"]}])),
            "spec.rules[0].match[0].remoteIp",
            "every network",
        ),
        // Who calls.
        (rule(json!({"apiKey": {}})), "spec.rules[0].apiKey", one_of),
        (
            rule(json!({"apiKey": {"secretSelector": {}, "secretRefs": names(1)}})),
            "spec.rules[0].apiKey",
            one_of,
        ),
        (
            rule(json!({"apiKey": {"secretRefs": []}})),
            "spec.rules[0].apiKey.secretRefs",
            "at least 1",
        ),
        (
            rule(json!({"apiKey": {"secretRefs": names(65)}})),
            "spec.rules[0].apiKey.secretRefs",
            "Too many",
        ),
        (
            rule(json!({"apiKey": {"secretSelector": {}, "permissions": ""}})),
            "spec.rules[0].apiKey.permissions",
            "at least 1",
        ),
        (
            rule(json!({"apiKey": {"secretSelector": {}, "permissions": text(1001)}})),
            "spec.rules[0].apiKey.permissions",
            "1000",
        ),
        (
            rule(json!({"apiKey": {"secretSelector": {}, "from": []}})),
            "spec.rules[0].apiKey.from",
            "at least 1",
        ),
        (
            rule(json!({"apiKey": {"secretSelector": {}, "from": list(9, |_| json!({"bearer": {}}))}})),
            "spec.rules[0].apiKey.from",
            "Too many",
        ),
        (from(json!({})), "spec.rules[0].apiKey.from[0]", one_of),
        (from(json!({"forward": true})), "spec.rules[0].apiKey.from[0]", one_of),
        (
            from(json!({"bearer": {}, "query": {"name": "a"}})),
            "spec.rules[0].apiKey.from[0]",
            one_of,
        ),
        (
            from(json!({"header": {}})),
            "spec.rules[0].apiKey.from[0].header.name",
            "Required",
        ),
        (
            from(json!({"subprotocol": {"prefix": ""}})),
            "spec.rules[0].apiKey.from[0].subprotocol.prefix",
            "at least 1",
        ),
        (
            from(json!({"subprotocol": {"prefix": "a, b"}})),
            "spec.rules[0].apiKey.from[0].subprotocol.prefix",
            "match",
        ),
        (
            from(json!({"cookie": {"name": "a=b"}})),
            "spec.rules[0].apiKey.from[0].cookie.name",
            "match",
        ),
        (jwt(json!({"issuer": null})), "spec.rules[0].jwt.issuer", "Required"),
        (
            jwt(json!({"audiences": null})),
            "spec.rules[0].jwt.audiences",
            "Required",
        ),
        (
            jwt(json!({"algorithms": null})),
            "spec.rules[0].jwt.algorithms",
            "Required",
        ),
        (
            jwt(json!({"algorithms": []})),
            "spec.rules[0].jwt.algorithms",
            "at least 1",
        ),
        (
            jwt(json!({"algorithms": ["HS256"]})),
            "spec.rules[0].jwt.algorithms[0]",
            "Unsupported",
        ),
        (
            jwt(json!({"algorithms": ["none"]})),
            "spec.rules[0].jwt.algorithms[0]",
            "Unsupported",
        ),
        (jwt(json!({"jwks": {}})), "spec.rules[0].jwt.jwks", one_of),
        (
            jwt(json!({"jwks": {"url": "https://a.test", "secretRef": {"name": "a"}}})),
            "spec.rules[0].jwt.jwks",
            one_of,
        ),
        (
            jwt(json!({"jwks": {"url": "file:///etc/passwd"}})),
            "spec.rules[0].jwt.jwks.url",
            "match",
        ),
        (
            jwt(json!({"jwks": {"url": "https://user:password@a.test/"}})),
            "spec.rules[0].jwt.jwks.url",
            "match",
        ),
        (
            jwt(json!({"jwks": {"url": "https://a.test/\r\nHost: b"}})),
            "spec.rules[0].jwt.jwks.url",
            "match",
        ),
        (
            jwt(json!({"clockSkew": "10m1s"})),
            "spec.rules[0].jwt.clockSkew",
            "at most 10m",
        ),
        (
            jwt(json!({"requiredClaims": [{"claim": "a"}, {"claim": "a", "value": "b"}]})),
            "spec.rules[0].jwt.requiredClaims[1]",
            "Duplicate",
        ),
        (
            rule(json!({"basicAuth": {}})),
            "spec.rules[0].basicAuth.secretRef",
            "Required",
        ),
        (
            rule(json!({"basicAuth": {"secretRef": {"name": "a"}, "realm": "a\"b"}})),
            "spec.rules[0].basicAuth.realm",
            "match",
        ),
        (forward_auth(json!({"url": null})), "spec.rules[0].forwardAuth", one_of),
        (
            forward_auth(json!({"service": {"name": "a", "port": 80}})),
            "spec.rules[0].forwardAuth",
            one_of,
        ),
        (
            forward_auth(json!({"url": "auth.example.com"})),
            "spec.rules[0].forwardAuth.url",
            "match",
        ),
        (
            forward_auth(json!({"url": null, "service": {"name": "a", "port": 0}})),
            "spec.rules[0].forwardAuth.service.port",
            "1",
        ),
        (
            forward_auth(json!({"url": null, "service": {"name": "a", "port": 80, "path": "a"}})),
            "spec.rules[0].forwardAuth.service.path",
            "match",
        ),
        (
            forward_auth(json!({"timeout": "0s"})),
            "spec.rules[0].forwardAuth.timeout",
            "more than 0s and at most 5s",
        ),
        (
            forward_auth(json!({"timeout": "5s1ms"})),
            "spec.rules[0].forwardAuth.timeout",
            "more than 0s and at most 5s",
        ),
        (
            forward_auth(json!({"responseHeaders": ["X-Postern-Principal"]})),
            "spec.rules[0].forwardAuth.responseHeaders",
            "these headers are reserved for Postern",
        ),
        // How often.
        (rate_limit(json!({"limit": 0})), "spec.rules[0].rateLimit.limit", "1"),
        (
            rate_limit(json!({"limit": 1_000_000_001})),
            "spec.rules[0].rateLimit.limit",
            "1000000000",
        ),
        (
            rate_limit(json!({"limit": 1.5})),
            "spec.rules[0].rateLimit.limit",
            "int32",
        ),
        (
            rate_limit(json!({"window": null})),
            "spec.rules[0].rateLimit.window",
            "Required",
        ),
        (
            rate_limit(json!({"window": "999ms"})),
            "spec.rules[0].rateLimit.window",
            "at least 1s and at most 24h",
        ),
        (
            rate_limit(json!({"window": "24h1ms"})),
            "spec.rules[0].rateLimit.window",
            "at least 1s and at most 24h",
        ),
        (
            rate_limit(json!({"window": "60"})),
            "spec.rules[0].rateLimit.window",
            "match",
        ),
        (rate_limit(json!({"cost": 0})), "spec.rules[0].rateLimit.cost", "1"),
        (
            rate_limit(json!({"cost": 11})),
            "spec.rules[0].rateLimit",
            "cost must be at most limit",
        ),
        (
            rate_limit(json!({"scope": "Cluster"})),
            "spec.rules[0].rateLimit.scope",
            "Unsupported",
        ),
        (
            rate_limit(json!({"by": list(9, |_| json!({"path": {}}))})),
            "spec.rules[0].rateLimit.by",
            "Too many",
        ),
        (by(json!({})), "spec.rules[0].rateLimit.by[0]", one_of),
        (
            by(json!({"path": {}, "host": {}})),
            "spec.rules[0].rateLimit.by[0]",
            one_of,
        ),
        (
            by(json!({"remoteIp": {"ipv6PrefixLength": 0}})),
            "spec.rules[0].rateLimit.by[0].remoteIp.ipv6PrefixLength",
            "1",
        ),
        (
            by(json!({"remoteIp": {"ipv6PrefixLength": 129}})),
            "spec.rules[0].rateLimit.by[0].remoteIp.ipv6PrefixLength",
            "128",
        ),
        (
            by(json!({"principalField": {"name": "a..b"}})),
            "spec.rules[0].rateLimit.by[0].principalField.name",
            "match",
        ),
        (
            rule(json!({"connectionLimit": {"max": 0}})),
            "spec.rules[0].connectionLimit.max",
            "1",
        ),
        // What passes through.
        (
            rule(json!({"origin": {"allowed": []}})),
            "spec.rules[0].origin.allowed",
            "at least 1",
        ),
        (origin("app.example.com"), "spec.rules[0].origin.allowed[0]", "match"),
        (
            origin("https://app.example.com/"),
            "spec.rules[0].origin.allowed[0]",
            "match",
        ),
        (origin("https://*"), "spec.rules[0].origin.allowed[0]", "match"),
        (origin("*"), "spec.rules[0].origin.allowed[0]", "match"),
        (origin("null"), "spec.rules[0].origin.allowed[0]", "match"),
        (
            rule(json!({"openapi": {}})),
            "spec.rules[0].openapi.documentRef",
            "Required",
        ),
        (
            rule(json!({"openapi": {"documentRef": {"name": "a"}, "validate": ["Response"]}})),
            "spec.rules[0].openapi.validate[0]",
            "Unsupported",
        ),
        (
            rule(json!({"openapi": {"documentRef": {"name": "a"}, "maxBodyBytes": 16_777_217}})),
            "spec.rules[0].openapi.maxBodyBytes",
            "16777216",
        ),
        (cors(json!({"origins": null})), "spec.rules[0].cors.origins", "Required"),
        (
            cors(json!({"origins": ["same-host"]})),
            "spec.rules[0].cors.origins[0]",
            "match",
        ),
        (
            cors(json!({"origins": ["*"], "credentials": true})),
            "spec.rules[0].cors",
            "with credentials",
        ),
        (
            cors(json!({"headers": ["*"], "credentials": true})),
            "spec.rules[0].cors",
            "with credentials",
        ),
        (
            cors(json!({"exposed": ["*"], "credentials": true})),
            "spec.rules[0].cors",
            "with credentials",
        ),
        (
            cors(json!({"maxAge": "24h1s"})),
            "spec.rules[0].cors.maxAge",
            "at most 24h",
        ),
        (
            rule(json!({"requestHeaders": {}})),
            "spec.rules[0].requestHeaders",
            "at least one of",
        ),
        (set("a b", "c"), "spec.rules[0].requestHeaders.set[0].name", "match"),
        (
            set("a", "b\r\nc: d"),
            "spec.rules[0].requestHeaders.set[0].value",
            "match",
        ),
        (set("a", "b\tc"), "spec.rules[0].requestHeaders.set[0].value", "match"),
        (set("a", " b"), "spec.rules[0].requestHeaders.set[0].value", "match"),
        (set("a", "ü"), "spec.rules[0].requestHeaders.set[0].value", "match"),
        (
            rule(json!({"requestHeaders": {"set": [{"name": "a", "value": ""}, {"name": "a", "value": "b"}]}})),
            "spec.rules[0].requestHeaders.set[1]",
            "Duplicate",
        ),
        (
            rule(json!({"logging": {"sample": 0}})),
            "spec.rules[0].logging.sample",
            "1",
        ),
        (
            rule(json!({"logging": {"sample": 101}})),
            "spec.rules[0].logging.sample",
            "100",
        ),
    ];
    for (spec, field, reason) in refused {
        let object = of_kind("SentinelPolicy", "a", spec);
        refuses(&untyped::<SentinelPolicy>(&cluster), &object, field, reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_headers_cannot_be_edited_in_any_spelling() {
    let cluster = Cluster::shared("policy-reserved").await;
    let reserved = [
        "X-Postern-Principal",
        "x_postern_principal",
        "X-Postern_Error",
        "X-Forwarded-For",
        "x-forwarded-client-cert",
        "X-Deployment-Id",
        "x_deployment-id",
        "X-Real-Ip",
        "X-Request-Id",
        "Forwarded",
        "CDN-Loop",
        "cdn_loop",
        "Host",
        "Content-Length",
        "Content_Length",
        "Expect",
        "HTTP2-Settings",
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Protocol",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "UPGRADE",
    ];
    let why = "these headers are reserved for Postern";
    let api = untyped::<SentinelPolicy>(&cluster);
    for name in reserved {
        let line = json!([{"name": name, "value": "a"}]);
        for (edits, place) in [
            (json!({"set": line}), "set[0].name"),
            (json!({"add": line}), "add[0].name"),
            (json!({"remove": ["X-A", name]}), "remove"),
        ] {
            for kind in ["requestHeaders", "responseHeaders"] {
                let object = of_kind("SentinelPolicy", "a", rule(json!({kind: edits})));
                refuses(&api, &object, &format!("spec.rules[0].{kind}.{place}"), why).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_filled_in_and_are_those_of_the_code() {
    let cluster = Cluster::shared("policy-defaults").await;
    let spec = json!({"targetRefs": [{"name": "app"}], "rules": [
        {"name": "api-key", "apiKey": {"secretSelector": {}}},
        {"name": "jwt", "jwt": {"issuer": "i", "audiences": [], "jwks": {"secretRef": {"name": "a"}}, "algorithms": ["EdDSA"]}},
        {"name": "basic", "basicAuth": {"secretRef": {"name": "a"}}},
        {"name": "forward", "forwardAuth": {"service": {"name": "auth", "port": 80}}},
        {"name": "limit", "rateLimit": {"limit": 1, "window": "1s", "by": [{"remoteIp": {}}]}},
        {"name": "sockets", "connectionLimit": {"max": 1}},
        {"name": "origin", "origin": {"allowed": ["same-host"]}},
        {"name": "openapi", "openapi": {"documentRef": {"name": "api"}}},
        {"name": "cors", "cors": {"origins": ["*"]}},
        {"name": "log", "logging": {}, "match": [{"path": {"exact": "/"}}, {"header": {"name": "a", "value": {"exact": "b"}}}]},
    ]});
    let created = untyped::<SentinelPolicy>(&cluster)
        .create(&PostParams::default(), &of_kind("SentinelPolicy", "a", spec.clone()))
        .await;
    let filled = created.expect("creates").data["spec"].take();
    let ours: SentinelPolicySpec = serde_json::from_value(spec).expect("decodes");
    assert_eq!(serde_json::to_value(&ours).expect("encodes"), filled);

    assert_eq!(
        filled["targetRefs"][0],
        json!({"group": "postern.dev", "kind": "Deployment", "name": "app"})
    );
    let [api_key, jwt, basic, forward, limit, _, origin, openapi, cors, logging] = &ours.rules[..] else {
        panic!("{filled:#}")
    };
    assert_eq!(
        (ours.mode, ours.priority, api_key.enabled, api_key.mode),
        (Mode::Enforce, 0, true, None)
    );
    let from = &filled["rules"][0]["apiKey"]["from"];
    assert_eq!(from, &json!([{"bearer": {}}]));
    let (Some(ApiKey { optional: false, .. }), Some(Jwt { subject_claim, .. })) = (&api_key.api_key, &jwt.jwt) else {
        panic!("{filled:#}")
    };
    assert_eq!(
        (subject_claim.as_str(), &filled["rules"][1]["jwt"]["clockSkew"]),
        ("sub", &json!("30s"))
    );
    assert!(matches!(basic.basic_auth, Some(BasicAuth { forward: true, .. })));
    let Some(ForwardAuth {
        timeout,
        request_headers,
        fail_open: false,
        ..
    }) = &forward.forward_auth
    else {
        panic!("{filled:#}")
    };
    assert_eq!(timeout.to_string(), "2s");
    assert_eq!(request_headers, &["Authorization", "Cookie"]);
    let Some(RateLimit { cost: 1, by, .. }) = &limit.rate_limit else {
        panic!("{filled:#}")
    };
    assert_eq!(by[0].remote_ip, Some(ByRemoteIp { ipv6_prefix_length: 64 }));
    assert!(matches!(
        origin.origin,
        Some(Origin {
            allow_missing: true,
            ..
        })
    ));
    let Some(OpenApi {
        validate,
        max_body_bytes: 1_048_576,
        ..
    }) = &openapi.openapi
    else {
        panic!("{filled:#}")
    };
    assert_eq!(validate.len(), 5);
    assert!(
        matches!(&cors.cors, Some(Cors { credentials: false, max_age: None, methods, .. }) if methods == &["GET", "HEAD", "POST"])
    );
    assert!(matches!(
        logging.logging,
        Some(Logging {
            query: false,
            sample: 100,
            ..
        })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_managers_share_a_policy_by_its_rules_names() {
    let cluster = Cluster::shared("policy-apply").await;
    let api = untyped::<SentinelPolicy>(&cluster);
    let apply = |manager: &'static str, spec: Value| {
        let patch = Patch::Apply(of_kind("SentinelPolicy", "a", spec));
        let api = api.clone();
        async move { api.patch("a", &PatchParams::apply(manager), &patch).await }
    };
    let first = apply("one", valid()).await.expect("applies");
    let second = apply("one", valid()).await.expect("applies");
    assert_eq!(first.metadata.resource_version, second.metadata.resource_version);

    let theirs = json!({"targetRefs": [{"name": "other"}], "rules": [{"name": "b", "logging": {"sample": 5}}]});
    let both = apply("two", theirs).await.expect("applies beside the other").data["spec"].take();
    let names = |list: &Value| -> Vec<Value> {
        let items = list.as_array().expect("a list").iter();
        items.map(|item| item["name"].clone()).collect()
    };
    assert_eq!(names(&both["rules"]), ["a", "b"]);
    assert_eq!(names(&both["targetRefs"]), ["app", "other"]);
    assert_eq!(
        both["rules"][0],
        json!({"name": "a", "enabled": true, "firewall": {"action": "Deny"}})
    );

    let conflict = json!({"targetRefs": [{"name": "app"}], "rules": [{"name": "a", "firewall": {"action": "Allow"}}]});
    let error = apply("two", conflict).await.expect_err("a field of the other's");
    assert!(
        error.to_string().contains(r#".spec.rules[name="a"].firewall.action"#),
        "{error}"
    );

    let only = json!({"targetRefs": [{"name": "app"}], "rules": [{"name": "c", "logging": {}}]});
    let after = apply("one", only).await.expect("applies").data["spec"].take();
    assert_eq!(
        names(&after["rules"]),
        ["b", "c"],
        "what the one no longer applies is gone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_refused_by_a_strict_client_and_dropped_for_another() {
    let cluster = Cluster::shared("policy-strict").await;
    let api = untyped::<SentinelPolicy>(&cluster);
    let spec = rule(json!({"rateLimit": {"limit": 1, "window": "1s", "burst": 5}}));
    let object = of_kind("SentinelPolicy", "a", spec);
    let strict = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..applying()
    };
    let error = api
        .patch("a", &strict, &Patch::Apply(&object))
        .await
        .expect_err("an unknown field");
    assert!(error.to_string().contains("burst"), "{error}");
    let created = api.create(&PostParams::default(), &object).await;
    let stored = created.expect("creates, with a warning").data["spec"].take();
    assert_eq!(stored["rules"][0]["rateLimit"]["burst"], Value::Null);
    serde_json::from_value::<SentinelPolicySpec>(stored).expect("decodes");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_tell_targets_rules_mode_and_what_became_of_it() {
    let cluster = Cluster::shared("policy-columns").await;
    let api = untyped::<SentinelPolicy>(&cluster);
    let shadow = with(json!({"mode": "Shadow"}));
    api.create(&PostParams::default(), &of_kind("SentinelPolicy", "a", shadow))
        .await
        .expect("creates");
    let condition = |name: &str, status: &str, reason: &str| json!({"type": name, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {
        "conditions": [
            condition("Accepted", "False", "TargetNotFound"),
            condition("ResolvedRefs", "True", "ResolvedRefs"),
            condition("Programmed", "True", "Programmed"),
        ],
        "targets": 0,
        "rules": 1,
    }});
    api.patch_status("a", &PatchParams::default(), &Patch::Merge(status))
        .await
        .expect("writes the status");

    let (columns, cells) = table(&cluster, "sentinelpolicies").await;
    let names: Vec<_> = columns.iter().map(|column| &column["name"]).collect();
    assert_eq!(
        names,
        ["Name", "Targets", "Rules", "Mode", "Accepted", "Programmed", "Age"]
    );
    assert_eq!(
        cells[..6],
        [
            json!("a"),
            json!(0),
            json!(1),
            json!("Shadow"),
            json!("False"),
            json!("True")
        ]
    );
    let short: Value = cluster
        .client
        .request(
            http::Request::get("/apis/postern.dev/v1alpha1")
                .body(Vec::new())
                .expect("a request"),
        )
        .await
        .expect("the kinds");
    let kinds = short["resources"].as_array().expect("kinds");
    let ours = kinds
        .iter()
        .find(|kind| kind["name"] == "sentinelpolicies")
        .expect("the kind");
    assert_eq!(
        (&ours["shortNames"], &ours["categories"]),
        (&json!(["spol"]), &json!(["postern"]))
    );
}
