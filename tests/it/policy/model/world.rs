//! Random policies, as objects that hold everything there is to hold of a few kinds, and random requests that hit upon them
//! often.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// One request, as an app would read it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: &'static str,
    pub target: String,
    /// In lower case.
    pub headers: Vec<(&'static str, &'static str)>,
    pub authority: &'static str,
    pub client: IpAddr,
    pub https: bool,
    pub web_socket: bool,
}

pub const HOST: &str = "app.test";
pub const NAMESPACE: &str = "default";

/// Where apps read `_` as `-`, a header has several names.
pub const EDITED: [&str; 4] = ["x-tag", "x-role", "x_tag", "x_role"];

/// The app, and the keys that rules may take.
pub fn site(ambiguous_paths: &str) -> Vec<Value> {
    let metadata = |name: &str| json!({"name": name, "namespace": NAMESPACE, "labels": {"tier": "web"}});
    let key = |name: &str, tier: &str, data: Value| {
        let labels = json!({"postern.dev/use": "api-key", "tier": tier});
        let metadata = json!({"name": name, "namespace": NAMESPACE, "labels": labels});
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
    };
    vec![
        json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "Deployment", "metadata": metadata("app"),
            "spec": {"hostnames": [HOST], "service": {"name": "app", "port": 80}, "ambiguousPaths": ambiguous_paths},
        }),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("app"), "spec": {"ports": [{"port": 80}]}}),
        key(
            "alpha",
            "a",
            json!({"key": "alpha-key", "subject": "ann", "permissions": "read", "meta": r#"{"plan": "gold"}"#}),
        ),
        key(
            "beta",
            "b",
            json!({"key": "beta-key", "permissions": "read, write", "meta": r#"{"plan": "gold"}"#}),
        ),
        key(
            "gone",
            "a",
            json!({"key": "gone-key", "permissions": "read", "enabled": "false"}),
        ),
        key(
            "past",
            "b",
            json!({"key": "past-key", "permissions": "read", "expiresAt": "2001-01-01T00:00:00Z"}),
        ),
        // Costs itself alone.
        key("both", "a", json!({"key": "both-key", "sha256": "00"})),
    ]
}

pub fn policies() -> impl Strategy<Value = Vec<Value>> {
    vec(spec(), 1..5).prop_map(|specs| specs.into_iter().enumerate().map(policy).collect())
}

fn policy((at, (created, spec)): (usize, (&str, Value))) -> Value {
    let name = format!("p{at}");
    json!({
        "apiVersion": "postern.dev/v1alpha1",
        "kind": "SentinelPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": name, "creationTimestamp": created},
        "spec": spec,
    })
}

fn spec() -> impl Strategy<Value = (&'static str, Value)> {
    let created = select(vec!["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]);
    let target = prop_oneof![
        5 => Just(json!({"targetRefs": [{"name": "app"}]})),
        1 => Just(json!({"targetRefs": [{"name": "other"}, {"kind": "Deployment", "name": "app"}]})),
        1 => Just(json!({"targetSelector": {"matchLabels": {"tier": "web"}}})),
        1 => Just(json!({"targetSelector": {}})),
        1 => Just(json!({"targetSelector": {"matchLabels": {"tier": "none"}}})),
    ];
    let fields = (target, option::of(-1..2), mode(1), vec(rule(), 1..7));
    (created, fields).prop_map(|(created, (mut spec, priority, mode, rules))| {
        let rules: Vec<_> = rules.into_iter().enumerate().map(named).collect();
        put(&mut spec, "priority", priority.map(Value::from));
        put(&mut spec, "mode", mode.map(Value::from));
        put(&mut spec, "rules", Some(rules.into()));
        (created, spec)
    })
}

fn named((at, mut rule): (usize, Value)) -> Value {
    rule["name"] = format!("r{at}").into();
    rule
}

fn put(object: &mut Value, field: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[field] = value;
    }
}

fn mode(shadow: u32) -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![3 => Just(None), 1 => Just(Some("Enforce")), shadow => Just(Some("Shadow"))]
}

fn rule() -> impl Strategy<Value = Value> {
    let enabled = prop_oneof![6 => Just(None), 1 => Just(Some(true)), 1 => Just(Some(false))];
    let matches = prop_oneof![1 => vec(a_match(), 0..1), 4 => vec(a_match(), 1..3)];
    (kind(), matches, enabled, mode(1)).prop_map(|(mut rule, matches, enabled, mode)| {
        put(&mut rule, "match", (!matches.is_empty()).then(|| matches.into()));
        put(&mut rule, "enabled", enabled.map(Value::from));
        put(&mut rule, "mode", mode.map(Value::from));
        rule
    })
}

fn kind() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => Just(json!({"firewall": {"action": "Deny"}})),
        2 => Just(json!({"firewall": {"action": "Allow"}})),
        2 => origin(),
        3 => api_key(),
        2 => rate_limit(),
        3 => request_headers(),
    ]
}

