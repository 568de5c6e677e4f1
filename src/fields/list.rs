//! Comma-separated lists in field values (RFC 9110, section 5.6.1).

use http::{HeaderMap, HeaderName, HeaderValue};

/// Whether a comma-separated header holds the token, on any of its lines, in any case.
pub fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    elements(headers, name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// The elements of a comma-separated header, all lines of it, without the empty ones. They are bytes (RFC 9110 section 5.5):
/// several hops write such a field, and an element that is no text must not hide those beside it.
pub fn elements(headers: &HeaderMap, name: HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// The field's value where it stands on exactly one line; None: it is missing or repeated.
pub fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
