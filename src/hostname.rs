//! A hostname, parsed: lower case, A-labels, no port, no trailing dot; perhaps a wildcard for exactly one label.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A name that is valid because it exists; it prints as it is written in objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostName {
    /// This name alone.
    Exact(Arc<str>),
    /// What stands behind "*.".
    Wildcard(Arc<str>),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a hostname: use labels of letters, digits and inner hyphens, at most 63 octets each and 253 in total; \"*.\" is allowed only at the beginning; write internationalized names as A-labels (xn--...)"
)]
pub struct InvalidHostName(String);

/// The hostname in a Host header or in TLS's server name: in lower case, without port and trailing dot.
pub fn normalize(host: &str) -> Cow<'_, str> {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// How much of an invalid name its error shows.
const SHOWN: usize = 80;

impl HostName {
    /// Whether a request for `host` (normalized) could be meant by this name.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Wildcard(parent) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && *rest == **parent),
        }
    }

    /// The wildcard that would cover this name: `*.example.com` for `a.example.com`; None for a wildcard itself.
    pub fn wildcard_above(&self) -> Option<HostName> {
        match self {
            Self::Exact(name) => name.split_once('.').map(|(_, parent)| Self::Wildcard(parent.into())),
            Self::Wildcard(_) => None,
        }
    }
}

impl FromStr for HostName {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, InvalidHostName> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        let (wildcard, rest) = match name.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        // RFC 1035 section 2.3.4, RFC 1123 section 2.1.
        let valid = name.len() <= 253 && rest.split('.').all(is_label);
        match (valid, wildcard) {
            (false, _) => Err(InvalidHostName(text.chars().take(SHOWN).collect())),
            (true, false) => Ok(Self::Exact(rest.into())),
            (true, true) => Ok(Self::Wildcard(rest.into())),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(parent) => write!(f, "*.{parent}"),
        }
    }
}

impl Serialize for HostName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<String> {
        text.parse::<HostName>().ok().map(|name| name.to_string())
    }

    #[test]
    fn names_are_kept_in_lower_case_and_without_the_trailing_dot() {
        assert_eq!(parse("App.Example.COM."), Some("app.example.com".to_owned()));
        assert_eq!(parse("*.Example.com"), Some("*.example.com".to_owned()));
        assert_eq!(parse("localhost"), Some("localhost".to_owned()));
        assert_eq!(parse("xn--bcher-kva.example"), Some("xn--bcher-kva.example".to_owned()));
    }

    #[test]
    fn what_is_no_hostname_is_refused() {
        let too_long_label = "a".repeat(64);
        let too_long = ["a".repeat(63).as_str(); 4].join(".");
        let refused = [
            "",
            ".",
            "*",
            "*.",
            "a..b",
            ".a",
            "a.",
            "a.*.b",
            "**.a",
            "*a.b",
            "a_b",
            "-a.b",
            "a-.b",
            "a b",
            "a:80",
            "http://a",
            "a/b",
            "b\u{fc}cher.example",
            "*.*.a",
            &too_long_label,
            &too_long,
        ];
        let accepted: Vec<_> = refused.iter().filter(|text| parse(text).is_some()).collect();
        // "a." is "a" with its trailing dot.
        assert_eq!(accepted, [&"a."]);
    }

    #[test]
    fn the_longest_name_and_label_fit() {
        let longest = format!("{}.{}", ["a".repeat(62).as_str(); 3].join("."), "b".repeat(63));
        assert_eq!(longest.len(), 252);
        assert_eq!(parse(&longest), Some(longest.clone()));
        assert_eq!(parse(&format!("*.{longest}")), None);
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        let wildcard: HostName = "*.example.com".parse().unwrap();
        assert!(wildcard.covers("a.example.com"));
        for host in ["example.com", "b.a.example.com", ".example.com", "aexample.com"] {
            assert!(!wildcard.covers(host), "{host}");
        }
        let name: HostName = "a.example.com".parse().unwrap();
        assert_eq!(name.wildcard_above(), Some(wildcard.clone()));
        assert_eq!(wildcard.wildcard_above(), None);
    }

    #[test]
    fn the_error_shows_a_bounded_part_of_the_name() {
        let error = "\u{fc}".repeat(10_000).parse::<HostName>().unwrap_err();
        assert!(error.to_string().len() < 500);
    }
}
