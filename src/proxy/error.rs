//! Every answer that is Postern's own: its status, its code and whose fault it is. The metric, the log, the header
//! and the body all name the same closed list.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::{Serialize, Serializer};
use serde_json::json;

use super::body::Body;

pub const X_POSTERN_ERROR: HeaderName = HeaderName::from_static("x-postern-error");
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Why Postern answers by itself. The code's first half says whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    BackendNotFound,
    BadGateway,
    BadRequest,
    BadUpgrade,
    BadUpstreamUpgrade,
    DeploymentOffline,
    HostNotFound,
    InternalError,
    MethodNotAllowed,
    NoReadyEndpoint,
    Overloaded,
    PathNotFound,
    RequestTimeout,
    Starting,
    Unreachable,
    UnsupportedVersion,
    UpstreamTimeout,
    UriTooLong,
}

impl Reason {
    /// In the order of the variants, so that `reason as usize` is an index.
    pub const ALL: [Self; 18] = [
        Self::BackendNotFound,
        Self::BadGateway,
        Self::BadRequest,
        Self::BadUpgrade,
        Self::BadUpstreamUpgrade,
        Self::DeploymentOffline,
        Self::HostNotFound,
        Self::InternalError,
        Self::MethodNotAllowed,
        Self::NoReadyEndpoint,
        Self::Overloaded,
        Self::PathNotFound,
        Self::RequestTimeout,
        Self::Starting,
        Self::Unreachable,
        Self::UnsupportedVersion,
        Self::UpstreamTimeout,
        Self::UriTooLong,
    ];

    pub fn status(self) -> StatusCode {
        self.row().0
    }

    /// `<owner>:<code>`, as it stands in X-Postern-Error, in the problem's `code` and in the metric's `reason`.
    pub fn code(self) -> &'static str {
        self.row().1
    }

    /// For a person: what happened and whose move it is. Never a detail of the app or the network behind it.
    pub fn detail(self) -> &'static str {
        self.row().2
    }

    /// Where a request's end is in doubt, nothing that follows it on its connection is a request.
    fn ends_connection(self) -> bool {
        use Reason as R;
        matches!(
            self,
            R::BadRequest | R::BadUpgrade | R::MethodNotAllowed | R::RequestTimeout | R::UriTooLong
        )
    }

    /// Seconds, on every 503: jittered, so that those who were refused together do not come back together.
    fn retry_after(self) -> Option<u32> {
        match self {
            Self::DeploymentOffline => Some(60),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => Some(fastrand::u32(1..=5)),
            _ => None,
        }
    }

    fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BackendNotFound => (
                S::SERVICE_UNAVAILABLE,
                "config:backend_not_found",
                "The Service or port that this route names does not exist.",
            ),
            Self::BadGateway => (
                S::BAD_GATEWAY,
                "upstream:bad_gateway",
                "The app closed the connection or sent something that is not HTTP.",
            ),
            Self::BadRequest => (
                S::BAD_REQUEST,
                "client:bad_request",
                "The request is malformed or ambiguous.",
            ),
            Self::BadUpgrade => (
                S::BAD_REQUEST,
                "client:bad_upgrade",
                "The WebSocket handshake is malformed.",
            ),
            Self::BadUpstreamUpgrade => (
                S::BAD_GATEWAY,
                "upstream:bad_upgrade",
                "The app's answer to the WebSocket handshake does not match it.",
            ),
            Self::DeploymentOffline => (
                S::SERVICE_UNAVAILABLE,
                "capacity:deployment_offline",
                "This deployment is stopped.",
            ),
            Self::HostNotFound => (
                S::NOT_FOUND,
                "routing:host_not_found",
                "No deployment serves this hostname.",
            ),
            Self::InternalError => (
                S::INTERNAL_SERVER_ERROR,
                "platform:internal_error",
                "An error inside the proxy.",
            ),
            Self::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "client:method_not_allowed",
                "This method is not served here.",
            ),
            Self::NoReadyEndpoint => (
                S::SERVICE_UNAVAILABLE,
                "capacity:no_ready_endpoint",
                "The app has no endpoint that is ready.",
            ),
            Self::Overloaded => (S::SERVICE_UNAVAILABLE, "capacity:overloaded", "Too much is in flight."),
            Self::PathNotFound => (
                S::NOT_FOUND,
                "routing:path_not_found",
                "This hostname serves no such path.",
            ),
            Self::RequestTimeout => (
                S::REQUEST_TIMEOUT,
                "client:request_timeout",
                "The request did not arrive in time.",
            ),
            Self::Starting => (
                S::SERVICE_UNAVAILABLE,
                "config:starting",
                "The proxy does not know its routes yet.",
            ),
            Self::Unreachable => (
                S::SERVICE_UNAVAILABLE,
                "upstream:unreachable",
                "No endpoint of the app could be reached.",
            ),
            Self::UnsupportedVersion => (
                S::UPGRADE_REQUIRED,
                "client:unsupported_version",
                "Only WebSocket version 13 is spoken here.",
            ),
            Self::UpstreamTimeout => (
                S::GATEWAY_TIMEOUT,
                "upstream:timeout",
                "The app did not answer in time.",
            ),
            Self::UriTooLong => (
                S::URI_TOO_LONG,
                "client:uri_too_long",
                "The request's target is too long.",
            ),
        }
    }
}

