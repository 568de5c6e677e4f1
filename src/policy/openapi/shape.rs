//! What the text of a parameter or a form's field may mean by its schema: text has no types of its own.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::cost::target;
use super::schema::Definition;

/// As much of a schema as says how to read text.
#[derive(Clone, Debug)]
pub struct Shape {
    types: u8,
    items: Option<Box<Shape>>,
    pub properties: BTreeMap<Box<str>, Shape>,
}

const NULL: u8 = 1;
const BOOLEAN: u8 = 2;
const INTEGER: u8 = 4;
const NUMBER: u8 = 8;
const STRING: u8 = 16;
const ARRAY: u8 = 32;
const OBJECT: u8 = 64;
const ANY: u8 = 127;
const SCALAR: u8 = BOOLEAN | INTEGER | NUMBER | STRING;

/// Where nothing is said.
static TEXT: Shape = Shape {
    types: STRING,
    items: None,
    properties: BTreeMap::new(),
};

impl Shape {
    /// `depth`: how many levels of it are needed. None where it is made of more than what is `left`, which it reduces.
    pub fn of(definitions: &[Definition], index: usize, depth: usize, left: &mut usize) -> Option<Self> {
        Self::new(definitions, &definitions[index].schema, depth, left)
    }

    fn new(definitions: &[Definition], schema: &Value, depth: usize, left: &mut usize) -> Option<Self> {
        *left = left.checked_sub(1)?;
        let mut shape = Self {
            types: ANY,
            items: None,
            properties: BTreeMap::new(),
        };
        match schema.get("type") {
            Some(Value::String(name)) => shape.types = named(name),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                shape.types = names.map(named).fold(0, |all, one| all | one);
            }
            _ => {}
        }
        if let Some(Value::Array(values)) = schema.get("enum") {
            shape.types &= values.iter().map(type_of).fold(0, |all, one| all | one);
        }
        if let Some(value) = schema.get("const") {
            shape.types &= type_of(value);
        }
        if depth > 0 {
            if let Some(items) = schema.get("items") {
                shape.items = Some(Box::new(Self::new(definitions, items, depth - 1, left)?));
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, schema) in properties.into_iter().flatten() {
                let property = Self::new(definitions, schema, depth - 1, left)?;
                shape.properties.insert(name.as_str().into(), property);
            }
        }
        if let Some(target) = target(schema) {
            let target = &definitions[target].schema;
            shape.take(Self::new(definitions, target, depth, left)?, shape.types);
        }
        let list = |keyword: &str| schema.get(keyword).and_then(Value::as_array).into_iter().flatten();
        for part in list("allOf") {
            shape.take(Self::new(definitions, part, depth, left)?, shape.types);
        }
        for keyword in ["anyOf", "oneOf"] {
            let mut either = 0;
            for part in list(keyword) {
                let part = Self::new(definitions, part, depth, left)?;
                either |= part.types;
                shape.take(part, 0);
            }
            if either != 0 {
                shape.types &= either;
            }
        }
        Some(shape)
    }

    /// What another schema for the same value says. `types`: those that it may leave, or 0 for it to leave all.
    fn take(&mut self, other: Self, types: u8) {
        if types != 0 {
            self.types = types & other.types;
        }
        if self.items.is_none() {
            self.items = other.items;
        }
        for (name, property) in other.properties {
            self.properties.entry(name).or_insert(property);
        }
    }

    pub fn is_object(&self) -> bool {
        self.types & OBJECT != 0 && self.types & (SCALAR | ARRAY) == 0
    }

    pub fn may_be_array(&self) -> bool {
        self.types & ARRAY != 0 && self.types != ANY
    }

    pub fn may_be_scalar(&self) -> bool {
        self.types & SCALAR != 0
    }

    pub fn item(&self) -> &Self {
        self.items.as_deref().unwrap_or(&TEXT)
    }

    pub fn property(&self, name: &str) -> &Self {
        self.properties.get(name).unwrap_or(&TEXT)
    }

    /// The value that the text most likely means, and what else it may be.
    pub fn read(&self, text: String) -> (Value, Option<Value>) {
        let typed = if self.types == ANY { None } else { self.typed(&text) };
        match typed {
            Some(value) if self.types & STRING != 0 => (value, Some(Value::String(text))),
            Some(value) => (value, None),
            None => (Value::String(text), None),
        }
    }

    fn typed(&self, text: &str) -> Option<Value> {
        match text {
            "true" | "false" if self.types & BOOLEAN != 0 => return Some(Value::Bool(text == "true")),
            "null" | "" if self.types & NULL != 0 => return Some(Value::Null),
            _ => {}
        }
        if self.types & NUMBER != 0 {
            return number(text);
        }
        // Not 1.0 or 1e3, which JSON would let pass as integers: who reads text into integers does not.
        let digits = text.strip_prefix('-').unwrap_or(text);
        if self.types & INTEGER != 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return number(text);
        }
        None
    }

    pub fn array(&self, texts: impl Iterator<Item = String>) -> Value {
        texts.map(|text| self.item().read(text).0).collect()
    }

    /// None where a key stands twice.
    pub fn object(&self, pairs: impl Iterator<Item = (String, String)>) -> Option<Value> {
        let mut object = Map::new();
        for (name, text) in pairs {
            let value = self.property(&name).read(text).0;
            if object.insert(name, value).is_some() {
                return None;
            }
        }
        Some(Value::Object(object))
    }
}

/// As JSON writes numbers.
fn number(text: &str) -> Option<Value> {
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    text.parse::<Number>().ok().map(Value::Number)
}

fn named(name: &str) -> u8 {
    match name {
        "null" => NULL,
        "boolean" => BOOLEAN,
        "integer" => INTEGER,
        "number" => NUMBER | INTEGER,
        "string" => STRING,
        "array" => ARRAY,
        "object" => OBJECT,
        _ => 0,
    }
}

fn type_of(value: &Value) -> u8 {
    match value {
        Value::Null => NULL,
        Value::Bool(_) => BOOLEAN,
        Value::Number(_) => NUMBER | INTEGER,
        Value::String(_) => STRING,
        Value::Array(_) => ARRAY,
        Value::Object(_) => OBJECT,
    }
}
