//! A hostname, parsed: lower case, A-labels, no port, no trailing dot; perhaps a wildcard for exactly one label.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostName {
    Exact(Arc<str>),
    /// What stands behind "*.".
    Wildcard(Arc<str>),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a hostname: labels of letters, digits and inner hyphens, at most 63 octets each and 253 in all, \"*.\" only in front (internationalized names as A-labels, xn--...)"
)]
pub struct InvalidHostName(String);

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
