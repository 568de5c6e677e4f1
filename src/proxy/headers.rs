//! Which header fields pass, and which ones Postern sets. Toward the app a new map is built, so that the client's own stays
//! as it came, for a retry. `CDN-Loop` is `fields::cdn_loop`'s.

use http::StatusCode;
use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;

use super::client_origin::ClientOrigin;
use crate::fields::hop::{HOP_BY_HOP, is_framing_twin, remove_nominated};
use crate::fields::list::has_token;
use crate::fields::reserved::{is_plain, is_reserved};
use crate::fields::{
    X_FORWARDED_CLIENT_CERT, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_POSTERN_ERROR,
    X_REQUEST_ID,
};
use crate::reason::Reason;
use crate::telemetry::traces::Scope;
use crate::telemetry::traces::context::{TRACEPARENT, TRACESTATE};

const X_DEPLOYMENT_ID: HeaderName = HeaderName::from_static("x-deployment-id");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What Postern tells the app about a request.
#[derive(Clone, Copy)]
pub struct AppHeaders<'a> {
    /// Host, verbatim.
    pub host: &'a HeaderValue,
    /// The client and its way here.
    pub origin: &'a ClientOrigin<'a>,
    /// X-Request-Id.
    pub request_id: &'a HeaderValue,
    /// None: what the client says of a trace passes as it is.
    pub scope: Option<&'a Scope>,
    /// X-Deployment-Id.
    pub deployment_id: &'a HeaderValue,
    /// Whether it asks for a WebSocket.
    pub upgrade: bool,
    /// The app's own answer to `Expect` decides whether the client may send its body.
    pub expect: bool,
}

/// The head's fields toward the app.
pub fn to_app(client: &HeaderMap, told: AppHeaders<'_>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(client.len() + 9);
    for (name, value) in client {
        if passes_to_app(name, &told) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(header::HOST, told.host.clone());
    let origin = told.origin;
    let proto = HeaderValue::from_static(if origin.https { "https" } else { "http" });
    headers.insert(X_FORWARDED_FOR, HeaderValue::clone(&origin.forwarded_for));
    headers.insert(X_FORWARDED_HOST, origin.host.unwrap_or(told.host).clone());
    headers.insert(X_FORWARDED_PORT, origin.port.clone());
    headers.insert(X_FORWARDED_PROTO, proto);
    headers.insert(X_REAL_IP, HeaderValue::clone(&origin.client));
    if let Some(certificate) = origin.client_certificate {
        headers.insert(X_FORWARDED_CLIENT_CERT, certificate.clone());
    }
    if let Some(forwarded) = origin.forwarded(told.host) {
        headers.append(header::FORWARDED, forwarded);
    }
    headers.insert(X_REQUEST_ID, told.request_id.clone());
    if let Some(scope) = told.scope {
        headers.insert(TRACEPARENT, scope.header());
        if !scope.continued {
            // Section 3.3.1.1 of Trace Context: the one goes with the other.
            remove(&mut headers, &TRACESTATE);
        }
    }
    headers.insert(X_DEPLOYMENT_ID, told.deployment_id.clone());
    if told.upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    } else if client.contains_key(header::TE) && has_token(client, header::TE, "trailers") {
        // RFC 9110 section 10.1.4: TE is this hop's, and must be named in Connection. Without it apps send no trailers.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    headers
}

/// The head's fields toward the client, in place.
pub fn to_client(head: &mut Parts, request_id: &HeaderValue) {
    let (status, headers) = (head.status, &mut head.headers);
    remove_nominated(headers);
    if headers.contains_key(header::TRANSFER_ENCODING) || status == StatusCode::SWITCHING_PROTOCOLS {
        // RFC 9112 section 6.3: the coding wins, and hyper's server aborts where both are set.
        remove(headers, &header::CONTENT_LENGTH);
    }
    unify_content_length(headers);
    // Most answers have none of these, and a look at the names there costs less than a search for each that is not.
    if headers
        .keys()
        .any(|name| HOP_BY_HOP.contains(name) || name == X_POSTERN_ERROR)
    {
        for name in &HOP_BY_HOP {
            // RFC 9110 section 15.5.22: a 426 says to what.
            if !(status == StatusCode::UPGRADE_REQUIRED && name == header::UPGRADE) {
                remove(headers, name);
            }
        }
        // The end of a loop is Postern's own answer, some passes further on; an app that says so speaks of nothing else.
        let ends_loop = status == Reason::LoopDetected.status()
            && (headers.get(X_POSTERN_ERROR)).is_some_and(|code| code == Reason::LoopDetected.code());
        remove(headers, &X_POSTERN_ERROR);
        if ends_loop {
            headers.insert(X_POSTERN_ERROR, HeaderValue::from_static(Reason::LoopDetected.code()));
        }
    }
    headers.insert(X_REQUEST_ID, request_id.clone());
    match status {
        StatusCode::SWITCHING_PROTOCOLS => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        _ => {}
    }
}

/// hyper's client has checked that several lengths agree, but leaves them as they are; its server takes only one.
fn unify_content_length(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(first), second) = (lines.next(), lines.next()) else {
        return;
    };
    if second.is_none() && !first.as_bytes().contains(&b',') {
        return;
    }
    let one = first.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default();
    if let Ok(one) = HeaderValue::from_bytes(one.trim_ascii()) {
        headers.insert(header::CONTENT_LENGTH, one);
    }
}

fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    if let Entry::Occupied(entry) = headers.entry(name) {
        entry.remove_entry_mult();
    }
}

fn passes_to_app(name: &HeaderName, told: &AppHeaders<'_>) -> bool {
    match name.as_str() {
        "host" => false,
        "expect" => told.expect,
        "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade" => false,
        "proxy-authenticate" | "proxy-authorization" => false,
        // The first belongs to an h2c upgrade; CGI-like apps take the second for the variable HTTP_PROXY.
        "http2-settings" | "proxy" => false,
        other => (!is_reserved(other) || told.origin.trusted && is_proxys(other)) && !is_framing_twin(other),
    }
}

/// What a trusted proxy may say besides what `ClientOrigin` has read. Never in another spelling.
fn is_proxys(name: &str) -> bool {
    (name.starts_with("x-forwarded-") && name != X_FORWARDED_CLIENT_CERT && is_plain(name)) || name == "forwarded"
}
