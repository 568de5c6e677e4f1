//! Text for logs, statuses and names: cut to a length, bytes in hexadecimal, and how serde prints values that have no form of
//! their own.

pub mod printed;

use std::borrow::Cow;
use std::fmt;

/// Prints bytes in hexadecimal, in lower case.
pub struct Hex<'a>(pub &'a [u8]);

const MARK: &str = "…";

/// `text` in at most `max` bytes, whole characters; a mark at the end says that there was more.
pub fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}{MARK}", start(text, max.saturating_sub(MARK.len()))))
}

/// The first `max` bytes of `text`, or fewer, so that no character is cut in two.
pub fn start(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_ends_with_a_whole_character_and_a_mark() {
        assert_eq!(cut("äöü", 6), "äöü");
        assert_eq!(cut("äöü", 5), "ä…");
        assert_eq!(start("äöü", 5), "äö");
        assert_eq!(start("äöü", 7), "äöü");
    }

    #[test]
    fn bytes_are_printed_in_pairs_of_digits() {
        assert_eq!(Hex(&[0, 10, 255]).to_string(), "000aff");
    }
}
