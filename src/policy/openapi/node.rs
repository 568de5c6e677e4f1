//! A place in a document that knows its JSON pointer (RFC 6901), so that every complaint names it.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::invalid::Invalid;
use super::schema::{MAX_HOPS, reference};

#[derive(Clone, Debug)]
pub struct Node<'d> {
    pub value: &'d Value,
    pub pointer: String,
}

impl<'d> Node<'d> {
    pub fn root(document: &'d Value) -> Self {
        Self {
            value: document,
            pointer: String::new(),
        }
    }

    pub fn invalid(&self, message: impl Into<String>) -> Invalid {
        Invalid::at(&self.pointer, message)
    }

    /// Where a key stands, or would stand.
    pub fn child(&self, key: &str) -> Self {
        Self {
            value: self.value.get(key).unwrap_or(&Value::Null),
            pointer: format!("{}/{}", self.pointer, escape(key)),
        }
    }

    pub fn get(&self, key: &str) -> Option<Self> {
        self.value.get(key)?;
        Some(self.child(key))
    }

    pub fn object(&self) -> Result<&'d Map<String, Value>, Invalid> {
        self.value.as_object().ok_or_else(|| self.invalid("is not an object"))
    }

    pub fn entries(&self) -> Result<impl Iterator<Item = (&'d str, Self)>, Invalid> {
        let entries = self.object()?.iter();
        Ok(entries.map(|(key, value)| {
            let pointer = format!("{}/{}", self.pointer, escape(key));
            (key.as_str(), Self { value, pointer })
        }))
    }

    pub fn items(&self) -> Result<impl Iterator<Item = Self>, Invalid> {
        let items = self.value.as_array().ok_or_else(|| self.invalid("is not a list"))?;
        Ok(items.iter().enumerate().map(|(index, value)| Self {
            value,
            pointer: format!("{}/{index}", self.pointer),
        }))
    }

    pub fn text(&self, key: &str) -> Result<&'d str, Invalid> {
        let text = self.value.get(key).and_then(Value::as_str);
        text.ok_or_else(|| self.child(key).invalid("is missing or not a string"))
    }

    /// Absent is `default`.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, Invalid> {
        match self.value.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.child(key).invalid("is neither true nor false")),
        }
    }

    /// Where this refers to, if it does.
    pub fn followed(mut self, document: &'d Value) -> Result<Self, Invalid> {
        for _ in 0..MAX_HOPS {
            let Some(object) = self.value.as_object().filter(|object| object.contains_key("$ref")) else {
                return Ok(self);
            };
            let pointer = reference(object, &self.pointer)?;
            let value = resolve(document, &pointer)
                .ok_or_else(|| self.invalid(format!("refers to {}, which does not exist", shortened(&pointer))))?;
            self = Self { value, pointer };
        }
        Err(self.invalid("is reached through too many references or through a cycle of them"))
    }
}

pub fn resolve<'d>(document: &'d Value, pointer: &str) -> Option<&'d Value> {
    document.pointer(pointer)
}

pub fn escape(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) {
        return Cow::Owned(key.replace('~', "~0").replace('/', "~1"));
    }
    Cow::Borrowed(key)
}

/// For a message: a document may hold names as long as itself.
pub fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(120)]
}
