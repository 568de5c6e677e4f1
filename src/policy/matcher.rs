//! When a rule applies: what stands in an object, compiled once, held against requests without building anything.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderName, Method};
use ipnet::IpNet;
use serde::Serialize;

use super::request::Request;
use crate::matching::Text;
use crate::matching::regex::MAX_TEXT;
use crate::reason::Reason;
use crate::text::printed;

/// One condition of a rule.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// What is looked at.
    pub on: On,
    /// Whether it holds where `on` does not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not: bool,
}

/// A part of a request, and what it must be.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum On {
    /// The decoded path without query; in every reading that some app has of it.
    Path(Text),
    /// One of them.
    #[serde(serialize_with = "printed::texts")]
    Method(Box<[Method]>),
    /// A field, in every spelling that some app folds into it.
    Header {
        #[serde(serialize_with = "printed::text")]
        name: HeaderName,
        value: Value,
    },
    /// A decoded parameter of the query.
    Query { name: Box<str>, value: Value },
    /// A cookie of any Cookie line.
    Cookie { name: Box<str>, value: Value },
    /// The client's address is in one of them.
    #[serde(serialize_with = "printed::texts")]
    RemoteIp(Box<[IpNet]>),
    /// Whether the request is a WebSocket handshake.
    WebSocket(bool),
}

/// What is asked of the values under one name.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Value {
    /// There is one, whatever it is.
    Present,
    /// There is none.
    Absent,
    /// What the values are, one or all of them by the care.
    Is(Text),
}

/// Whether one reading of a path or method, or one value of several, is enough to match, or all must. A rule that lets
/// requests through requires all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// One is enough.
    AnyReading,
    /// All must match.
    AllReadings,
}

impl Match {
    /// Why this request is not held against the condition's regular expression: the text is too long.
    pub fn exceeded(&self, request: &Request<'_>) -> Option<Reason> {
        self.on.text().filter(|text| text.is_regex())?;
        let (longest, reason) = match &self.on {
            On::Path(_) => (Some(request.uri.path().len()), Reason::UriTooLong),
            On::Query { name, .. } => {
                let named = request.query().filter(|(found, _)| **found == **name);
                (named.map(|(_, text)| text.len()).max(), Reason::UriTooLong)
            }
            On::Header { name, .. } => {
                let lines = request.header_lines(name);
                (lines.map(|line| line.len()).max(), Reason::HeadersTooLarge)
            }
            On::Cookie { name, .. } => {
                let named = request.cookies().filter(|(found, _)| **found == **name);
                (named.map(|(_, text)| text.len()).max(), Reason::HeadersTooLarge)
            }
            On::Method(_) | On::RemoteIp(_) | On::WebSocket(_) => return None,
        };
        longest.filter(|length| *length > MAX_TEXT).map(|_| reason)
    }

    /// Whether the condition holds for this request.
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
            // Nobody vouches for a client that cannot be read: it is let through neither for where it is nor for where not.
            (On::RemoteIp(_), Care::AllReadings) if request.client.is_none() => false,
            (On::Header { name, value }, care) => {
                // Some apps read a line as a list (RFC 9110 section 5.6.1), and some as it is.
                let matches = |line: &str, text: &Text, all: bool| {
                    let mut elements = line.split(',').map(str::trim);
                    text.matches(line)
                        || line.contains(',')
                            && if all {
                                elements.all(|element| text.matches(element))
                            } else {
                                elements.any(|element| text.matches(element))
                            }
                };
                value.holds(request.header_lines(name), matches, self.not, care)
            }
            (On::Query { name, value }, care) => {
                let named = request.query().filter(|(found, _)| **found == **name);
                value.holds(named.map(|(_, value)| value), whole, self.not, care)
            }
            (On::Cookie { name, value }, care) => {
                let named = request.cookies().filter(|(found, _)| **found == **name);
                value.holds(named.map(|(_, value)| value), whole, self.not, care)
            }
            (On::RemoteIp(networks), _) => {
                let within = |client: IpAddr| networks.iter().any(|network| network.contains(&client));
                request.client.is_some_and(within) != self.not
            }
            (On::WebSocket(wanted), _) => (request.web_socket == *wanted) != self.not,
        }
    }
}

impl On {
    /// Bytes that the automaton of its regular expression takes.
    pub fn size(&self) -> usize {
        self.text().filter(|text| text.is_regex()).map_or(0, Text::size)
    }

    /// What texts are compared with.
    fn text(&self) -> Option<&Text> {
        match self {
            Self::Path(text) => Some(text),
            Self::Header { value, .. } | Self::Query { value, .. } | Self::Cookie { value, .. } => match value {
                Value::Is(text) => Some(text),
                Value::Present | Value::Absent => None,
            },
            Self::Method(_) | Self::RemoteIp(_) | Self::WebSocket(_) => None,
        }
    }
}

impl Value {
    /// Of several values under one name an app may read any: a rule that lets requests through asks all of them, and one
    /// that protects applies as soon as one of them would have it so.
    fn holds<'v>(
        &self,
        mut values: impl Iterator<Item = Cow<'v, str>>,
        matches: impl Fn(&str, &Text, bool) -> bool,
        not: bool,
        care: Care,
    ) -> bool {
        let text = match self {
            Self::Present => return values.next().is_some() != not,
            Self::Absent => return values.next().is_none() != not,
            Self::Is(text) => text,
        };
        let wants_all = (care == Care::AllReadings) != not;
        let held = if wants_all {
            let mut values = values.peekable();
            values.peek().is_some() && values.all(|value| matches(&value, text, true))
        } else {
            values.any(|value| matches(&value, text, false))
        };
        held != not
    }
}

/// A value that is no list.
fn whole(value: &str, text: &Text, _all: bool) -> bool {
    text.matches(value)
}
