//! Each limit with its figure out of the place that holds it: a constant of the sources, a setting's default, or a field's in a
//! CRD's schema.

use std::fs;
use std::path::Path;

use postern::api;
use postern::config::Flags;
use serde_json::Value;

use super::{assert_table, code};

enum Figure {
    /// A constant of a file below src: a time, a size in bytes, or a count.
    Time(&'static str, &'static str),
    Size(&'static str, &'static str),
    Count(&'static str, &'static str),
    /// A key of the settings file.
    Setting(&'static str),
    /// What it is by default, and the key by which it can be set.
    Derived(&'static str, &'static str),
    /// A field below a Deployment's spec, and a policy's.
    Deployment(&'static str),
    Policy(&'static str),
}

use Figure::{Count, Policy, Setting, Size, Time};

/// What is bounded, by which figure, and what comes past it.
type Row = (&'static str, Figure, &'static str);

// A row a line.
#[rustfmt::skip]
fn clients() -> Vec<Row> {
    vec![
        ("TLS handshake, including a PROXY header before it", Setting("tlsHandshakeTimeout"), "the connection closes"),
        ("wait for the first byte of a new connection", Time("body/clock.rs", "HEAD_TIMEOUT"), "the connection closes"),
        ("time for a request head, from its first byte", Time("body/clock.rs", "HEAD_TIMEOUT"), "`client:request_timeout`"),
        ("size of a request head", Size("fields/mod.rs", "MAX_HEAD"), "`client:headers_too_large`"),
        ("header fields of a request", Count("fields/mod.rs", "MAX_HEADERS"), "`client:headers_too_large`"),
        ("length of path and query", Size("proxy/target.rs", "MAX_TARGET"), "`client:uri_too_long`"),
        ("idle time of a client connection", Setting("keepAliveTimeout"), "the connection closes"),
        ("concurrent streams of an HTTP/2 connection", Setting("http2MaxStreams"), "requests wait at the client"),
        ("flow-control window of an HTTP/2 stream, each way", Size("proxy/h2/connection.rs", "WINDOW"), "the sender waits"),
        ("HTTP/2 frames without data, bytes in a burst", Size("proxy/h2/flood.rs", "CAPACITY"), "the connection closes"),
        ("HTTP/2 frames without data, bytes per second after the burst", Size("proxy/h2/flood.rs", "PER_SECOND"), "the connection closes"),
        ("resets of HTTP/2 streams in a burst, beside one for each answer that has begun", Count("proxy/h2/flood.rs", "RESETS"), "the connection closes"),
        ("such resets per second after the burst", Count("proxy/h2/flood.rs", "RESETS_PER_SECOND"), "the connection closes"),
        ("addresses of X-Forwarded-For that are read, from the right", Count("proxy/client_origin.rs", "MAX_HOPS"), "the client is unknown"),
        ("characters of an X-Request-Id that is kept", Count("proxy/client_origin.rs", "MAX_REQUEST_ID"), "replaced by a new one"),
        ("passes of one request through Postern, counted by `CDN-Loop`", Count("fields/cdn_loop.rs", "MAX_PASSES"), "`routing:loop_detected`"),
        ("client connections, WebSockets included, per replica", Figure::Derived("half of what the limit on descriptors leaves", "maxConnections"), "idle ones close, the longest idle first; without any, `capacity:overloaded`, or over TLS the connection closes"),
        ("what one address may hold of them, in times what is still free; an IPv6 address counts as its /64, a trusted proxy not at all", Count("live/state.rs", "CONNECTIONS_RATIO"), "the same, with its own connections"),
        ("a client that takes nothing of an answer, while connections or memory are short", Time("proxy/connections.rs", "STALLED"), "the connection is reset"),
        ("memory of the process", Figure::Derived("the control group's, or the machine's", "maxMemory"), "stalled clients are disconnected from 85 % on, and `capacity:overloaded` from 95 % on while it grows"),
        ("bytes of an HTTP/1.1 answer that wait for the client, in each of the two connections", Size("upstream/h1/mod.rs", "MAX_BUFFER"), "the app waits"),
        ("time without TCP acknowledgements from a peer", Time("net/socket.rs", "USER_TIMEOUT"), "the connection ends"),
    ]
}

#[rustfmt::skip]
fn apps() -> Vec<Row> {
    vec![
        ("one attempt to connect", Figure::Deployment("timeouts.connect"), "the next endpoint"),
        ("all attempts of a request together", Figure::Deployment("timeouts.dialBudget"), "`upstream:unreachable`"),
        ("wait for the response head", Figure::Deployment("timeouts.response"), "`upstream:timeout`"),
        ("time between two pieces of a body, in either direction", Figure::Deployment("timeouts.idle"), "the exchange ends"),
        ("a whole exchange; 0s means no limit", Figure::Deployment("timeouts.total"), "`upstream:timeout`, or the exchange ends"),
        ("the answer to an upgrade", Figure::Deployment("webSocket.handshakeTimeout"), "`upstream:timeout`"),
        ("upgrades of one Deployment in progress, per replica", Count("websocket/deployment_state.rs", "UPGRADES_IN_FLIGHT"), "others wait a moment, then go ahead as far as the next limit allows"),
        ("wait of an upgrade for its turn", Time("proxy/permit.rs", "PATIENCE"), "it goes ahead"),
        ("upgrades in progress beside those, per replica", Count("live/state.rs", "HANDSHAKES"), "they wait for 10 s, then `capacity:overloaded`; a namespace has a share of eight times what is free"),
        ("connections to apps, per replica", Figure::Derived("what the limit on descriptors leaves beside clients, and a quarter of it but no more than 1,024 for the rest", ""), "`capacity:overloaded`; a namespace has a share of eight times what is free"),
        ("idle connections to an endpoint, per replica", Count("upstream/h1/pool/idle.rs", "MAX_IDLE"), "others close"),
        ("idle time of a connection to an endpoint", Time("upstream/endpoint.rs", "IDLE_LIMIT"), "it closes"),
        ("a WebSocket that one side has closed", Time("websocket/tunnel.rs", "HALF_CLOSE"), "the other side is closed as well"),
        ("WebSockets of a Deployment that is deleted or Stopped", Time("publish.rs", "END_WINDOW"), "all are closed, spread evenly over that time"),
    ]
}

#[rustfmt::skip]
fn policies() -> Vec<Row> {
    vec![
        ("evaluation of all rules of a request", Time("policy/engine.rs", "BUDGET"), "`policy:timeout`"),
        ("a call to Redis", Time("limits/shared/settings.rs", "DEADLINE"), "`onStoreFailure`"),
        ("keys that a `rateLimit` remembers, per replica", Count("limits/windows.rs", "MAX_KEYS"), "those with the lowest counts are forgotten"),
        ("keys of a `rateLimit` with scope Shared that one replica brings to Redis, as long as they have not expired", Count("limits/shared/known.rs", "MAX_SHARED_KEYS"), "the replica counts new ones by itself"),
        ("lease of a WebSocket under `connectionLimit` with scope Shared", Time("limits/shared/leases.rs", "LIFETIME"), "it no longer counts"),
        ("a body that `openapi` validates", Policy("rules[].openapi.maxBodyBytes"), "`client:body_too_large`"),
        ("bodies that `openapi` validates at once, in total per replica", Size("live/state.rs", "BODIES"), "`capacity:overloaded`; a namespace may hold as much as is still free"),
        ("least speed of a body that a rule waits for, per second, once it has been slower for 10 s", Size("proxy/authorize.rs", "LEAST_SPEED"), "`client:request_timeout`"),
        ("the response of a `forwardAuth` service", Policy("rules[].forwardAuth.timeout"), "`policy:auth_unavailable`"),
        ("threads that look up the names of URLs in policies, per replica", Count("egress/lookup.rs", "THREADS"), "names wait their turn"),
        ("such threads of one namespace, until the system's resolver gives them back", Count("egress/lookup.rs", "SHARE"), "its other names wait"),
        ("wait for a name of a URL", Time("egress/lookup.rs", "PATIENCE"), "the URL cannot be reached"),
        ("time for which the answer about a name is kept, also that there is none", Time("egress/lookup.rs", "REMEMBERED"), "it is looked up again"),
        ("names of one namespace that are looked up or remembered", Count("egress/lookup.rs", "MAX_NAMES"), "the URL cannot be reached"),
        ("fetches of `jwks.url` at once, per replica", Count("egress/mod.rs", "FETCHES"), "others wait their turn"),
        ("such fetches of one namespace", Count("egress/mod.rs", "FETCHES_OF_NAMESPACE"), "its others wait"),
        ("body of a `forwardAuth` service's response, if it passes to the client", Size("policy/forward_auth.rs", "MAX_BODY"), "left out"),
        ("a credential", Size("policy/credentials.rs", "MAX_LENGTH"), "treated as invalid"),
        ("the header with the principal", Size("policy/principal.rs", "MAX_LENGTH"), "parts are left out"),
        ("cost of a bcrypt hash", Count("policy/basic_auth.rs", "MAX_COST"), "the line is not usable"),
        ("the automaton of a regex", Size("matching/regex.rs", "MAX_REGEX"), "the policy is not accepted"),
        ("the automata of a policy's regexes together", Size("compile/policy/matching.rs", "MAX_REGEX_BYTES"), "the policy is not accepted"),
        ("regexes of a policy", Count("compile/policy/matching.rs", "MAX_REGEXES"), "the policy is not accepted"),
        ("a path, parameter, header line or cookie that a regex is held against", Size("matching/regex.rs", "MAX_TEXT"), "`client:uri_too_long`, `client:headers_too_large`"),
        ("memory of a namespace's compiled policies: regexes, `openapi` documents, keys and users", Size("compile/policy/budget.rs", "MAX_NAMESPACE"), "the youngest that do not fit are not accepted"),
        ("memory of all compiled policies", Size("compile/policy/budget.rs", "MAX_PROCESS"), "namespaces that want much get equal shares"),
        ("wrong passwords, or tokens with wrong signatures, that one address may show to one rule in a minute", Count("policy/guesses.rs", "MAX_WRONG"), "`client:rate_limited`"),
        ("the automaton of a pattern in an `openapi` document", Size("policy/openapi/pattern.rs", "MAX_PATTERN"), "the document is not accepted"),
        ("the automata of all patterns in an `openapi` document", Size("policy/openapi/pattern.rs", "MAX_PATTERNS"), "the document is not accepted"),
        ("a header value in the access log", Size("policy/logging.rs", "MAX_VALUE"), "truncated"),
    ]
}

#[rustfmt::skip]
fn control() -> Vec<Row> {
    vec![
        ("hostnames of a Deployment", Count("compile/source/deployment.rs", "MAX_HOSTNAMES"), "refused by the apiserver"),
        ("paths of a Deployment", Count("compile/source/deployment.rs", "MAX_PATHS"), "refused by the apiserver"),
        ("backends of a Deployment, per path", Count("compile/source/deployment.rs", "MAX_BACKENDS"), "refused by the apiserver"),
        ("rules of a SentinelPolicy", Count("compile/policy/rule.rs", "MAX_RULES"), "refused by the apiserver"),
        ("matches of a rule", Count("compile/policy/matching.rs", "MAX_MATCHES"), "refused by the apiserver"),
        ("time between two status writes", Time("status/writer.rs", "PACE"), "later ones wait"),
        ("ACME orders at once", Count("acme/schedule.rs", "IN_FLIGHT"), "others wait"),
        ("ACME orders per hour", Count("acme/schedule.rs", "PER_HOUR"), "others wait: namespaces take turns, each with its renewals first"),
        ("such orders for names that have no certificate yet", Count("acme/schedule.rs", "NEW_PER_HOUR"), "they wait, renewals do not"),
        ("such orders of one namespace", Count("acme/schedule.rs", "NAMESPACE_PER_HOUR"), "its others wait"),
        ("connections to the admin port", Count("admin/server.rs", "MAX_CONNECTIONS"), "the oldest closes"),
        ("lifetime of a connection to the admin port", Time("admin/server.rs", "LIFETIME"), "it closes"),
        ("access log lines that wait for stdout", Size("telemetry/access/queue.rs", "CAPACITY"), "dropped and counted"),
        ("spans that wait for the collector", Count("telemetry/traces/mod.rs", "QUEUE"), "dropped and counted"),
        ("size of the settings file", Size("config/file.rs", "MAX_SIZE"), "the previous settings stay in force"),
        ("size of the saved state", Size("saved_state/file.rs", "MAX_SIZE"), "it is not saved"),
        ("time between two states that are saved", Time("saved_state/saver.rs", "PAUSE"), "later ones wait"),
        ("size of a manifest file", Size("watch/folder.rs", "MAX_SIZE"), "it is refused"),
    ]
}

#[test]
fn limits_are_those_of_the_code() {
    for (name, rows) in [
        ("clients", clients()),
        ("apps", apps()),
        ("policies", policies()),
        ("control", control()),
    ] {
        let rows = rows.into_iter().map(|(what, figure, past)| {
            let (limit, setting) = read(&figure);
            [what.to_owned(), limit, setting, past.to_owned()]
        });
        assert_table("limits.md", name, ["what", "limit", "set by", "beyond it"], rows);
    }
}

/// The figure as a person writes it, and where it can be set.
fn read(figure: &Figure) -> (String, String) {
    match *figure {
        Time(file, name) => (time(constant(file, name)), String::new()),
        Size(file, name) => (size(constant(file, name)), String::new()),
        Count(file, name) => (count(constant(file, name)), String::new()),
        Setting(key) => {
            let settings = serde_json::to_value(Flags::default()).expect("a map");
            (plain(&settings[key]), format!("`{key}`"))
        }
        Figure::Derived(text, "") => (text.to_owned(), String::new()),
        Figure::Derived(text, key) => (text.to_owned(), format!("`{key}`")),
        Figure::Deployment(field) => (plain(&default(0, field)), code(field)),
        Policy(field) => {
            let value = default(1, field);
            let field = field.trim_start_matches("rules[].");
            match value.as_u64() {
                Some(bytes) => (size(bytes), code(field)),
                None => (plain(&value), code(field)),
            }
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the schema of a CRD says for a field below spec.
fn default(crd: usize, field: &str) -> Value {
    let crd = serde_json::to_value(&api::crds()[crd]).expect("a map");
    let mut schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    for part in field.split('.') {
        let (name, list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
        schema = &schema["properties"][name];
        if list {
            schema = &schema["items"];
        }
    }
    assert!(!schema["default"].is_null(), "{field} has no default");
    schema["default"].clone()
}

/// Of a constant, times in milliseconds. Reads the source: most of them are nobody else's business.
fn constant(file: &str, name: &str) -> u64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (_, rest) = text
        .split_once(&format!("const {name}: "))
        .unwrap_or_else(|| panic!("{file} has no {name}"));
    let (_, expression) = rest.split_once(" = ").expect("has a value");
    let (expression, _) = expression.split_once(';').expect("ends");
    evaluate(file, expression)
}

/// A product or shift of numbers and of constants of the same file, or a duration.
fn evaluate(file: &str, expression: &str) -> u64 {
    for (unit, millis) in [("Duration::from_secs(", 1000), ("Duration::from_millis(", 1)] {
        if let Some(inner) = expression.strip_prefix(unit) {
            return millis * evaluate(file, inner.trim_end_matches(')'));
        }
    }
    if let Some((left, right)) = expression.split_once(" << ") {
        return evaluate(file, left) << evaluate(file, right);
    }
    if let Some((left, right)) = expression.split_once(" * ") {
        return evaluate(file, left) * evaluate(file, right);
    }
    let digits = expression.replace('_', "");
    digits.parse().unwrap_or_else(|_| constant(file, expression))
}

fn time(millis: u64) -> String {
    match millis % 1000 {
        0 => format!("{} s", count(millis / 1000)),
        _ => format!("{millis} ms"),
    }
}

fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    match bytes {
        bytes if bytes % (KIB * KIB) == 0 => format!("{} MiB", bytes / KIB / KIB),
        bytes if bytes % KIB == 0 => format!("{} KiB", bytes / KIB),
        bytes => format!("{} bytes", count(bytes)),
    }
}

/// With commas between thousands.
fn count(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", count(number / 1000), number % 1000),
    }
}

#[test]
fn figures_are_read_and_written_as_they_are() {
    let evaluate = |expression| evaluate("limits/windows.rs", expression);
    assert_eq!(evaluate("1 << 20"), 1 << 20);
    assert_eq!(evaluate("30 * 24 * 3600 * 1000"), 2_592_000_000);
    assert_eq!(evaluate("Duration::from_secs(2 * 60)"), 120_000);
    assert_eq!(evaluate("SHARDS * 1_000"), 16_000);
    assert_eq!([time(250), time(130_000)], ["250 ms", "130 s"]);
    assert_eq!(
        [size(3 << 20), size(64 << 10), size(1500)],
        ["3 MiB", "64 KiB", "1,500 bytes"]
    );
    assert_eq!(count(1_000_000), "1,000,000");
}
