//! A text compiled for comparison: equal to it, beginning or ending with it, or matching it as a regular expression.

use std::fmt;

use serde::Serialize;

use super::path::ends_segment;
use super::regex::{Regex, RegexError};
use crate::text::printed;

/// A text that another is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Text {
    #[serde(flatten)]
    pattern: Pattern,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ignore_case: bool,
}

/// How a text is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// Equal.
    Exact,
    /// It begins with the text.
    Prefix,
    /// A prefix of paths, by whole segments.
    Segments,
    /// It ends with the text.
    Suffix,
    /// All of it matches the pattern.
    Regex,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
    Segments(Box<str>),
    Suffix(Box<str>),
    #[serde(serialize_with = "printed::text")]
    Regex(Regex),
}

impl Text {
    /// Fails for a regular expression that is invalid, or too large when compiled.
    pub fn new(kind: TextKind, text: &str, ignore_case: bool) -> Result<Self, RegexError> {
        let pattern = match kind {
            TextKind::Exact => Pattern::Exact(text.into()),
            TextKind::Prefix => Pattern::Prefix(text.into()),
            TextKind::Segments => Pattern::Segments(text.trim_end_matches('/').into()),
            TextKind::Suffix => Pattern::Suffix(text.into()),
            TextKind::Regex => Pattern::Regex(Regex::new(text, ignore_case)?),
        };
        Ok(Self { pattern, ignore_case })
    }

    /// Bytes of the automaton, if it is a regular expression.
    pub fn size(&self) -> usize {
        match &self.pattern {
            Pattern::Regex(regex) => regex.size(),
            _ => 0,
        }
    }

    /// Whether it is a regular expression.
    pub fn is_regex(&self) -> bool {
        matches!(self.pattern, Pattern::Regex(_))
    }

    /// Whether this text is equal, begins, ends or matches as it must.
    pub fn matches(&self, text: &str) -> bool {
        match &self.pattern {
            Pattern::Regex(regex) => regex.matches(text),
            Pattern::Exact(exact) => self.after(text, exact).is_some_and(str::is_empty),
            Pattern::Prefix(prefix) => self.after(text, prefix).is_some(),
            Pattern::Segments(prefix) => self.after(text, prefix).is_some_and(ends_segment),
            Pattern::Suffix(suffix) if self.ignore_case => {
                let reversed = |text: &str| text.chars().rev().flat_map(char::to_lowercase).collect::<Vec<_>>();
                reversed(text).starts_with(&reversed(suffix))
            }
            Pattern::Suffix(suffix) => text.ends_with(&**suffix),
        }
    }

    /// The rest of the text behind this beginning; None: the text begins otherwise.
    fn after<'t>(&self, text: &'t str, beginning: &str) -> Option<&'t str> {
        if !self.ignore_case {
            return text.strip_prefix(beginning);
        }
        if let Some((head, rest)) = text.split_at_checked(beginning.len())
            && head.eq_ignore_ascii_case(beginning)
        {
            return Some(rest);
        }
        let mut rest = text.chars();
        let mut folded = Vec::new();
        for wanted in beginning.chars().flat_map(char::to_lowercase) {
            if folded.is_empty() {
                folded.extend(rest.next()?.to_lowercase());
                folded.reverse();
            }
            if folded.pop() != Some(wanted) {
                return None;
            }
        }
        folded.is_empty().then_some(rest.as_str())
    }
}

/// As `postern why` shows it.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, text) = match &self.pattern {
            Pattern::Exact(text) => ("Exact", &**text),
            Pattern::Prefix(text) => ("Prefix", &**text),
            Pattern::Segments(text) => ("Segments", &**text),
            Pattern::Suffix(text) => ("Suffix", &**text),
            Pattern::Regex(regex) => ("Regex", regex.as_str()),
        };
        let case = if self.ignore_case { " in any case" } else { "" };
        write!(f, "{kind} {text}{case}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: TextKind, pattern: &str, ignore_case: bool) -> Text {
        Text::new(kind, pattern, ignore_case).unwrap()
    }

    #[test]
    fn prefixes_of_paths_go_by_segments() {
        let admin = text(TextKind::Segments, "/admin/", false);
        assert!(["/admin", "/admin/", "/admin/x"].iter().all(|path| admin.matches(path)));
        assert!(
            ["/administrator", "/", "/x/admin", "/ADMIN"]
                .iter()
                .all(|path| !admin.matches(path))
        );
        assert!(text(TextKind::Segments, "/", false).matches("/x"));
    }

    #[test]
    fn case_is_ignored_in_every_script() {
        for (kind, pattern, matching, other) in [
            (TextKind::Exact, "Straße", "STRAßE", "strasse"),
            (TextKind::Prefix, "ÄB", "äbc", "abc"),
            (TextKind::Suffix, ".PHP", "/x.php", "/x.phpx"),
            (TextKind::Segments, "/Admin", "/aDMIN/x", "/admins"),
            (TextKind::Exact, "k", "\u{212a}", "kk"),
        ] {
            let text = text(kind, pattern, true);
            assert!(text.matches(matching), "{pattern} {matching}");
            assert!(!text.matches(other), "{pattern} {other}");
        }
    }
}
