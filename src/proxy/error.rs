//! An answer of Postern's own: problem+json or HTML, and what headers go with the reason.

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderMap, HeaderValue};
use http_body_util::Full;
use serde_json::json;

use super::body::Body;
use crate::fields::{X_POSTERN_ERROR, X_REQUEST_ID};
use crate::reason::Reason;

/// What an answer of ours is shaped by besides its reason.
#[derive(Clone, Copy)]
pub struct ErrorContext<'a> {
    /// The request's header fields, of which Accept decides between problem+json and HTML.
    pub accept: &'a HeaderMap,
    /// Told in the answer, so that a log entry can be found.
    pub request_id: &'a HeaderValue,
    /// In place of the reason's own.
    pub detail: Option<&'a str>,
}

/// The answer for `reason`: problem+json (RFC 9457), or HTML for who prefers it.
pub fn answer(reason: Reason, asker: ErrorContext<'_>) -> Response<Body> {
    let id = asker.request_id.to_str().unwrap_or_default();
    let detail = asker.detail.unwrap_or_else(|| reason.detail());
    let (kind, text) = if prefers_html(asker.accept) {
        ("text/html; charset=utf-8", html(reason, detail, id))
    } else {
        ("application/problem+json", problem(reason, detail, id))
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
        Reason::TlsRequired => {
            // RFC 9110 section 7.8, RFC 2817 section 4.2.
            headers.insert(header::UPGRADE, HeaderValue::from_static("TLS/1.2, HTTP/1.1"));
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

/// Somebody else's answer, with what every answer of ours says.
pub fn passed_on(answer: Response<Bytes>, reason: Reason, asker: ErrorContext<'_>) -> Response<Body> {
    let mut response = answer.map(|bytes| Body::Own(Full::new(bytes)));
    let headers = response.headers_mut();
    headers.insert(X_POSTERN_ERROR, HeaderValue::from_static(reason.code()));
    headers.insert(X_REQUEST_ID, asker.request_id.clone());
    response
}

/// The answer as bytes, for where hyper leaves no room for one; the connection closes after it.
pub fn raw(reason: Reason, request_id: &HeaderValue) -> Vec<u8> {
    let id = request_id.to_str().unwrap_or_default();
    let (status, code, body) = (reason.status(), reason.code(), problem(reason, reason.detail(), id));
    let retry = reason
        .retry_after()
        .map(|seconds| format!("retry-after: {seconds}\r\n"));
    let retry = retry.unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n{retry}\
         x-postern-error: {code}\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n{body}",
        length = body.len(),
    )
    .into_bytes()
}

fn problem(reason: Reason, detail: &str, request_id: &str) -> String {
    let status = reason.status();
    json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
        "code": reason.code(),
        "requestId": request_id,
    })
    .to_string()
}

/// Nothing in it comes from the client; a detail may hold names out of an app's own document.
fn html(reason: Reason, detail: &str, request_id: &str) -> String {
    let status = reason.status();
    let (number, title, code) = (
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        reason.code(),
    );
    let detail = detail.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
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
                let weight: Option<f32> = q.parse().ok();
                // `NaN` is a number to the parser, and neither more nor less than another.
                weight
                    .filter(|weight| !weight.is_nan())
                    .map_or(0.0, |weight| weight.clamp(0.0, 1.0))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_that_is_no_number_is_none_whatever_stands_before_it() {
        for lines in [["text/html;q=NaN", "text/html"], ["text/html", "text/html;q=NaN"]] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT, HeaderValue::from_static(line));
            }
            assert!(prefers_html(&headers));
        }
    }
}
