use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::SentinelPolicySpec;

/// Every field of the API, each with a value that is not its default. The apiserver sees to "exactly one of".
fn everything() -> Value {
    let text = json!({"exact": "a", "prefix": "/b", "suffix": "c", "regex": "d", "ignoreCase": true});
    let from = json!([{
        "bearer": {},
        "header": {"name": "X-Key", "prefix": "Token "},
        "query": {"name": "key"},
        "cookie": {"name": "key"},
        "subprotocol": {"prefix": "bearer."},
        "forward": false,
    }]);
    let by = json!([{
        "remoteIp": {"ipv6PrefixLength": 48},
        "header": {"name": "X-Tenant"},
        "authenticatedSubject": {},
        "path": {},
        "principalField": {"name": "source.key.meta.plan"},
        "host": {},
    }]);
    let edits = json!({"set": [{"name": "a", "value": "b"}], "add": [{"name": "a", "value": "b"}], "remove": ["c"]});
    json!({
        "targetRefs": [{"group": "postern.dev", "kind": "Deployment", "name": "app"}],
        "targetSelector": {"matchLabels": {"app": "chat"}},
        "priority": 7,
        "mode": "Shadow",
        "rules": [{
            "name": "all",
            "enabled": false,
            "mode": "Enforce",
            "match": [{
                "path": text,
                "method": ["GET"],
                "header": {"name": "X-A", "present": true, "value": text},
                "query": {"name": "a", "present": false, "value": text},
                "cookie": {"name": "a", "present": true, "value": text},
                "remoteIp": ["10.0.0.0/8"],
                "webSocket": true,
                "not": true,
            }],
            "firewall": {"action": "Deny"},
            "apiKey": {
                "secretSelector": {"matchLabels": {}},
                "secretRefs": [{"name": "key"}],
                "from": from,
                "permissions": "a AND b",
                "optional": true,
            },
            "jwt": {
                "issuer": "https://idp.example.com",
                "audiences": ["chat"],
                "jwks": {"url": "https://idp.example.com/keys", "secretRef": {"name": "a"}, "configMapRef": {"name": "b"}},
                "algorithms": ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"],
                "clockSkew": "1m",
                "subjectClaim": "email",
                "requiredClaims": [{"claim": "tenant", "value": "acme"}],
                "permissions": "a",
                "permissionsClaim": "scope",
                "from": from,
                "optional": true,
            },
            "basicAuth": {"secretRef": {"name": "users"}, "realm": "staff", "forward": false},
            "forwardAuth": {
                "url": "https://auth.example.com/check",
                "service": {"name": "auth", "port": 80, "path": "/check"},
                "timeout": "1s",
                "requestHeaders": ["X-Token"],
                "responseHeaders": ["X-User"],
                "subjectHeader": "X-User",
                "failOpen": true,
            },
            "rateLimit": {
                "limit": 100,
                "window": "1m",
                "by": by,
                "cost": 2,
                "scope": "Shared",
                "onStoreFailure": "Deny",
            },
            "connectionLimit": {"max": 10, "by": by, "scope": "Shared"},
            "origin": {"allowed": ["same-host"], "allowMissing": false},
            "openapi": {"documentRef": {"name": "api"}, "validate": ["Query"], "maxBodyBytes": 10},
            "cors": {
                "origins": ["https://app.example.com"],
                "methods": ["PUT"],
                "headers": ["X-A"],
                "exposed": ["X-B"],
                "credentials": true,
                "maxAge": "1h",
            },
            "requestHeaders": edits,
            "responseHeaders": edits,
            "logging": {"requestHeaders": ["X-A"], "responseHeaders": ["X-B"], "query": true, "sample": 10},
        }],
    })
}

#[test]
fn every_field_is_decoded_and_encoded_again() {
    let decoded: SentinelPolicySpec = serde_json::from_value(everything()).unwrap();
    let mut encoded = serde_json::to_value(&decoded).unwrap();
    // Empty is what it is by default.
    encoded["rules"][0]["apiKey"]["secretSelector"]["matchLabels"] = json!({});
    assert_eq!(encoded, everything());
}

