//! What a request's body may be: of which media types, and what they hold.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use super::decode;
use super::parameter::{Content, Notation, Style, mismatch, text};
use super::validator::{Mismatch, Schema};
use super::violation::{Place, Violation};

#[derive(Debug)]
pub struct Body {
    pub required: bool,
    /// The most specific first.
    pub accepted: Box<[Accepted]>,
}

#[derive(Debug)]
pub struct Accepted {
    pub range: Range,
    pub content: Content,
    /// The notations of a form's fields that are not the default.
    pub notations: BTreeMap<Box<str>, Notation>,
}

/// A media type, or `*` for any subtype or any at all. Lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    kind: Box<str>,
    subtype: Box<str>,
}

/// More fields than this are no form.
pub const MAX_PAIRS: usize = 4_096;

impl Body {
    pub fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Violation> {
        let violation = |message: &str| Err(Violation::new(Place::Body, message));
        if body.is_empty() {
            return if self.required { violation("is missing") } else { Ok(()) };
        }
        let (content_type, charset) = match content_type(headers) {
            Ok(Some(found)) => found,
            Ok(None) => return violation("has no content-type"),
            Err(message) => return violation(message),
        };
        let Some(accepted) = self
            .accepted
            .iter()
            .find(|accepted| accepted.range.covers(&content_type))
        else {
            return violation("has a media type that is not allowed");
        };
        let Content::Text(schema) = &accepted.content else {
            return Ok(());
        };
        if !content_type.is_json() && !content_type.is_form() {
            return Ok(());
        }
        // What cannot be read as the app will read it would pass unseen.
        if headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|coding| coding != "identity")
        {
            return violation("is compressed and cannot be validated");
        }
        if !charset.is_none_or(|charset| {
            ["utf-8", "us-ascii"]
                .iter()
                .any(|known| charset.eq_ignore_ascii_case(known))
        }) {
            return violation("has a charset other than UTF-8");
        }
        let result = if content_type.is_json() {
            schema.check_json(body)
        } else {
            check_form(schema, &accepted.notations, body)
        };
        result.map_err(|mismatch| Violation::of(Place::Body, mismatch))
    }
}

impl Range {
    pub fn parse(text: &str) -> Option<Self> {
        let essence = text.split(';').next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        // RFC 9110 5.6.2
        let token = |text: &str| {
            let part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            !text.is_empty() && text.bytes().all(part)
        };
        if !token(kind) || !token(subtype) || (kind == "*" && subtype != "*") {
            return None;
        }
        Some(Self {
            kind: kind.into(),
            subtype: subtype.into(),
        })
    }

    fn covers(&self, other: &Self) -> bool {
        let part = |mine: &str, other: &str| mine == "*" || mine == other;
        part(&self.kind, &other.kind) && part(&self.subtype, &other.subtype)
    }

    /// Lower goes first.
    pub fn breadth(&self) -> usize {
        usize::from(self.kind.as_ref() == "*") + usize::from(self.subtype.as_ref() == "*")
    }

    pub fn is_json(&self) -> bool {
        self.subtype.as_ref() == "json" || self.subtype.ends_with("+json")
    }

    pub fn may_be_form(&self) -> bool {
        self.covers(&Self {
            kind: "application".into(),
            subtype: "x-www-form-urlencoded".into(),
        })
    }

    fn is_form(&self) -> bool {
        self.kind.as_ref() == "application" && self.subtype.as_ref() == "x-www-form-urlencoded"
    }
}

/// The media type and its charset.
fn content_type(headers: &HeaderMap) -> Result<Option<(Range, Option<&str>)>, &'static str> {
    let mut all = headers.get_all(CONTENT_TYPE).iter();
    let Some(first) = all.next() else { return Ok(None) };
    let improper = "has an invalid content-type";
    if all.next().is_some() {
        return Err("has more than one content-type");
    }
    let text = HeaderValue::to_str(first).map_err(|_| improper)?;
    let media_type = Range::parse(text)
        .filter(|media_type| media_type.breadth() == 0)
        .ok_or(improper)?;
    let mut charset = None;
    for parameter in text.split(';').skip(1) {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        if name.trim().eq_ignore_ascii_case("charset") && charset.replace(value.trim().trim_matches('"')).is_some() {
            return Err(improper);
        }
    }
    Ok(Some((media_type, charset)))
}

fn check_form(schema: &Schema, notations: &BTreeMap<Box<str>, Notation>, body: &[u8]) -> Result<(), Mismatch> {
    let body = std::str::from_utf8(body).map_err(|_| mismatch("is not a valid form"))?;
    let given = body.split('&').filter(|pair| !pair.is_empty()).count();
    if given > MAX_PAIRS {
        return Err(mismatch(format!("has more than {MAX_PAIRS} fields")));
    }
    let mut pairs: Vec<_> = decode::pairs(body).collect();
    if pairs.len() != given {
        return Err(mismatch("is not a valid form"));
    }
    let mut object = Map::new();
    for (name, shape) in &schema.shape.properties {
        let notation = notations.get(name).copied();
        // An object in a field is JSON, if nothing else is said.
        if notation.is_none() && shape.is_object() {
            let mut values = pairs.iter().filter(|(other, _)| other == name.as_ref());
            if let Some((_, value)) = values.next() {
                if values.next().is_some() {
                    return Err(under(name, mismatch("is given more than once")));
                }
                let json = super::json::read(text(value)?.as_bytes(), schema.validator.depth.saturating_sub(1));
                object.insert(
                    name.to_string(),
                    json.map_err(|message| under(name, mismatch(message)))?.value,
                );
            }
            continue;
        }
        let notation = notation.unwrap_or(FIELD);
        if let Some((value, _)) = notation
            .pairs(name, shape, &pairs)
            .map_err(|mismatch| under(name, mismatch))?
        {
            object.insert(name.to_string(), value);
        }
    }
    let deep = |other: &Cow<'_, str>| {
        let (name, _) = other.split_once('[').unwrap_or((other, ""));
        notations
            .get(name)
            .is_some_and(|notation| notation.style == Style::DeepObject)
    };
    pairs.retain(|(name, _)| !schema.shape.properties.contains_key(name.as_ref()) && !deep(name));
    for (name, value) in pairs {
        let value = Value::String(text(value)?);
        match object.get_mut(name.as_ref()) {
            None => {
                object.insert(name.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    // Whatever a field was made into, the body is at least as long.
    schema.validator.check(&Value::Object(object), body.len())
}

const FIELD: Notation = Notation {
    style: Style::Form,
    explode: true,
};

fn under(name: &str, mut mismatch: Mismatch) -> Mismatch {
    mismatch.pointer = format!("/{name}{}", mismatch.pointer);
    mismatch
}