fn origin() -> impl Strategy<Value = Value> {
    let allowed = select(vec![
        "https://page.test",
        "https://*.page.test",
        "http://Page.test:8080",
        "same-host",
        "https://page.test:443",
    ]);
    (vec(allowed, 1..3), option::of(any::<bool>())).prop_map(|(allowed, allow_missing)| {
        let mut origin = json!({"allowed": allowed});
        put(&mut origin, "allowMissing", allow_missing.map(Value::from));
        json!({"origin": origin})
    })
}

fn api_key() -> impl Strategy<Value = Value> {
    let keys = prop_oneof![
        3 => Just(json!({"secretSelector": {}})),
        1 => Just(json!({"secretSelector": {"matchLabels": {"tier": "a"}}})),
        1 => Just(json!({"secretSelector": {"matchLabels": {"tier": "none"}}})),
        1 => Just(json!({"secretRefs": [{"name": "beta"}, {"name": "missing"}]})),
        1 => Just(json!({"secretRefs": [{"name": "alpha"}, {"name": "gone"}, {"name": "both"}]})),
    ];
    let place = select(vec![
        json!({"bearer": {}}),
        json!({"header": {"name": "X-Api-Key"}}),
        json!({"header": {"name": "X-Api-Key", "prefix": "Token "}}),
        json!({"query": {"name": "key"}}),
        json!({"cookie": {"name": "key"}}),
        json!({"subprotocol": {"prefix": "key."}}),
    ]);
    let source = (place, option::of(any::<bool>())).prop_map(|(mut place, forward)| {
        put(&mut place, "forward", forward.map(Value::from));
        place
    });
    let from = prop_oneof![1 => Just(Vec::new()), 5 => vec(source, 1..4)];
    let permissions = option::weighted(0.4, select(&PERMISSIONS[..]));
    (keys, from, permissions, option::of(any::<bool>())).prop_map(|(mut rule, from, permissions, optional)| {
        put(&mut rule, "from", (!from.is_empty()).then(|| from.into()));
        put(&mut rule, "permissions", permissions.map(Value::from));
        put(&mut rule, "optional", optional.map(Value::from));
        json!({"apiKey": rule})
    })
}

pub const PERMISSIONS: [&str; 5] = [
    "read",
    "read AND write",
    "admin OR read",
    "read AND (write OR admin)",
    "admin AND write OR read",
];

fn rate_limit() -> impl Strategy<Value = Value> {
    let part = select(vec![
        json!({"remoteIp": {}}),
        json!({"remoteIp": {"ipv6PrefixLength": 128}}),
        json!({"header": {"name": "X-Kind"}}),
        json!({"authenticatedSubject": {}}),
        json!({"path": {}}),
        json!({"principalField": {"name": "source.key.meta.plan"}}),
        json!({"host": {}}),
    ]);
    let cost = prop_oneof![2 => Just(None), 1 => Just(Some(1)), 1 => Just(Some(2))];
    (2..5, vec(part, 0..3), cost).prop_map(|(limit, by, cost)| {
        let mut rule = json!({"limit": limit, "window": "24h"});
        put(&mut rule, "by", (!by.is_empty()).then(|| by.into()));
        put(&mut rule, "cost", cost.map(Value::from));
        json!({"rateLimit": rule})
    })
}

fn request_headers() -> impl Strategy<Value = Value> {
    let name = || select(vec!["X-Tag", "X-Role", "x_tag"]);
    let pair =
        || (name(), select(vec!["one", "two", ""])).prop_map(|(name, value)| json!({"name": name, "value": value}));
    (option::of(pair()), vec(pair(), 0..3), option::of(name())).prop_map(|(set, add, remove)| {
        let mut edits = json!({"add": add});
        put(&mut edits, "set", set.map(|pair| json!([pair])));
        put(&mut edits, "remove", remove.map(|name| json!([name])));
        json!({"requestHeaders": edits})
    })
}

fn a_match() -> impl Strategy<Value = Value> {
    let path = (
        prop_oneof![
            select(vec!["/a", "/a/b", "/A", "/", "/b/"]).prop_map(|text| json!({"exact": text})),
            select(vec!["/a", "/a/b/", "/", "/B"]).prop_map(|text| json!({"prefix": text})),
            select(vec!["b", "/a", "/B"]).prop_map(|text| json!({"suffix": text})),
            select(vec!["/a|/b", "/[ab]/.*", "/.+/b"]).prop_map(|text| json!({"regex": text})),
        ],
        option::of(any::<bool>()),
    );
    let path = path.prop_map(|(mut text, ignore_case)| {
        put(&mut text, "ignoreCase", ignore_case.map(Value::from));
        json!({"path": text})
    });
    let method = select(vec![json!(["GET"]), json!(["POST", "PUT"]), json!(["GET", "POST"])]);
    let header = (
        select(vec!["X-Kind", "x-kind", "X_Kind", "X-Role"]),
        presence_or_value(),
    );
    let parameter = || (select(vec!["a", "b", "key"]), presence_or_value());
    let named = |field: &'static str| {
        move |(name, mut parameter): (&str, Value)| {
            parameter["name"] = name.into();
            json!({field: parameter})
        }
    };
    let networks = select(vec![
        json!(["192.0.2.0/24"]),
        json!(["2001:db8::/32", "198.51.100.7/32"]),
        json!(["::/0"]),
    ]);
    let on = prop_oneof![
        4 => path,
        1 => method.prop_map(|methods| json!({"method": methods})),
        2 => header.prop_map(named("header")),
        1 => parameter().prop_map(named("query")),
        1 => parameter().prop_map(named("cookie")),
        1 => networks.prop_map(|networks| json!({"remoteIp": networks})),
        1 => any::<bool>().prop_map(|wanted| json!({"webSocket": wanted})),
    ];
    (on, prop_oneof![3 => Just(None), 1 => Just(Some(true))]).prop_map(|(mut on, not)| {
        put(&mut on, "not", not.map(Value::from));
        on
    })
}

