//! Header names that are Postern's to say, or a trusted proxy's: no client is believed on them, and no rule may touch them.

use http::HeaderName;

/// What Postern says to the app, in every spelling that an app might fold into it: `_` is `-` to CGI and its heirs.
pub fn is_reserved(name: &str) -> bool {
    let starts = |prefix: &str| {
        folds_to(
            name.as_bytes().get(..prefix.len()).unwrap_or_default(),
            prefix.as_bytes(),
        )
    };
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

/// What belongs to a connection or frames a message: no rule may set, add or remove it.
pub fn is_framing(name: &HeaderName) -> bool {
    let framing = [
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
    framing.iter().any(named) || name.as_str().starts_with("sec-websocket-")
}

/// Whether an app that takes `_` for `-` reads `name` as `wanted`.
pub fn folds_to(name: &[u8], wanted: &[u8]) -> bool {
    let dashed = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
    name.len() == wanted.len() && name.iter().map(dashed).eq(wanted.iter().map(dashed))
}
