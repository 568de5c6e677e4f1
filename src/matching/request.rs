//! What a route compares a request with: its path, and where the route says so its method, headers and query parameters.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Serialize;

use super::path::PathMatch;
use super::query;
use super::text::Text;
use crate::text::printed;

/// The part of a request that routes are chosen by.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// GET for a WebSocket, over HTTP/2 too.
    pub method: &'a Method,
    /// Verbatim: it begins with a slash, or is the asterisk.
    pub path: &'a str,
    /// Verbatim.
    pub query: Option<&'a str>,
    /// As they came, reserved ones included.
    pub headers: &'a HeaderMap,
}

/// All of a route's conditions; a request must meet every one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Matches {
    /// What every route has.
    pub path: PathMatch,
    /// Boxed, since most routes match by path alone and a host's list of routes should stay small.
    #[serde(flatten)]
    conditions: Option<Box<Conditions>>,
}

/// What a request must be like besides its path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Conditions {
    /// None: any.
    #[serde(serialize_with = "printed::option_text", skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// All must hold; empty: any.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub headers: Box<[HeaderMatch]>,
    /// All must hold; empty: any.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub query: Box<[QueryMatch]>,
}

/// A header that must be there with this value. Several lines of it are one value, as RFC 9110 section 5.3 combines them.
/// Every client can send every header: a route that is chosen by one protects nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HeaderMatch {
    /// In lower case, as `http` has all names.
    #[serde(serialize_with = "printed::text")]
    pub name: HeaderName,
    /// Compared with all lines as one.
    pub value: Text,
}

/// A query parameter that must be there with this value, both decoded. If it is repeated, its first value counts, as
/// Gateway API recommends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct QueryMatch {
    /// Decoded, case-sensitive.
    pub name: Box<str>,
    /// Compared with the decoded value.
    pub value: Text,
}

impl Matches {
    /// Conditions that ask for nothing cost no memory.
    pub fn new(path: PathMatch, conditions: Conditions) -> Self {
        let conditions = Some(conditions).filter(|conditions| *conditions != Conditions::default());
        Self {
            path,
            conditions: conditions.map(Box::new),
        }
    }

    /// Whether nothing but the path is compared.
    pub fn is_by_path(&self) -> bool {
        self.conditions.is_none()
    }

    /// Whether the request meets the path and every condition.
    pub fn holds(&self, head: &Head<'_>) -> bool {
        self.path.matches(head.path) && self.conditions.as_ref().is_none_or(|conditions| conditions.hold(head))
    }

    /// The order in which routes are tried, the lesser first. It is Gateway API's: an exact path, the longest prefix, a
    /// regular expression (the longest first); then a method, the most headers, the most query parameters. Paths of one
    /// rank of which a request can match only one are ordered by their text, so that the order is always the same. Between
    /// equals the older object's route goes first, and then the first in the object: a stable sort keeps them so.
    pub fn precedence(&self) -> impl Ord + '_ {
        let (rank, length, text) = match &self.path {
            PathMatch::Exact(text) => (0, 0, &**text),
            PathMatch::Prefix(text) => (1, text.len(), &**text),
            PathMatch::Regex(regex) => (2, regex.as_str().len(), ""),
        };
        let (method, headers, query) = match &self.conditions {
            Some(conditions) => (
                conditions.method.is_some(),
                conditions.headers.len(),
                conditions.query.len(),
            ),
            None => (false, 0, 0),
        };
        (rank, Reverse(length), text, Reverse((method, headers, query)))
    }
}

impl From<PathMatch> for Matches {
    fn from(path: PathMatch) -> Self {
        Self { path, conditions: None }
    }
}

impl Conditions {
    fn hold(&self, head: &Head<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| method == head.method)
            && self.headers.iter().all(|header| header.holds(head.headers))
            && self.query.iter().all(|parameter| parameter.holds(head.query))
    }
}

impl HeaderMatch {
    fn holds(&self, headers: &HeaderMap) -> bool {
        let mut lines = headers.get_all(&self.name).iter().map(HeaderValue::as_bytes);
        let Some(first) = lines.next() else {
            return false;
        };
        let mut value = String::from_utf8_lossy(first);
        // RFC 9113 section 8.2.3: cookies are no list.
        let separator = if self.name == header::COOKIE { "; " } else { ", " };
        for line in lines {
            let value = value.to_mut();
            value.push_str(separator);
            value.push_str(&String::from_utf8_lossy(line));
        }
        self.value.matches(&value)
    }
}

impl QueryMatch {
    fn holds(&self, query: Option<&str>) -> bool {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let mut values = pairs.map(query::pair).filter(|(name, _)| **name == *self.name);
        values
            .next()
            .is_some_and(|(_, value): (_, Cow<'_, str>)| self.value.matches(&value))
    }
}

/// As `postern why` shows it.
impl fmt::Display for Matches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        let Some(conditions) = &self.conditions else {
            return Ok(());
        };
        if let Some(method) = &conditions.method {
            write!(f, ", method {method}")?;
        }
        for HeaderMatch { name, value } in &conditions.headers {
            write!(f, ", header {name}: {value}")?;
        }
        for QueryMatch { name, value } in &conditions.query {
            write!(f, ", query {name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