#[test]
fn the_fixture_holds_every_field_of_the_schema() {
    let crd = serde_json::to_value(&crate::api::crds()[1]).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut missing = Vec::new();
    compare(schema, &everything(), "spec", &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}

fn compare(schema: &Value, value: &Value, path: &str, missing: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, schema) in properties {
            match value.get(name) {
                None => missing.push(format!("{path}.{name}")),
                Some(value) => compare(schema, value, &format!("{path}.{name}"), missing),
            }
        }
    }
    if let Some(items) = schema.get("items") {
        compare(items, &value[0], &format!("{path}[0]"), missing);
    }
}

/// What an older binary meets: a field that it does not know, wherever in the spec.
#[test]
fn an_unknown_field_is_an_error_at_every_depth() {
    let mut places = BTreeSet::new();
    maps(&everything(), String::new(), &mut places);
    assert!(places.len() > 50, "{places:?}");
    for place in places {
        let mut newer = everything();
        newer.pointer_mut(&place).unwrap()["fromTheFuture"] = json!({});
        let decoded = serde_json::from_value::<SentinelPolicySpec>(newer);
        assert!(decoded.is_err(), "{place}");
    }
}

fn maps(value: &Value, pointer: String, places: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                maps(value, format!("{pointer}/{name}"), places);
            }
            places.insert(pointer);
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                maps(value, format!("{pointer}/{at}"), places);
            }
        }
        _ => {}
    }
}

#[test]
fn an_unknown_value_of_a_choice_is_an_error() {
    for (place, newer) in [
        ("/mode", json!("Warn")),
        ("/targetRefs/0/kind", json!("Gateway")),
        ("/targetRefs/0/group", json!("gateway.networking.k8s.io")),
        ("/rules/0/mode", json!("Warn")),
        ("/rules/0/firewall/action", json!("Challenge")),
        ("/rules/0/jwt/algorithms/0", json!("HS256")),
        ("/rules/0/jwt/algorithms/0", json!("none")),
        ("/rules/0/rateLimit/scope", json!("Zone")),
        ("/rules/0/rateLimit/onStoreFailure", json!("Queue")),
        ("/rules/0/openapi/validate/0", json!("Response")),
    ] {
        let mut spec = everything();
        *spec.pointer_mut(place).unwrap() = newer.clone();
        let decoded = serde_json::from_value::<SentinelPolicySpec>(spec);
        assert!(decoded.is_err(), "{place}: {newer}");
    }
}

/// A conservative reading of "bounded": no list, text or map of the spec is without an upper bound.
#[test]
fn every_list_text_and_map_of_the_schema_is_bounded() {
    let crd = serde_json::to_value(&crate::api::crds()[1]).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut unbounded = Vec::new();
    bounds(schema, "spec", &mut unbounded);
    assert_eq!(unbounded, Vec::<String>::new());
}

fn bounds(schema: &Value, path: &str, unbounded: &mut Vec<String>) {
    let bounded = match schema["type"].as_str() {
        Some("string") => schema.get("maxLength").or(schema.get("enum")).is_some(),
        Some("array") => schema.get("maxItems").is_some(),
        Some("integer") => schema.get("maximum").is_some(),
        _ if schema.get("additionalProperties").is_some() => schema.get("maxProperties").is_some(),
        _ => true,
    };
    if !bounded {
        unbounded.push(path.to_owned());
    }
    let properties = schema["properties"].as_object().into_iter().flatten();
    let inner = ["items", "additionalProperties"]
        .into_iter()
        .filter_map(|name| Some((name, schema.get(name)?)));
    for (name, schema) in properties.map(|(name, schema)| (name.as_str(), schema)).chain(inner) {
        bounds(schema, &format!("{path}.{name}"), unbounded);
    }
}
