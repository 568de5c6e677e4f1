//! Fields that concern one connection alone (RFC 9110, section 7.6.1), and fields that a trailer may not hold.

use http::header::{self, HeaderMap, HeaderName};

use super::cdn_loop::CDN_LOOP;
use super::list::elements;
use super::reserved::{folds_to, is_plain, is_reserved};

/// RFC 9110 section 7.6.1 and what older texts add. Trailer is not among them: it names the fields that follow the body.
pub const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes away what Connection names as this hop's own (RFC 9110 section 7.6.1). It comes before anything reads the message:
/// a rule must not see a field that the app does not get.
pub fn remove_nominated(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let nominated: Vec<HeaderName> = elements(headers, header::CONNECTION)
        .filter_map(|name| str::from_utf8(name).ok())
        // Most name `keep-alive` or `close`, which are not there: to look costs no allocation, and a name does.
        .filter(|name| headers.contains_key(*name))
        .filter_map(|name| name.parse().ok())
        .filter(may_be_nominated)
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

/// Framing, routing, credentials and what ends a loop are no hop's own to take away, nor what a proxy says of the client.
/// The hop's own fields are read first, and dropped on the way on.
fn may_be_nominated(name: &HeaderName) -> bool {
    let kept = [
        CDN_LOOP,
        header::AUTHORIZATION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::DATE,
        header::HOST,
        header::LOCATION,
        header::ORIGIN,
        header::SET_COOKIE,
        header::TRAILER,
        header::WWW_AUTHENTICATE,
    ];
    let text = name.as_str();
    !kept.contains(name) && !HOP_BY_HOP.contains(name) && !is_reserved(text) && !text.starts_with("sec-websocket-")
}

/// What an app that folds other characters into `-` might frame the message by.
pub fn is_framing_twin(name: &str) -> bool {
    !is_plain(name)
        && ["connection", "content-length", "host", "transfer-encoding", "upgrade"]
            .iter()
            .any(|framing| folds_to(name.as_bytes(), framing.as_bytes()))
}

/// Whether a trailer may hold the field: none that frames, routes or authenticates a message may (RFC 9110 section
/// 6.5.1), none that concerns one connection, and none that is Postern's to say.
pub fn is_allowed_in_trailers(name: &HeaderName) -> bool {
    let forbidden = [
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::EXPECT,
        header::HOST,
        header::MAX_FORWARDS,
        header::SET_COOKIE,
        header::TRAILER,
        header::WWW_AUTHENTICATE,
    ];
    let twin = is_framing_twin(name.as_str());
    !forbidden.contains(name) && !HOP_BY_HOP.contains(name) && !is_reserved(name.as_str()) && !twin
}
