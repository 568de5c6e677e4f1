//! A GEP-2257 duration ("250ms", "1h30m") as it stands in an object, with its schema.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration as StdDuration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// "0s" turns a timeout off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub StdDuration);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: up to four numbers of at most five digits, each with h, m, s or ms (\"1h30m\")")]
pub struct InvalidDuration(String);

impl FromStr for Duration {
    type Err = InvalidDuration;

    // https://gateway-api.sigs.k8s.io/geps/gep-2257: ^([0-9]{1,5}(h|m|s|ms)){1,4}$
    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.to_owned());
        let mut rest = text;
        let mut total = StdDuration::ZERO;
        let mut parts = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = rest.split_at(digits);
            let (millis, unit) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
                .into_iter()
                .find(|(name, _)| unit.starts_with(name))
                .map(|(name, millis)| (millis, name))
                .ok_or_else(invalid)?;
            parts += 1;
            if !(1..=5).contains(&digits) || parts > 4 {
                return Err(invalid());
            }
            let count: u64 = number.parse().map_err(|_| invalid())?;
            total += StdDuration::from_millis(count * millis);
            rest = &rest[digits + unit.len()..];
        }
        if parts == 0 {
            return Err(invalid());
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let parts = [
            (millis / 3_600_000, "h"),
            (millis / 60_000 % 60, "m"),
            (millis / 1_000 % 60, "s"),
            (millis % 1_000, "ms"),
        ];
        if millis == 0 {
            return f.write_str("0s");
        }
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{count}{unit}")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 28, "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"})
    }
}
