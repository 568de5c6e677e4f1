//! When a rule applies: what stands in an object, compiled once, held against requests without building anything.

use std::borrow::Cow;

use http::{HeaderName, Method};
use ipnet::IpNet;
use regex::{Regex, RegexBuilder};
use serde::Serialize;

use super::request::Request;
use crate::text::printed;

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    pub on: On,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not: bool,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum On {
    Path(Text),
    #[serde(serialize_with = "printed::texts")]
    Method(Box<[Method]>),
    Header {
        #[serde(serialize_with = "printed::text")]
        name: HeaderName,
        value: Value,
    },
    Query {
        name: Box<str>,
        value: Value,
    },
    Cookie {
        name: Box<str>,
        value: Value,
    },
    #[serde(serialize_with = "printed::texts")]
    RemoteIp(Box<[IpNet]>),
    WebSocket(bool),
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Value {
    Present,
    Absent,
    /// One of the values, should the name stand there several times.
    Is(Text),
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Text {
    #[serde(flatten)]
    pattern: Pattern,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ignore_case: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    Exact,
    Prefix,
    /// A prefix of paths, by whole segments.
    Segments,
    Suffix,
    Regex,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
    Segments(Box<str>),
    Suffix(Box<str>),
    #[serde(serialize_with = "printed::text")]
    Regex(Regex),
}

/// Of a path or a method with several readings: whether one of them is enough. A rule that lets somebody through wants all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    AnyReading,
    AllReadings,
}

/// A compiled regex' size; what is larger is refused where it is compiled.
const MAX_REGEX: usize = 256 * 1024;

impl Match {
    pub fn holds(&self, request: &Request<'_>, care: Care) -> bool {
        match (&self.on, care) {
            (On::Path(text), Care::AnyReading) => request.readings().any(|path| text.matches(path) != self.not),
            (On::Path(text), Care::AllReadings) => request.readings().all(|path| text.matches(path) != self.not),
            (On::Method(methods), care) => {
                // HTTP tells `get` from `GET` (RFC 9110 section 9.1), and some apps do not.
                let folds = |one: &Method| one.as_str().eq_ignore_ascii_case(request.method.as_str());
                let exact = methods.contains(request.method) != self.not;
                let folded = methods.iter().any(folds) != self.not;
                match care {
                    Care::AnyReading => exact || folded,
                    Care::AllReadings => exact && folded,
                }
            }
            (other, _) => other.holds(request) != self.not,
        }
    }
}

impl On {
    fn holds(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Path(text) => text.matches(request.path()),
            Self::Method(methods) => methods.contains(request.method),
            Self::Header { name, value } => value.holds(request.header_values(name)),
            Self::Query { name, value } => {
                let named = request.query().filter(|(found, _)| **found == **name);
                value.holds(named.map(|(_, value)| value))
            }
            Self::Cookie { name, value } => {
                let named = request.cookies().filter(|(found, _)| **found == **name);
                value.holds(named.map(|(_, value)| value))
            }
            Self::RemoteIp(networks) => networks.iter().any(|network| network.contains(&request.client)),
            Self::WebSocket(wanted) => request.web_socket == *wanted,
        }
    }
}

impl Value {
    fn holds<'v>(&self, mut values: impl Iterator<Item = Cow<'v, str>>) -> bool {
        match self {
            Self::Present => values.next().is_some(),
            Self::Absent => values.next().is_none(),
            Self::Is(text) => values.any(|value| text.matches(&value)),
        }
    }
}

impl Text {
    /// Fails for a regex that is none, or is too large.
    pub fn new(kind: TextKind, text: &str, ignore_case: bool) -> Result<Self, String> {
        let pattern = match kind {
            TextKind::Exact => Pattern::Exact(text.into()),
            TextKind::Prefix => Pattern::Prefix(text.into()),
            TextKind::Segments => Pattern::Segments(text.trim_end_matches('/').into()),
            TextKind::Suffix => Pattern::Suffix(text.into()),
            TextKind::Regex => Pattern::Regex(anchored(text, ignore_case)?),
        };
        Ok(Self { pattern, ignore_case })
    }

    pub fn matches(&self, text: &str) -> bool {
        match &self.pattern {
            Pattern::Regex(regex) => regex.is_match(text),
            Pattern::Exact(exact) => self.after(text, exact).is_some_and(str::is_empty),
            Pattern::Prefix(prefix) => self.after(text, prefix).is_some(),
            Pattern::Segments(prefix) => self
                .after(text, prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Pattern::Suffix(suffix) if self.ignore_case => {
                let reversed = |text: &str| text.chars().rev().flat_map(char::to_lowercase).collect::<Vec<_>>();
                reversed(text).starts_with(&reversed(suffix))
            }
            Pattern::Suffix(suffix) => text.ends_with(&**suffix),
        }
    }

    /// What follows this beginning, if it is one.
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

/// The whole text must match, whatever line ends stand in it: `%0A` is no way past a rule.
fn anchored(pattern: &str, ignore_case: bool) -> Result<Regex, String> {
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .case_insensitive(ignore_case)
            .dot_matches_new_line(true)
            .size_limit(MAX_REGEX)
            .dfa_size_limit(MAX_REGEX)
            .build()
            .map_err(|error| error.to_string())
    };
    // By itself first: what is anchored may not break out of its group.
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b))
            | (Self::Prefix(a), Self::Prefix(b))
            | (Self::Segments(a), Self::Segments(b))
            | (Self::Suffix(a), Self::Suffix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: TextKind, pattern: &str, ignore_case: bool) -> Text {
        Text::new(kind, pattern, ignore_case).unwrap()
    }

    #[test]
    fn a_regex_matches_the_whole_text() {
        let regex = text(TextKind::Regex, "/a.*|/b", false);
        assert!(["/a", "/axy", "/b", "/a\nb"].iter().all(|path| regex.matches(path)));
        assert!(["x/a", "/bx", "/b\n", "/A"].iter().all(|path| !regex.matches(path)));
        assert!(text(TextKind::Regex, "/a", true).matches("/A"));
    }

    #[test]
    fn a_regex_that_is_none_or_too_large_is_refused() {
        for pattern in ["a)|(b", "(", "a{1000}{1000}", r"(a)\1", "(?=a)"] {
            assert!(Text::new(TextKind::Regex, pattern, false).is_err(), "{pattern}");
        }
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
