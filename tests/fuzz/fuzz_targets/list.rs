//! Headers that are lists: on however many lines and in whatever order their elements stand.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use postern::proxy::error::{ErrorContext, answer};
use postern::reason::Reason;
use postern::fields::list::{has_token, tokens};

fn lines<'a>(name: HeaderName, lines: impl IntoIterator<Item = &'a [u8]>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(&name, HeaderValue::from_bytes(line).ok()?);
    }
    Some(headers)
}

/// By bytes, and without a trim of more than RFC 9110 section 5.6.3 names.
fn naive<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut found = Vec::new();
    for line in lines.filter(|line| line.is_ascii()) {
        for element in line.split(|byte| *byte == b',') {
            let Some(start) = element.iter().position(|byte| !is_space(byte)) else {
                continue;
            };
            let end = element.iter().rposition(|byte| !is_space(byte)).unwrap();
            found.push(&element[start..=end]);
        }
    }
    found
}

fn is_html(accept: &HeaderMap) -> bool {
    let asker = ErrorContext {
        accept,
        request_id: &HeaderValue::from_static("1"),
        detail: None,
    };
    let answer = answer(Reason::HostNotFound, asker);
    let kind = answer.headers()[header::CONTENT_TYPE].as_bytes();
    assert!(kind == b"text/html; charset=utf-8" || kind == b"application/problem+json");
    kind.starts_with(b"text/html")
}

fuzz_target!(|input: &[u8]| {
    let split = || input.split(|byte| *byte == b'\n');
    let Some(headers) = lines(header::CONNECTION, split()) else {
        return;
    };
    let expected = naive(split());
    let found: Vec<_> = tokens(&headers, header::CONNECTION).map(str::as_bytes).collect();
    assert_eq!(found, expected);
    for element in &expected {
        let element = std::str::from_utf8(element).unwrap();
        assert!(has_token(&headers, header::CONNECTION, &element.to_ascii_uppercase()));
    }
    let shouted = expected.iter().any(|element| element.eq_ignore_ascii_case(b"close"));
    assert_eq!(has_token(&headers, header::CONNECTION, "close"), shouted);

    // Lines are one list (RFC 9110 section 5.3), and preferences have no order (section 12.5.1).
    if input.is_ascii() && expected.len() < 64 {
        let accept = lines(header::ACCEPT, split()).unwrap();
        let one = lines(header::ACCEPT, [&*expected.join(&b", "[..])]).unwrap();
        let reversed = lines(header::ACCEPT, expected.iter().rev().copied()).unwrap();
        assert_eq!(is_html(&accept), is_html(&one), "in one line");
        assert_eq!(is_html(&accept), is_html(&reversed), "in another order");
    }
});
