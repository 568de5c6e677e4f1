//! Header names that are Postern's to say, or a trusted proxy's: no client is believed on them, and no rule may touch them.

use http::HeaderName;

/// What Postern says to the app, in every spelling that an app might fold into it.
pub fn is_reserved(name: &str) -> bool {
    let starts = |prefix: &str| folds_to_start(name, prefix);
    let is = |whole: &str| folds_to(name.as_bytes(), whole.as_bytes());
    match name.as_bytes().first() {
        Some(b'x') => {
            starts("x-postern-")
                || starts("x-forwarded-")
                || is("x-deployment-id")
                || is("x-real-ip")
                || is("x-request-id")
        }
        Some(b'f') => is("forwarded"),
        _ => false,
    }
}

/// What belongs to a connection, frames a message or ends a loop (RFC 8586): no rule may set, add or remove it.
pub fn is_framing(name: &HeaderName) -> bool {
    let framing = [
        "cdn-loop",
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let named = |framing: &&str| folds_to(name.as_str().as_bytes(), framing.as_bytes());
    framing.iter().any(named) || folds_to_start(name.as_str(), "sec-websocket-")
}

/// Whether an app reads `name` as `wanted`: CGI and its heirs have no `-`, and take for it `_`, in PHP `.`, and behind lighttpd
/// whatever is neither letter nor digit.
pub fn folds_to(name: &[u8], wanted: &[u8]) -> bool {
    let dashed = |byte: &u8| if byte.is_ascii_alphanumeric() { *byte } else { b'-' };
    name.len() == wanted.len() && name.iter().map(dashed).eq(wanted.iter().map(dashed))
}

fn folds_to_start(name: &str, prefix: &str) -> bool {
    let start = name.as_bytes().get(..prefix.len());
    start.is_some_and(|start| folds_to(start, prefix.as_bytes()))
}

/// Whether it is the only spelling of itself, for all that `folds_to` knows.
pub fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
