//! Fields that concern one connection alone (RFC 9110, section 7.6.1), and fields that a trailer may not hold.

use http::header::{self, HeaderName};

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
