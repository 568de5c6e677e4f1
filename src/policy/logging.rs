//! `logging`: what a record of a request tells beside the usual. Credentials are told by nobody, whatever a rule asks for.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Serialize;
use serde_json::{Map, Value};

use super::credentials::{Place, Source};
use crate::fields::reserved::folds_to;
use crate::matching::query::decode;
use crate::text::{printed, start};

/// A rule that adds to records, and refuses nobody.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    /// Header fields of the request.
    #[serde(serialize_with = "printed::texts")]
    pub request_headers: Box<[HeaderName]>,
    /// Header fields of the answer, as the client gets it.
    #[serde(serialize_with = "printed::texts")]
    pub response_headers: Box<[HeaderName]>,
    /// Whether the query is told, less credentials.
    pub query: bool,
    /// The percentage of requests that is logged.
    pub sample: u8,
}

const REDACTED: &str = "[redacted]";
/// The longest value in a record, in bytes: a record is one line.
const MAX_VALUE: usize = 1024;

/// What no record may hold, by the rules that stand before the same app.
#[derive(Debug, Default)]
pub struct Redacted<'a> {
    headers: Vec<&'a HeaderName>,
    parameters: Vec<&'a str>,
}

impl Logging {
    /// Whether this request is one of the sample; each call decides anew.
    pub fn is_due(&self) -> bool {
        self.sample >= 100 || fastrand::u8(0..100) < self.sample
    }
}

impl<'a> Redacted<'a> {
    /// Redacts what these sources take credentials from.
    pub fn by(sources: impl IntoIterator<Item = &'a Source>) -> Self {
        let mut redacted = Self::default();
        for source in sources {
            match &source.place {
                Place::Header { name, .. } => redacted.headers.push(name),
                Place::Query { name } => redacted.parameters.push(name),
                // Their headers are told of by nobody.
                Place::Bearer | Place::Cookie { .. } | Place::Subprotocol { .. } => {}
            }
        }
        redacted
    }

    /// The headers that are asked for and there.
    pub fn headers<'b>(&self, asked: impl Iterator<Item = &'b HeaderName>, headers: &HeaderMap) -> Map<String, Value> {
        let mut told = Map::new();
        for name in asked {
            let lines = headers.get_all(name).iter();
            let values: Vec<_> = lines.map(|value| self.header(name, value)).collect();
            if !values.is_empty() {
                told.insert(name.to_string(), values.join(", ").into());
            }
        }
        told
    }

    /// The value as a record may hold it: cut to 1 KiB, and redacted where credentials stand in it.
    pub fn header<'b>(&self, name: &HeaderName, value: &'b HeaderValue) -> Cow<'b, str> {
        if self.hides(name) {
            return Cow::Borrowed(REDACTED);
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        // A fragment is nobody's but the browser's: where it is sent all the same, a token may stand in it.
        let is_url = [header::REFERER, header::LOCATION, header::CONTENT_LOCATION].contains(name);
        if let Some((before, _)) = text.split_once('#').filter(|_| is_url) {
            let before = match before.split_once('?') {
                Some((path, query)) => format!("{path}?{}", self.query(query)),
                None => before.to_owned(),
            };
            return Cow::Owned(start(&format!("{before}#{REDACTED}"), MAX_VALUE).to_owned());
        }
        // Referer and Location tell of queries.
        if let Some((before, query)) = text.split_once('?').filter(|_| !self.parameters.is_empty()) {
            return Cow::Owned(start(&format!("{before}?{}", self.query(query)), MAX_VALUE).to_owned());
        }
        match text {
            Cow::Borrowed(text) => Cow::Borrowed(start(text, MAX_VALUE)),
            Cow::Owned(text) => Cow::Owned(start(&text, MAX_VALUE).to_owned()),
        }
    }

    /// The query as it was sent, less the values of credentials.
    pub fn query(&self, query: &str) -> String {
        // `;` separates pairs as well, to some apps and to `Request::query`. What a hidden value holds is all hidden.
        let pairs = query.split('&').map(|pair| match self.pair(pair) {
            Cow::Borrowed(pair) => pair
                .split(';')
                .map(|part| self.pair(part))
                .collect::<Vec<_>>()
                .join(";"),
            Cow::Owned(redacted) => redacted,
        });
        start(&pairs.collect::<Vec<_>>().join("&"), MAX_VALUE).to_owned()
    }

    fn pair<'p>(&self, pair: &'p str) -> Cow<'p, str> {
        let name = pair.split('=').next().unwrap_or_default();
        let decoded = decode(name);
        let is_hidden = self.parameters.iter().any(|hidden| **hidden == *decoded);
        if is_hidden {
            Cow::Owned(format!("{name}={REDACTED}"))
        } else {
            Cow::Borrowed(pair)
        }
    }

    fn hides(&self, name: &HeaderName) -> bool {
        let always = [
            header::AUTHORIZATION,
            header::COOKIE,
            header::PROXY_AUTHORIZATION,
            header::SEC_WEBSOCKET_PROTOCOL,
            header::SET_COOKIE,
        ];
        // A credential is one in every spelling.
        let is = |hidden: &HeaderName| folds_to(name.as_str().as_bytes(), hidden.as_str().as_bytes());
        let mut hidden = always.iter().chain(self.headers.iter().copied());
        hidden.any(is) || name.as_str().starts_with("x-postern-principal")
    }
}
