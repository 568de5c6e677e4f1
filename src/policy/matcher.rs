//! When a rule applies: what stands in an object, compiled once, held against requests without building anything.

use std::borrow::Cow;

use http::{HeaderName, Method};
use ipnet::IpNet;
use serde::Serialize;

use super::request::Request;
use crate::matching::Text;
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
    /// One of the values, should the name stand there several times.
    Is(Text),
}

/// Whether one reading of a path or method is enough to match, or all must. A rule that lets requests through requires all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// One is enough.
    AnyReading,
    /// All must match.
    AllReadings,
}

impl Match {
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
