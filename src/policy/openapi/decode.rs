//! Percent-decoding that refuses what readers differ about: a half escape, and bytes that are no UTF-8.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Decodes a percent-encoded component of a path, a header or a cookie.
pub fn component(text: &str) -> Option<Cow<'_, str>> {
    let mut escapes = text.split('%');
    escapes.next();
    let whole = |escape: &str| escape.len() >= 2 && escape.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    if !escapes.all(whole) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok()
}

/// Decodes a component of a query or a form, where `+` is a space.
pub fn form(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return component(text);
    }
    component(&text.replace('+', " ")).map(|decoded| Cow::Owned(decoded.into_owned()))
}

/// The pairs of a query or a form, in order: the name decoded, the value as it stands. Names that are not proper are left
/// out: no document can describe them.
pub fn pairs(text: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    text.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((form(name)?, value))
    })
}

#[cfg(test)]
mod tests {
    use super::{component, form, pairs};

    #[test]
    fn whole_escapes_of_utf8_are_decoded_and_nothing_else() {
        assert_eq!(component("a%20b%C3%A9").as_deref(), Some("a bé"));
        assert_eq!(component("a+b").as_deref(), Some("a+b"));
        assert_eq!(form("a+b%2B").as_deref(), Some("a b+"));
        for broken in ["%", "%2", "%zz", "a%2", "%+1", "%ff", "%c3", "%%41"] {
            assert_eq!(component(broken), None, "{broken}");
        }
    }

    #[test]
    fn pairs_are_split_before_they_are_decoded() {
        let found: Vec<_> = pairs("a=1&&b&c=d=e&%61=2&%=3&f%26=4").collect();
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
        assert_eq!(found, [("a", "1"), ("b", ""), ("c", "d=e"), ("a", "2"), ("f&", "4")]);
    }
}
