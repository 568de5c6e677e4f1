//! Data with its bytes, in Base64. Elsewhere data are printed by their lengths alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Deserializer, Serializer, de};

use crate::object::Data;

pub fn serialize<S: Serializer>(data: &Data, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(data.iter().map(|(key, bytes)| (key, BASE64_STANDARD.encode(bytes))))
}

/// An error quotes nothing of what was read.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Data, D::Error> {
    let texts = BTreeMap::<Arc<str>, Box<str>>::deserialize(from)?;
    let decoded = texts.into_iter().map(|(key, text)| {
        let bytes = BASE64_STANDARD.decode(text.as_bytes());
        Ok((key, bytes.map_err(|_| de::Error::custom("not Base64"))?))
    });
    decoded.collect()
}
