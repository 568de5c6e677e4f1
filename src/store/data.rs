//! The bytes that Secrets and ConfigMaps hold. They are printed as their lengths alone, whoever prints them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// By key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data(BTreeMap<Arc<str>, Arc<[u8]>>);

impl Data {
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(AsRef::as_ref)
    }

    fn lengths(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.0.iter().map(|(key, bytes)| (key, bytes.len()))
    }
}

impl<K: Into<Arc<str>>, V: Into<Arc<[u8]>>> FromIterator<(K, V)> for Data {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let items = items.into_iter();
        Self(items.map(|(key, bytes)| (key.into(), bytes.into())).collect())
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.lengths()).finish()
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.lengths())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lengths_are_printed() {
        let data = Data::from_iter([("tls.key", &b"hush"[..])]);
        assert_eq!(format!("{data:?}"), r#"{"tls.key": 4}"#);
        assert_eq!(serde_json::to_string(&data).unwrap(), r#"{"tls.key":4}"#);
    }
}
