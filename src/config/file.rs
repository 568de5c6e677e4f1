//! The settings file, laid over the flags key by key. Reading it again when it changes is `watch`'s.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::error::{Error, Invalid};
use super::flags::{Flags, HOT};

/// What a ConfigMap may hold at most; nobody writes more by hand.
const MAX_SIZE: u64 = 1024 * 1024;

/// The file's text. Fails if it cannot be read, is not UTF-8 or is larger than 1 MiB.
pub fn read(path: &Path) -> Result<String, Error> {
    let unreadable = |cause| Error::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(unreadable(std::io::Error::other("it is larger than 1 MiB")));
    }
    Ok(text)
}

impl Flags {
    /// These flags with every key of the file in their place.
    pub fn overlaid(&self, text: &str) -> Result<Self, Invalid> {
        if text.trim().is_empty() {
            // Most likely an editor between truncating and writing; obeying it would drop every grant.
            return Err(Invalid::Empty);
        }
        let file: Option<Map<String, Value>> =
            serde_saphyr::from_str(text).map_err(|cause| Invalid::Syntax(cause.to_string()))?;
        let mut flags = self.clone();
        for (key, value) in file.unwrap_or_default() {
            let mut map = flags.to_map()?;
            map.insert(key.clone(), value);
            flags = Self::from_map(map).map_err(|cause| Invalid::Key(key, cause))?;
        }
        Ok(flags)
    }

    /// These flags with the hot keys of `next`, and the other keys in which `next` differs.
    pub fn adopt(&self, next: &Self) -> Result<(Self, Vec<String>), Invalid> {
        let mut map = self.to_map()?;
        let mut waiting = Vec::new();
        for (key, value) in next.to_map()? {
            if HOT.contains(&key.as_str()) {
                map.insert(key, value);
            } else if map.get(&key) != Some(&value) {
                waiting.push(key);
            }
        }
        let flags = Self::from_map(map).map_err(Invalid::Value)?;
        Ok((flags, waiting))
    }

    /// Fails for a path that is not UTF-8, for no other key.
    fn to_map(&self) -> Result<Map<String, Value>, Invalid> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(other) => Err(Invalid::Value(format!("{other} is not a map"))),
            Err(cause) => Err(Invalid::Value(cause.to_string())),
        }
    }

    fn from_map(map: Map<String, Value>) -> Result<Self, String> {
        serde_json::from_value(Value::Object(map)).map_err(|cause| cause.to_string())
    }
}
