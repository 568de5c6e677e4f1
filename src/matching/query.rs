//! The parameters of a query, as forms write them.

use std::borrow::Cow;

/// Decodes a name or a value as forms encode it (application/x-www-form-urlencoded): `+` is a space.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    // One pair in, one pair out: there is no separator in it.
    let spaced = text.replace('+', " ");
    Cow::Owned(
        percent_encoding::percent_decode_str(&spaced)
            .decode_utf8_lossy()
            .into_owned(),
    )
}

/// Decodes one `name=value`. A parameter without `=` has an empty value.
pub fn pair(text: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (decode(name), decode(value))
}
