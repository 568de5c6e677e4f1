//! Functions for `#[serde(serialize_with = "..")]`.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use serde::{Serialize, Serializer};

struct Text<'a, T>(&'a T);
struct Value<'a>(&'a HeaderValue);

/// By its `Display`.
pub fn text<T: fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// By its `Display`; None is null.
pub fn option_text<T: fmt::Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(Text).serialize(to)
}

/// A list, each by its `Display`.
pub fn texts<T: fmt::Display, S: Serializer>(values: &[T], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(Text))
}

/// A header's value; where it is shown, bytes that are no UTF-8 are replaced.
pub fn value<S: Serializer>(value: &HeaderValue, to: S) -> Result<S::Ok, S::Error> {
    match to.is_human_readable() {
        true => to.serialize_str(&String::from_utf8_lossy(value.as_bytes())),
        false => to.serialize_bytes(value.as_bytes()),
    }
}

/// As `value`; None is null.
pub fn option_value<S: Serializer>(value: &Option<HeaderValue>, to: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(Value).serialize(to)
}

/// As a number of seconds, with a fraction.
pub fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

/// As a number of seconds, with a fraction; None is null.
pub fn option_seconds<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(to)
}

impl<T: fmt::Display> Serialize for Text<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self.0)
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        value(self.0, to)
    }
}
