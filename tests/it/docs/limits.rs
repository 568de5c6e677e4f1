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
        ("TLS handshake, a PROXY header before it included", Setting("tlsHandshakeTimeout"), "the connection closes"),
        ("a new connection's first byte", Time("proxy/connection.rs", "HEAD_TIMEOUT"), "the connection closes"),
        ("a request's head, from its first byte", Time("proxy/connection.rs", "HEAD_TIMEOUT"), "`client:request_timeout`"),
        ("a request's head, in bytes", Size("proxy/connection.rs", "MAX_HEAD"), "`client:headers_too_large`"),
        ("header fields of a request", Count("proxy/connection.rs", "MAX_HEADERS"), "`client:headers_too_large`"),
        ("path and query", Size("proxy/target.rs", "MAX_TARGET"), "`client:uri_too_long`"),
        ("a connection without a request", Setting("keepAliveTimeout"), "the connection closes"),
        ("streams of an HTTP/2 connection", Setting("http2MaxStreams"), "they wait at the client"),
        ("an HTTP/2 stream's window, each way", Size("proxy/h2/connection.rs", "WINDOW"), "the sender waits"),
        ("frames of HTTP/2 that carry nothing, at once", Size("proxy/h2/flood.rs", "CAPACITY"), "the connection closes"),
        ("the same, each second after that", Size("proxy/h2/flood.rs", "PER_SECOND"), "the connection closes"),
        ("as what a reset of a stream counts among them", Size("proxy/h2/flood.rs", "RESET"), "the same"),
        ("addresses of X-Forwarded-For that are looked at, from the right", Count("proxy/origin.rs", "MAX_HOPS"), "the last of them is the client"),
        ("characters of an X-Request-Id that is taken over", Count("proxy/origin.rs", "MAX_REQUEST_ID"), "a new one"),
        ("a peer that acknowledges nothing", Time("proxy/listener.rs", "USER_TIMEOUT"), "the connection ends"),
    ]
}

#[rustfmt::skip]
fn apps() -> Vec<Row> {
    vec![
        ("one attempt to connect", Figure::Deployment("timeouts.connect"), "the next endpoint"),
        ("all attempts of a request together", Figure::Deployment("timeouts.dialBudget"), "`upstream:unreachable`"),
        ("the answer's head", Figure::Deployment("timeouts.response"), "`upstream:timeout`"),
        ("between two pieces of a body, either way", Figure::Deployment("timeouts.idle"), "the exchange ends"),
        ("a whole exchange; 0s is without end", Figure::Deployment("timeouts.total"), "`upstream:timeout`, or the exchange ends"),
        ("the answer to an upgrade", Figure::Deployment("webSocket.handshakeTimeout"), "`upstream:timeout`"),
        ("upgrades of one Deployment that are in flight, by replica", Count("state/deployment.rs", "UPGRADES_IN_FLIGHT"), "they wait, then `capacity:overloaded`"),
        ("idle connections to an endpoint, by replica", Count("proxy/pool.rs", "MAX_IDLE"), "others close"),
        ("how long they are kept", Time("proxy/pool.rs", "IDLE_LIMIT"), "they close"),
        ("a socket of which one side has ended", Time("websocket/tunnel.rs", "HALF_CLOSE"), "the other side ends, too"),
        ("sockets of a Deployment that is deleted or Stopped", Time("publish.rs", "END_WINDOW"), "all have ended, evenly over that time"),
    ]
}

#[rustfmt::skip]
fn policies() -> Vec<Row> {
    vec![
        ("all rules before an app together", Time("policy/engine.rs", "BUDGET"), "`policy:timeout`"),
        ("a call to the shared store", Time("shared/mod.rs", "DEADLINE"), "`onStoreFailure`"),
        ("keys that a `rateLimit` remembers, by replica", Count("state/windows.rs", "MAX_KEYS"), "those go that hold least"),
        ("a socket's lease under `connectionLimit` with scope Shared", Time("shared/leases.rs", "LIFETIME"), "it no longer counts"),
        ("a body that `openapi` looks at", Policy("rules[].openapi.maxBodyBytes"), "`client:body_too_large`"),
        ("bodies that `openapi` looks at, all at once, by replica", Size("proxy/room.rs", "CAPACITY"), "`capacity:overloaded`"),
        ("the answer of `forwardAuth`", Policy("rules[].forwardAuth.timeout"), "`policy:auth_unavailable`"),
        ("its body, where it passes to the client", Size("policy/forward_auth.rs", "MAX_BODY"), "left out"),
        ("a credential", Size("policy/credentials.rs", "MAX_LENGTH"), "as one that is not valid"),
        ("the header with the principal", Size("policy/principal.rs", "MAX_LENGTH"), "parts are left out"),
        ("the cost of a bcrypt hash", Count("policy/basic_auth.rs", "MAX_COST"), "the line is not usable"),
        ("a compiled regex", Size("policy/matcher.rs", "MAX_REGEX"), "the policy is rejected"),
        ("a header's value in the access log", Size("policy/logging.rs", "MAX_VALUE"), "it is cut"),
    ]
}

#[rustfmt::skip]
fn control() -> Vec<Row> {
    vec![
        ("hostnames of a Deployment", Count("compile/deployment.rs", "MAX_HOSTNAMES"), "refused by the apiserver"),
        ("its paths", Count("compile/deployment.rs", "MAX_PATHS"), "refused by the apiserver"),
        ("its backends, by path", Count("compile/deployment.rs", "MAX_BACKENDS"), "refused by the apiserver"),
        ("rules of a SentinelPolicy", Count("compile/policy/rule.rs", "MAX_RULES"), "refused by the apiserver"),
        ("matches of a rule", Count("compile/policy/matching.rs", "MAX_MATCHES"), "refused by the apiserver"),
        ("between two writes of status", Time("status/writer.rs", "PACE"), "later ones wait"),
        ("ACME orders at once", Count("acme/schedule.rs", "IN_FLIGHT"), "others wait"),
        ("ACME orders in an hour", Count("acme/schedule.rs", "PER_HOUR"), "others wait"),
        ("connections to the admin port", Count("admin/server.rs", "MAX_CONNECTIONS"), "the oldest closes"),
        ("how long one lasts", Time("admin/server.rs", "LIFETIME"), "it closes"),
        ("lines of the access log that wait for stdout", Size("telemetry/access/queue.rs", "CAPACITY"), "dropped and counted"),
        ("spans that wait for the collector", Count("telemetry/traces/mod.rs", "QUEUE"), "dropped and counted"),
        ("the settings file", Size("config/file.rs", "MAX_SIZE"), "the settings before it stay"),
        ("a file of manifests", Size("watch/folder.rs", "MAX_SIZE"), "it is refused"),
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
        assert_table("limits.md", name, ["what", "limit", "set by", "past it"], rows);
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
    let evaluate = |expression| evaluate("state/windows.rs", expression);
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
