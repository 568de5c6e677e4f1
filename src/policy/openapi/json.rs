//! Reads JSON so that there is one way to understand it: a key that stands twice is refused (one reader keeps the first,
//! another the last), and so is what nests too deep.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

#[derive(Debug)]
pub struct Json {
    pub value: Value,
    /// How many values it is made of: what looking at all of them costs.
    pub nodes: usize,
}

/// What is wrong is told by line and column, never by content.
pub fn read(text: &[u8], depth: usize) -> Result<Json, String> {
    let mut nodes = 0;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let seed = Seed {
        depth,
        nodes: &mut nodes,
    };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| format!("is not valid JSON: {error}"))?;
    Ok(Json { value, nodes })
}

/// For another format that is read through serde.
pub fn from<'de, D: Deserializer<'de>>(deserializer: D, depth: usize) -> Result<Json, D::Error> {
    let mut nodes = 0;
    let seed = Seed {
        depth,
        nodes: &mut nodes,
    };
    let value = seed.deserialize(deserializer)?;
    Ok(Json { value, nodes })
}

struct Seed<'n> {
    /// How many levels may still be entered.
    depth: usize,
    nodes: &'n mut usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.nodes += 1;
        deserializer.deserialize_any(self)
    }
}

impl Seed<'_> {
    fn deeper<E: Error>(&self) -> Result<usize, E> {
        self.depth.checked_sub(1).ok_or_else(|| E::custom("nests too deep"))
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let nodes = self.nodes;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Seed { depth, nodes })? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let nodes = self.nodes;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Seed { depth, nodes })?;
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("an object has a duplicate key"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_key_that_stands_twice_is_refused_however_it_is_written() {
        assert!(read(br#"{"a": 1, "a": 2}"#, 8).is_err());
        assert!(read(br#"{"a": 1, "\u0061": 2}"#, 8).is_err());
        assert!(read(br#"[{"b": {"a": 1, "c": 2, "a": 1}}]"#, 8).is_err());
        assert!(read(br#"{"a": {"a": 1}, "b": {"a": 1}}"#, 8).is_ok());
    }

    #[test]
    fn depth_is_bounded_and_values_are_counted() {
        assert!(read(b"[[[1]]]", 3).is_ok());
        assert!(read(b"[[[[1]]]]", 3).is_err());
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(read(&deep, 64).is_err());
        assert_eq!(read(br#"{"a": [1, 2], "b": null}"#, 8).unwrap().nodes, 5);
    }

    #[test]
    fn what_is_no_json_is_refused_without_quoting_it() {
        for text in [
            "",
            "secret",
            "{secret: 1}",
            "'secret'",
            "[1,]",
            "{}secret",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e999",
            "01",
            "\"\\ud800\"",
            "\u{feff}{}",
            "\"a\nb\"",
            "/* c */ 1",
        ] {
            let message = read(text.as_bytes(), 8).unwrap_err();
            assert!(!message.contains("secret"), "{message}");
        }
        assert!(read(b"\"\xff\"", 8).is_err());
    }
}
