//! What is told of one request when it has ended: gathered on its way, put together when its answer begins, said when the
//! answer's last byte is out or the socket that it became is closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::{HeaderMap, Method, StatusCode, Version, header};

use super::context::RequestContext;
use crate::body::request::Sent;
use crate::policy::logging::Redacted;
use crate::policy::{Logging, Passed, Policy, Rule, RuleKind};
use crate::snapshot::Deployment;
use crate::telemetry::Telemetry;
use crate::telemetry::access::{Event, Head, Identity, Record, Tail};
use crate::telemetry::traces::{Scope, Span, Value};
use crate::text::start;
use crate::websocket::socket::Closed;

/// What is found out about a request on its way.
#[derive(Default)]
pub struct RequestInfo {
    /// Whose route it is; None: no route was found.
    pub deployment: Option<Arc<Deployment>>,
    /// What stands before the app.
    pub policies: Option<Arc<[Arc<Policy>]>>,
    /// What they have said; None: there are none.
    pub passed: Option<Box<Passed>>,
    /// The endpoint, and the body on its way to it.
    pub attempted: Attempted,
}

/// How far a request got toward the app.
#[derive(Default)]
pub struct Attempted {
    /// The endpoint that was tried last.
    pub endpoint: Option<SocketAddr>,
    /// How far the request's body got.
    pub sent: Option<Arc<Sent>>,
}

/// How a request was answered.
#[derive(Clone, Copy)]
pub struct Answered<'a> {
    /// As the client gets it.
    pub status: StatusCode,
    /// None: by the app, or as it should be.
    pub code: Option<&'static str>,
    /// As the client gets them; None: there is no answer.
    pub headers: Option<&'a HeaderMap>,
}

/// What waits for the end.
#[derive(Debug)]
pub struct RequestLog {
    record: Option<Record>,
    span: Option<Box<Span>>,
    sent: Option<Arc<Sent>>,
    started: Instant,
}

/// The same of a socket, which outlives its client's connection. It stays small, as the socket does.
#[derive(Debug)]
pub struct SocketLog {
    telemetry: Arc<Telemetry>,
    record: Option<Record>,
    span: Option<Box<Span>>,
}

impl RequestLog {
    /// None where nobody wants to hear of it.
    pub fn of(context: &RequestContext<'_>, info: &RequestInfo, outcome: Answered<'_>) -> Option<Box<Self>> {
        let telemetry = &context.client.proxy.telemetry;
        let asked = info.passed.as_ref().is_some_and(|passed| !passed.logged.is_empty());
        let wanted = telemetry.access.wants(asked);
        let scope = context.scope.filter(|scope| scope.context.sampled);
        if !wanted && scope.is_none() {
            return None;
        }
        let head = head(context, info, outcome);
        Some(Box::new(Self {
            span: scope.and_then(|scope| span(scope, &head, context.started)),
            record: if wanted { Record::of(&head) } else { None },
            sent: info.attempted.sent.clone(),
            started: context.started,
        }))
    }

    /// An answer that ends when it begins: Postern's own.
    pub fn own(self, telemetry: &Telemetry, method: &Method, size: Option<u64>) {
        let bytes = match *method {
            Method::HEAD => 0,
            _ => size.unwrap_or_default(),
        };
        self.end(telemetry, bytes, true);
    }

    /// Writes the record and sends off the span. `complete`: the answer came to its end.
    pub fn end(self, telemetry: &Telemetry, bytes_out: u64, complete: bool) {
        let tail = Tail {
            duration: self.started.elapsed(),
            bytes_in: Some(self.sent.map_or(0, |sent| sent.bytes.load(Relaxed))),
            bytes_out: Some(bytes_out),
            complete,
            closed_by: None,
        };
        if let Some(record) = &self.record {
            telemetry.access.write(Event::Request, record, &tail);
        }
        if let (Some(mut span), Some(tracer)) = (self.span, &telemetry.tracer) {
            span.number("http.request.body.size", tail.bytes_in.unwrap_or_default());
            span.number("http.response.body.size", bytes_out);
            tracer.end(span);
        }
    }

    /// The client is about to be told that it has a socket.
    pub fn opened(self, telemetry: &Arc<Telemetry>) -> SocketLog {
        let tail = Tail {
            duration: self.started.elapsed(),
            bytes_in: None,
            bytes_out: None,
            complete: true,
            closed_by: None,
        };
        if let Some(record) = &self.record {
            telemetry.access.write(Event::SocketOpened, record, &tail);
        }
        let mut span = self.span;
        if let Some(span) = &mut span {
            span.name = "WebSocket";
            span.event("socket.open", Vec::new());
        }
        SocketLog {
            telemetry: telemetry.clone(),
            record: self.record.map(Record::identity),
            span,
        }
    }
}

