//! Text for logs, statuses and names: cut to a length, without characters that a terminal obeys, bytes in hexadecimal, and how
//! serde prints values that have no form of their own.

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

/// A line with what a terminal would obey, or would not show, written as `\uXXXX`, as JSON has it. ASCII stays as it is, but for
/// DEL: whoever has made the line has seen to it. Bytes that are no UTF-8 become U+FFFD.
pub fn escape_unseen(line: &[u8]) -> Cow<'_, [u8]> {
    if line.is_ascii() && !line.contains(&0x7f) {
        return Cow::Borrowed(line);
    }
    let mut escaped = String::with_capacity(line.len());
    for character in String::from_utf8_lossy(line).chars() {
        if is_unseen(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped.into_bytes())
}

/// C1 controls (U+009B begins a sequence for terminals as ESC [ does), what changes the direction of a text or the place of a
/// line's end, and what takes no room.
fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
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
    fn what_a_terminal_obeys_or_hides_is_escaped_and_all_else_stays() {
        let escaped = |text: &str| String::from_utf8(escape_unseen(text.as_bytes()).into_owned()).unwrap();
        assert_eq!(escaped("a\u{9b}2Jb\u{202e}c\u{7f}"), r"a\u009b2Jb\u202ec\u007f");
        assert_eq!(
            escaped("\u{2028}\u{2066}\u{61c}\u{200f}\u{85}"),
            r"\u2028\u2066\u061c\u200f\u0085"
        );
        assert_eq!(escaped("\u{e0041}"), r"\udb40\udc41");
        for plain in ["{\"a\": \"b\\n\"}\n", "\u{1b}[1mINFO", "grüße 世界 😀 \u{fffd}"] {
            assert_eq!(escaped(plain), plain);
        }
        assert_eq!(&*escape_unseen(b"\xff"), "\u{fffd}".as_bytes());
    }

    #[test]
    fn bytes_are_printed_in_pairs_of_digits() {
        assert_eq!(Hex(&[0, 10, 255]).to_string(), "000aff");
    }
}
