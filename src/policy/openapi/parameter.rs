//! One parameter: how it is written, and what it may be.

use std::borrow::Cow;

use serde_json::Value;

use super::invalid::Invalid;
use super::node::Node;
use super::shape::Shape;
use super::validator::{Mismatch, Schema};
use super::{decode, json};

#[derive(Debug)]
pub struct Parameter {
    pub name: Box<str>,
    pub required: bool,
    pub allow_empty: bool,
    pub notation: Notation,
    pub content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notation {
    pub style: Style,
    pub explode: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Simple,
    Form,
    SpaceDelimited,
    PipeDelimited,
    DeepObject,
}

#[derive(Debug)]
pub enum Content {
    Text(Schema),
    Json(Schema),
    /// A parameter of another media type, or without a schema: it is not validated.
    Opaque,
}

/// A value, and what else the same text may be.
pub type Meanings = (Value, Option<Value>);

impl Notation {
    /// `fallback` where nothing is said; `allowed` of the place.
    pub fn read(at: &Node<'_>, fallback: Style, allowed: &[Style]) -> Result<Self, Invalid> {
        let style = match at.get("style") {
            None => fallback,
            Some(style) => match style.value.as_str() {
                Some("simple") => Style::Simple,
                Some("form") => Style::Form,
                Some("spaceDelimited") => Style::SpaceDelimited,
                Some("pipeDelimited") => Style::PipeDelimited,
                Some("deepObject") => Style::DeepObject,
                _ => return Err(style.invalid("is not supported")),
            },
        };
        if !allowed.contains(&style) {
            return Err(at.child("style").invalid("is not supported here"));
        }
        let explode = at.flag("explode", style == Style::Form)?;
        Ok(Self { style, explode })
    }