impl SocketLog {
    /// Writes the closing record and sends off the span.
    pub fn closed(self, closed: Closed) {
        let by = closed.by.label();
        let tail = Tail {
            duration: closed.open,
            bytes_in: Some(closed.bytes_to_app),
            bytes_out: Some(closed.bytes_to_client),
            complete: true,
            closed_by: Some(by),
        };
        let Self {
            telemetry,
            record,
            span,
        } = self;
        if let Some(record) = &record {
            telemetry.access.write(Event::SocketClosed, record, &tail);
        }
        if let (Some(mut span), Some(tracer)) = (span, &telemetry.tracer) {
            span.number("postern.socket.bytes_to_app", closed.bytes_to_app);
            span.number("postern.socket.bytes_to_client", closed.bytes_to_client);
            let by = Value::Text(by.to_owned());
            span.event("socket.close", vec![("postern.socket.closed_by", by)]);
            tracer.end(span);
        }
    }
}

fn head<'a>(context: &'a RequestContext<'_>, info: &'a RequestInfo, outcome: Answered<'_>) -> Head<'a> {
    let RequestContext { head, origin, .. } = *context;
    let deployment = info.deployment.as_ref().map(|deployment| &deployment.id.key);
    let policies = info.policies.as_deref().unwrap_or_default().iter();
    let redacted = Redacted::by(policies.flat_map(|policy| &policy.rules).flat_map(Rule::sources));
    let rules: Vec<&Logging> = info.passed.as_deref().map(asking).unwrap_or_default();
    let wanted = rules.iter().flat_map(|rule| &rule.request_headers);
    let request_headers = redacted.headers(wanted, &head.headers);
    let wanted = rules.iter().flat_map(|rule| &rule.response_headers);
    let response_headers = outcome.headers.map(|headers| redacted.headers(wanted, headers));
    let query = head.uri.query().filter(|_| rules.iter().any(|rule| rule.query));
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let principal = info.passed.as_ref().and_then(|passed| passed.principal.as_ref());
    let identity = Identity {
        request_id: context.request_id.to_str().unwrap_or_default(),
        trace_id: match context.scope {
            Some(scope) => Some(scope.context.trace.to_string()),
            None => origin.trace(&head.headers).map(|context| context.trace.to_string()),
        },
        remote_ip: origin.ip,
        namespace: deployment.map(|key| &*key.namespace),
        deployment: deployment.map(|key| &*key.name),
    };
    Head {
        identity,
        protocol: match head.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        },
        scheme: if origin.https { "https" } else { "http" },
        method: head.method.as_str(),
        host: head.uri.authority().map(|authority| authority.as_str()).or(host),
        path: cut(head.uri.path()),
        query: query.map(|query| redacted.query(query)),
        status: outcome.status.as_u16(),
        code: outcome.code,
        upstream: info.attempted.endpoint,
        principal: principal.map(|principal| principal.subject()),
        user_agent: head
            .headers
            .get(header::USER_AGENT)
            .map(|value| redacted.header(&header::USER_AGENT, value)),
        request_headers,
        response_headers: response_headers.unwrap_or_default(),
    }
}

/// In the words of OpenTelemetry's semantic conventions, as far as they have any.
fn span(scope: &Scope, head: &Head<'_>, started: Instant) -> Option<Box<Span>> {
    let name = match head.method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        // A client may make up as many as it likes.
        _ => "HTTP",
    };
    let mut span = scope.span(name, started)?;
    span.is_error = head.status >= 500;
    span.text("http.request.method", head.method);
    span.number("http.response.status_code", head.status.into());
    span.text("url.scheme", head.scheme);
    span.text("url.path", head.path);
    span.text("network.protocol.version", head.protocol.trim_start_matches("HTTP/"));
    if let Some(ip) = head.identity.remote_ip {
        span.text("client.address", ip.to_string());
    }
    span.text("postern.request_id", head.identity.request_id);
    let texts = [
        ("server.address", head.host),
        ("user_agent.original", head.user_agent.as_deref()),
        ("error.type", head.code),
        ("postern.namespace", head.identity.namespace),
        ("postern.deployment", head.identity.deployment),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            span.text(name, text);
        }
    }
    if let Some(upstream) = head.upstream {
        span.text("postern.upstream", upstream.to_string());
    }
    Some(span)
}

/// The rules that want a record of this request.
fn asking(passed: &Passed) -> Vec<&Logging> {
    let kinds = passed
        .logged
        .iter()
        .filter_map(|(policy, rule)| Some(&policy.rules.get(*rule)?.kind));
    let logging = kinds.filter_map(|kind| match kind {
        RuleKind::Logging(logging) => Some(logging),
        _ => None,
    });
    logging.collect()
}

/// A record is a line.
fn cut(path: &str) -> &str {
    const MAX_PATH: usize = 2048;
    start(path, MAX_PATH)
}
