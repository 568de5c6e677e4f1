//! `requestHeaders` and `responseHeaders`: what is set, added and removed, never what is Postern's own to say.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::fields::reserved::{folds_to, is_framing, is_reserved};
use crate::text::printed;

/// What one rule changes in a head; the rule's removals and replacements come before its additions.
#[derive(PartialEq, Serialize)]
pub struct Edits {
    /// In place of all lines of the name.
    #[serde(serialize_with = "pairs")]
    pub set: Box<[(HeaderName, HeaderValue)]>,
    /// Beside the lines that are there.
    #[serde(serialize_with = "pairs")]
    pub add: Box<[(HeaderName, HeaderValue)]>,
    /// All lines of the name.
    #[serde(serialize_with = "printed::texts")]
    pub remove: Box<[HeaderName]>,
}

/// Whether a rule may touch this header.
pub fn is_editable(name: &HeaderName) -> bool {
    !is_reserved(name.as_str()) && !is_framing(name)
}

impl Edits {
    /// What is removed or replaced goes in every spelling that an app might fold into it.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let gone = self.remove.iter().chain(self.set.iter().map(|(name, _)| name));
        gone.for_each(|name| remove_folded(headers, name));
        for (name, value) in &self.set {
            headers.append(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

/// All lines of this name, and of those that fold to it.
pub fn remove_folded(headers: &mut HeaderMap, name: &HeaderName) {
    headers.remove(name);
    let folds = |found: &&HeaderName| folds_to(found.as_str().as_bytes(), name.as_str().as_bytes());
    while let Some(alias) = headers.keys().find(folds).cloned() {
        headers.remove(alias);
    }
}

// By hand: values may be secrets that an app expects.
impl fmt::Debug for Edits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |pairs: &[(HeaderName, HeaderValue)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        f.debug_struct("Edits")
            .field("set", &names(&self.set))
            .field("add", &names(&self.add))
            .field("remove", &self.remove)
            .finish()
    }
}

fn pairs<S: Serializer>(pairs: &[(HeaderName, HeaderValue)], to: S) -> Result<S::Ok, S::Error> {
    // Values may be secrets that an app expects: the snapshot's hash is taken over them, and nobody is shown them.
    let shown = to.is_human_readable();
    let mut map = to.serialize_map(Some(pairs.len()))?;
    for (name, value) in pairs {
        match shown {
            true => map.serialize_entry(name.as_str(), &format_args!("{} bytes", value.len()))?,
            false => map.serialize_entry(name.as_str(), value.as_bytes())?,
        }
    }
    map.end()
}