    /// What the pairs of a query or a form say of `name`; None if nothing. `Err` where nothing of that shape can be
    /// meant.
    pub fn pairs(
        self,
        name: &str,
        shape: &Shape,
        pairs: &[(Cow<'_, str>, &str)],
    ) -> Result<Option<Meanings>, Mismatch> {
        if self.style == Style::DeepObject {
            return deep_object(name, shape, pairs);
        }
        let values = || pairs.iter().filter(|(other, _)| other == name).map(|(_, value)| *value);
        if shape.is_object() && self.explode {
            let named = pairs
                .iter()
                .filter(|(other, _)| shape.properties.contains_key(other.as_ref()));
            let mut named = named
                .map(|(name, value)| Ok((name.to_string(), text(value)?)))
                .collect::<Result<Vec<_>, _>>()?
                .into_iter()
                .peekable();
            if named.peek().is_none() {
                return Ok(None);
            }
            let object = shape.object(named).ok_or_else(twice)?;
            return Ok(Some((object, None)));
        }
        let mut all = values();
        let Some(first) = all.next() else { return Ok(None) };
        let more = all.next().is_some();
        if shape.may_be_array() && self.explode && (more || !shape.may_be_scalar()) {
            let items = values().map(text).collect::<Result<Vec<_>, _>>()?;
            return Ok(Some((shape.array(items.into_iter()), None)));
        }
        if more {
            return Err(twice());
        }
        let delimiter = match self.style {
            Style::SpaceDelimited => ' ',
            Style::PipeDelimited => '|',
            _ => ',',
        };
        if self.explode || !(shape.may_be_array() || shape.is_object()) {
            let (value, other) = shape.read(text(first)?);
            let array = (other.is_none() && shape.may_be_array()).then(|| Value::Array(vec![value.clone()]));
            return Ok(Some((value, other.or(array))));
        }
        // A comma of the notation stands as it is, one of a value is encoded (RFC 6570); the other delimiters are
        // always encoded.
        if delimiter == ',' {
            let parts = first.split(delimiter).map(text);
            return listed(shape, parts.collect::<Result<_, _>>()?).map(Some);
        }
        let whole = text(first)?;
        listed(shape, whole.split(delimiter).map(str::to_owned).collect()).map(Some)
    }

    /// `simple`, and `form` in a cookie.
    pub fn single(self, shape: &Shape, raw: &str, decode: bool) -> Result<Meanings, Mismatch> {
        let part = |raw: &str| match decode {
            true => decode::component(raw).map(Cow::into_owned).ok_or_else(garbled),
            false => Ok(raw.to_owned()),
        };
        if shape.is_object() && self.explode {
            let pairs = raw.split(',').map(|pair| {
                let (name, value) = pair.split_once('=').ok_or_else(unpaired)?;
                Ok((part(name.trim())?, part(value.trim())?))
            });
            let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
            let object = shape.object(pairs.into_iter()).ok_or_else(twice)?;
            return Ok((object, None));
        }
        if shape.may_be_array() || shape.is_object() {
            let parts = raw.split(',').map(|raw| part(raw.trim())).collect::<Result<_, _>>()?;
            return listed(shape, parts);
        }
        Ok(shape.read(part(raw)?))
    }
}

impl Schema {
    /// `size`: see `Validator::check`.
    pub fn check(&self, meanings: &Meanings, size: usize) -> Result<(), Mismatch> {
        let (value, other) = meanings;
        match self.validator.check(value, size) {
            Err(_)
                if other
                    .as_ref()
                    .is_some_and(|other| self.validator.check(other, size).is_ok()) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    pub fn check_json(&self, text: &[u8]) -> Result<(), Mismatch> {
        let json = json::read(text, self.validator.depth).map_err(mismatch)?;
        self.validator.check(&json.value, json.nodes + text.len() / 16)
    }
}

fn deep_object(name: &str, shape: &Shape, pairs: &[(Cow<'_, str>, &str)]) -> Result<Option<Meanings>, Mismatch> {
    let mut members = Vec::new();
    for (other, value) in pairs {
        let Some(rest) = other.strip_prefix(name) else { continue };
        if rest.is_empty() {
            return Err(mismatch("is given without the name of a property"));
        }
        let Some(rest) = rest.strip_prefix('[') else { continue };
        // What nests deeper has no meaning by the specification, and several by those who read it.
        let Some(key) = rest.strip_suffix(']').filter(|key| !key.contains(['[', ']'])) else {
            return Err(mismatch("nests deeper than one property"));
        };
        members.push((key.to_owned(), text(value)?));
    }
    if members.is_empty() {
        return Ok(None);
    }
    // A property that is an array is written once per item.
    let mut object = serde_json::Map::new();
    for (key, text) in members {
        let property = shape.property(&key);
        if property.may_be_array() {
            let value = property.item().read(text).0;
            let items = object.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(items) = items {
                items.push(value);
            }
        } else if object.insert(key, property.read(text).0).is_some() {
            return Err(twice());
        }
    }
    Ok(Some((Value::Object(object), None)))
}

fn listed(shape: &Shape, mut parts: Vec<String>) -> Result<Meanings, Mismatch> {
    if shape.is_object() {
        if !parts.len().is_multiple_of(2) {
            return Err(unpaired());
        }
        let mut parts = parts.into_iter();
        let pairs = std::iter::from_fn(|| Some((parts.next()?, parts.next()?)));
        let object = shape.object(pairs).ok_or_else(twice)?;
        return Ok((object, None));
    }
    let scalar = (parts.len() == 1 && shape.may_be_scalar()).then(|| shape.read(parts[0].clone()).0);
    if parts == [""] {
        parts.clear();
    }
    Ok((shape.array(parts.into_iter()), scalar))
}

pub fn text(raw: &str) -> Result<String, Mismatch> {
    decode::form(raw).map(Cow::into_owned).ok_or_else(garbled)
}

pub fn mismatch(message: impl Into<String>) -> Mismatch {
    Mismatch {
        pointer: String::new(),
        message: message.into(),
    }
}

fn garbled() -> Mismatch {
    mismatch("is not properly encoded")
}

fn twice() -> Mismatch {
    mismatch("is given more than once")
}

fn unpaired() -> Mismatch {
    mismatch("is not a list of names and values")
}