/// What an answer of ours is shaped by besides its reason.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    pub accept: &'a HeaderMap,
    pub request_id: &'a HeaderValue,
}

/// The answer for `reason`: problem+json (RFC 9457), or HTML for who prefers it.
pub fn answer(reason: Reason, asker: Asker<'_>) -> Response<Body> {
    let id = asker.request_id.to_str().unwrap_or_default();
    let (kind, text) = if prefers_html(asker.accept) {
        ("text/html; charset=utf-8", html(reason, id))
    } else {
        ("application/problem+json", problem(reason, id))
    };
    let mut response = Response::new(Body::Own(Full::new(Bytes::from(text))));
    *response.status_mut() = reason.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_POSTERN_ERROR, HeaderValue::from_static(reason.code()));
    headers.insert(X_REQUEST_ID, asker.request_id.clone());
    if let Some(seconds) = reason.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if reason.ends_connection() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    match reason {
        Reason::UnsupportedVersion => {
            // RFC 6455 section 4.4, RFC 9110 section 15.5.22.
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        Reason::MethodNotAllowed => {
            headers.insert(
                header::ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        _ => {}
    }
    response
}

/// The answer as bytes, for where hyper leaves no room for one; the connection closes after it.
pub fn raw(reason: Reason, request_id: &HeaderValue) -> Vec<u8> {
    let id = request_id.to_str().unwrap_or_default();
    let (status, code, body) = (reason.status(), reason.code(), problem(reason, id));
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n\
         x-postern-error: {code}\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n{body}",
        length = body.len(),
    )
    .into_bytes()
}

fn problem(reason: Reason, request_id: &str) -> String {
    let status = reason.status();
    json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": reason.detail(),
        "code": reason.code(),
        "requestId": request_id,
    })
    .to_string()
}

// Nothing in it comes from the client: there is nothing to escape.
fn html(reason: Reason, request_id: &str) -> String {
    let status = reason.status();
    let (number, title, detail, code) = (
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        reason.detail(),
        reason.code(),
    );
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{number} {title}</title><style>:root{{color-scheme:light dark}}\
         body{{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}}\
         small{{opacity:.7}}</style></head><body><h1>{number} {title}</h1><p>{detail}</p>\
         <p><small><code>{code}</code><br>Request <code>{request_id}</code></small></p></body></html>\n"
    )
}

/// RFC 9110 section 12.5.1: the media range with the higher weight wins, a specific range before a wildcard; no Accept
/// and a draw mean JSON.
fn prefers_html(headers: &HeaderMap) -> bool {
    let mut html = Preference::default();
    let mut json = Preference::default();
    let lines = headers
        .get_all(header::ACCEPT)
        .into_iter()
        .filter_map(|line| line.to_str().ok());
    for range in lines.flat_map(|line| line.split(',')).take(64) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts
            .find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")))
            .map_or(1.0, |q| {
                let weight: f32 = q.parse().unwrap_or(0.0);
                weight.clamp(0.0, 1.0)
            });
        match media.as_str() {
            "text/html" => html.raise(3, weight),
            "application/problem+json" | "application/json" => json.raise(3, weight),
            "text/*" => html.raise(2, weight),
            "application/*" => json.raise(2, weight),
            "*/*" => {
                html.raise(1, weight);
                json.raise(1, weight);
            }
            _ => {}
        }
    }
    html.weight > json.weight
}

/// How much a type is wanted, by the most specific range that names it.
#[derive(Default)]
struct Preference {
    specificity: u8,
    weight: f32,
}

impl Preference {
    fn raise(&mut self, specificity: u8, weight: f32) {
        if specificity > self.specificity || (specificity == self.specificity && weight > self.weight) {
            *self = Self { specificity, weight };
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.code())
    }
}