fn presence_or_value() -> impl Strategy<Value = Value> {
    let text = select(vec![
        json!({"exact": "one"}),
        json!({"exact": "ONE", "ignoreCase": true}),
        json!({"prefix": "o"}),
        json!({"suffix": "e"}),
        json!({"regex": "one|t.*"}),
        json!({"exact": ""}),
    ]);
    prop_oneof![
        1 => Just(json!({})),
        1 => any::<bool>().prop_map(|present| json!({"present": present})),
        4 => text.prop_map(|text| json!({"value": text})),
    ]
}

pub fn ask() -> impl Strategy<Value = Ask> {
    let method = select(vec!["GET", "GET", "POST", "PUT", "get"]);
    let authority = select(vec![HOST, HOST, "app.test:8443"]);
    let client = select(vec![
        "192.0.2.7",
        "198.51.100.7",
        "2001:db8::7",
        "2001:db8::8",
        "2001:db8:1::7",
    ]);
    let client = client.prop_map(|text| text.parse().unwrap());
    let web_socket = prop::bool::weighted(0.3);
    (
        method,
        target(),
        vec(header(), 0..5),
        authority,
        client,
        any::<bool>(),
        web_socket,
    )
        .prop_map(|(method, target, headers, authority, client, https, web_socket)| Ask {
            // A WebSocket is opened by GET.
            method: if web_socket { "GET" } else { method },
            target,
            headers,
            authority,
            client,
            https,
            web_socket,
        })
}

fn target() -> impl Strategy<Value = String> {
    let plain = || select(vec!["a", "b", "A", "c"]);
    let odd = select(vec![
        "%61", "..", ".", "", "a;x=1", "b;", "..;", "%2e", "%2E%2e", ".%2e", "%2Fa", "a%2fb", "a%5Cb", "%00", "%zz",
        "a%", "%c0%af", "%C3%A4", "%3B",
    ]);
    let path = prop_oneof![
        3 => vec(plain().boxed(), 0..4),
        2 => vec(prop_oneof![plain(), odd].boxed(), 0..5),
    ];
    let pair = select(vec![
        "a=one",
        "a=two",
        "a=ONE",
        "%61=o%6ee",
        "a",
        "a=",
        "b=one",
        "b=o+ne",
        "a=x;b=one",
        "",
        "key=alpha-key",
        "key=beta-key",
        "k%65y=beta-key",
        "key=gone-key",
        "x;key=beta-key",
        "key=",
    ]);
    (path, option::of(vec(pair, 0..4))).prop_map(|(path, query)| {
        let query = query.map(|pairs| format!("?{}", pairs.join("&")));
        format!("/{}{}", path.join("/"), query.unwrap_or_default())
    })
}

fn header() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop_oneof![
        select(vec![
            ("x-kind", "one"),
            ("x-kind", "two"),
            ("x-kind", "none, one"),
            ("x_kind", "one"),
            ("x-kind", ""),
            ("x-role", "one"),
            ("x_role", "o"),
            ("x-tag", "given"),
            ("x_tag", "given"),
        ]),
        select(vec![
            ("authorization", "Bearer alpha-key"),
            ("authorization", "bearer  beta-key"),
            ("authorization", "Bearer past-key"),
            ("authorization", "Bearer"),
            ("authorization", "Bearer alpha-key beta-key"),
            ("authorization", "Basic YTpi"),
            ("x-api-key", "alpha-key"),
            ("x-api-key", "Token beta-key"),
            ("x-api-key", "token alpha-key"),
            ("x_api_key", "beta-key"),
            ("x-api-key", "both-key"),
            ("cookie", "a=one; key=beta-key"),
            ("cookie", "key=\"alpha-key\"; b=two"),
            ("cookie", "key=; a=\"one\""),
            ("cookie", "key=gone-key"),
            ("sec-websocket-protocol", "chat, key.beta-key"),
            ("sec-websocket-protocol", "key.alpha-key"),
        ]),
        select(vec![
            ("origin", "https://page.test"),
            ("origin", "https://PAGE.test:443"),
            ("origin", "https://x.page.test"),
            ("origin", "https://x.y.page.test"),
            ("origin", "http://page.test:8080"),
            ("origin", "https://page.test.evil.test"),
            ("origin", "null"),
            ("origin", "https://app.test"),
            ("origin", "http://app.test"),
            ("origin", "https://app.test:8443"),
        ]),
    ]
}
