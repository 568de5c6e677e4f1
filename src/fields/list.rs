//! Comma-separated lists in field values (RFC 9110, section 5.6.1).

use http::{HeaderMap, HeaderName, HeaderValue};

/// Whether a comma-separated header holds the token, on any of its lines, in any case.
pub fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// The elements of a comma-separated header, all lines of it. A line that is not text has none.
pub fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// The field's value where it stands on exactly one line; None: it is missing or repeated.
pub fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
