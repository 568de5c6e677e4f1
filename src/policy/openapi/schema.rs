//! Takes the schemas out of a document and makes them plain JSON Schema 2020-12, which has one meaning and refers to
//! nothing but itself. What OpenAPI 3.0 says otherwise is said anew; what only describes is left out.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::invalid::Invalid;
use super::node::{Node, resolve};

/// The schemas found so far. The first of a chain of references stands for the chain.
#[derive(Debug)]
pub struct Schemas<'d> {
    document: &'d Value,
    /// OpenAPI 3.0, whose schemas are a dialect.
    legacy: bool,
    pub definitions: Vec<Definition>,
    /// So many of them, from the first.
    converted: usize,
    by_pointer: HashMap<String, usize>,
    size: usize,
}

#[derive(Debug)]
pub struct Definition {
    /// Where it stands in the document.
    pub pointer: String,
    /// `$ref`s are `#/$defs/N`, by the place in `Schemas::definitions`.
    pub schema: Value,
    pub references: Vec<usize>,
    /// How many schemas stand in it, without those that it refers to.
    pub size: usize,
}

/// Keywords by what they hold.
pub const SCHEMA: [&str; 10] = [
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
pub const SCHEMAS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
pub const NAMED_SCHEMAS: [&str; 3] = ["dependentSchemas", "patternProperties", "properties"];
const PLAIN: [&str; 18] = [
    "const",
    "dependentRequired",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "uniqueItems",
];
/// Would change what references mean.
const REFUSED: [&str; 4] = ["$dynamicRef", "$id", "$recursiveRef", "$vocabulary"];
/// Formats that are checked, since a document that names one means it. The others describe.
const FORMATS: [&str; 12] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uuid",
];
/// The dialects that are 2020-12 but for what describes.
pub const DIALECTS: [&str; 3] = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://spec.openapis.org/oas/3.1/dialect/base",
    "https://spec.openapis.org/oas/3.1/dialect/2024-11-10",
];

const MAX_SCHEMAS: usize = 20_000;

impl<'d> Schemas<'d> {
    pub fn new(document: &'d Value, legacy: bool) -> Self {
        Self {
            document,
            legacy,
            definitions: Vec::new(),
            converted: 0,
            by_pointer: HashMap::new(),
            size: 0,
        }
    }

    /// The definition of the schema that stands here, with all that it refers to.
    pub fn add(&mut self, at: &Node<'d>) -> Result<usize, Invalid> {
        let index = self.reserve(&at.pointer)?;
        // What is found on the way is converted after: references cost no stack.
        while self.converted < self.definitions.len() {
            let pointer = self.definitions[self.converted].pointer.clone();
            let value = resolve(self.document, &pointer)
                .ok_or_else(|| Invalid::at(&pointer, "is referred to but does not exist"))?;
            let mut taken = Taken::default();
            let schema = self.convert(&Node { value, pointer }, &mut taken)?;
            let definition = &mut self.definitions[self.converted];
            definition.schema = schema;
            definition.references = taken.references;
            definition.size = taken.size;
            self.converted += 1;
        }
        Ok(index)
    }

    fn reserve(&mut self, pointer: &str) -> Result<usize, Invalid> {
        // A schema that is a reference and nothing else is the one that it refers to.
        let mut pointer = pointer.to_owned();
        for _ in 0..MAX_HOPS {
            match resolve(self.document, &pointer).and_then(Value::as_object) {
                Some(object) if object.contains_key("$ref") && (self.legacy || object.len() == 1) => {
                    pointer = reference(object, &pointer)?;
                }
                _ => {
                    let next = self.definitions.len();
                    let index = *self.by_pointer.entry(pointer.clone()).or_insert(next);
                    if index == next {
                        self.definitions.push(Definition {
                            pointer,
                            schema: Value::Bool(true),
                            references: Vec::new(),
                            size: 0,
                        });
                    }
                    return Ok(index);
                }
            }
        }
        Err(Invalid::at(
            &pointer,
            "is reached through too many references or through a cycle of them",
        ))
    }

    fn convert(&mut self, at: &Node<'d>, taken: &mut Taken) -> Result<Value, Invalid> {
        taken.size += 1;
        self.size += 1;
        if self.size > MAX_SCHEMAS {
            return Err(at.invalid(format!("there are more than {MAX_SCHEMAS} schemas")));
        }
        let object = match at.value {
            Value::Bool(_) => return Ok(at.value.clone()),
            Value::Object(object) => object,
            _ => return Err(at.invalid("is not a schema")),
        };
        supported(at, object)?;
        let mut schema = Map::new();
        if object.contains_key("$ref") {
            let target = self.reserve(&reference(object, &at.pointer)?)?;
            taken.references.push(target);
            schema.insert("$ref".to_owned(), Value::String(format!("#/$defs/{target}")));
            if self.legacy {
                return Ok(Value::Object(schema));
            }
        }
        self.children(at, taken, &mut schema)?;
        for keyword in PLAIN {
            if let Some(value) = object.get(keyword) {
                schema.insert(keyword.to_owned(), value.clone());
            }
        }
        if let Some(types) = object.get("type") {
            schema.insert("type".to_owned(), self.types(at, types, object)?);
        }
        if let Some(required) = object.get("required") {
            schema.insert("required".to_owned(), self.required(at, required, object)?);
        }
        if self.legacy {
            exclusive(&mut schema, "exclusiveMinimum", "minimum");
            exclusive(&mut schema, "exclusiveMaximum", "maximum");
        }
        format(&mut schema, object.get("format").and_then(Value::as_str));
        Ok(Value::Object(schema))
    }

    /// Converts the schemas that stand below this one.
    fn children(&mut self, at: &Node<'d>, taken: &mut Taken, schema: &mut Map<String, Value>) -> Result<(), Invalid> {
        for keyword in SCHEMA {
            if let Some(child) = at.get(keyword) {
                schema.insert(keyword.to_owned(), self.convert(&child, taken)?);
            }
        }
        for keyword in SCHEMAS {
            if let Some(children) = at.get(keyword) {
                let converted: Vec<_> = children
                    .items()?
                    .map(|child| self.convert(&child, taken))
                    .collect::<Result<_, _>>()?;
                schema.insert(keyword.to_owned(), converted.into());
            }
        }
        for keyword in NAMED_SCHEMAS {
            if let Some(children) = at.get(keyword) {
                let converted: Map<_, _> = children
                    .entries()?
                    .map(|(name, child)| Ok((name.to_owned(), self.convert(&child, taken)?)))
                    .collect::<Result<_, Invalid>>()?;
                schema.insert(keyword.to_owned(), converted.into());
            }
        }
        Ok(())
    }

    /// 3.0: one type, and `nullable`, which means something beside a type alone.
    fn types(&self, at: &Node<'_>, types: &Value, object: &Map<String, Value>) -> Result<Value, Invalid> {
        if !self.legacy {
            return Ok(types.clone());
        }
        match types {
            Value::String(_) if object.get("nullable") == Some(&Value::Bool(true)) => Ok(json!([types, "null"])),
            Value::String(_) => Ok(types.clone()),
            _ => Err(at.child("type").invalid("must be a single type in OpenAPI 3.0")),
        }
    }

    /// What is read-only is required of responses alone.
    fn required(&self, at: &Node<'_>, required: &Value, object: &Map<String, Value>) -> Result<Value, Invalid> {
        let names = required
            .as_array()
            .ok_or_else(|| at.child("required").invalid("is not a list of names"))?;
        let properties = object.get("properties");
        let read_only = |name: &Value| {
            let property = name.as_str().and_then(|name| properties?.get(name));
            property.is_some_and(|property| self.read_only(property))
        };
        Ok(names.iter().filter(|name| !read_only(name)).cloned().collect())
    }

    fn read_only<'v>(&'v self, mut schema: &'v Value) -> bool {
        for _ in 0..MAX_HOPS {
            if schema.get("readOnly") == Some(&Value::Bool(true)) {
                return true;
            }
            let target = schema.as_object().and_then(|object| reference(object, "").ok());
            match target.and_then(|target| resolve(self.document, &target)) {
                Some(next) => schema = next,
                None => return false,
            }
        }
        false
    }
}

/// What conversion of one definition comes upon.
#[derive(Default)]
struct Taken {
    references: Vec<usize>,
    size: usize,
}

/// The pointer that `$ref` names; it must be into this document.
pub fn reference(object: &Map<String, Value>, pointer: &str) -> Result<String, Invalid> {
    let text = object.get("$ref").and_then(Value::as_str);
    let text = text.ok_or_else(|| Invalid::at(pointer, "has a $ref that is not a string"))?;
    let local = text
        .strip_prefix('#')
        .filter(|fragment| fragment.is_empty() || fragment.starts_with('/'));
    let fragment = local.ok_or_else(|| Invalid::at(pointer, "refers to something outside this document"))?;
    let decoded = super::decode::component(fragment);
    decoded
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| Invalid::at(pointer, "has a $ref that is not properly encoded"))
}

pub const MAX_HOPS: usize = 32;

/// Whether the validator knows all that this schema asks for.
fn supported(at: &Node<'_>, object: &Map<String, Value>) -> Result<(), Invalid> {
    if let Some(keyword) = REFUSED.iter().find(|keyword| object.contains_key(**keyword)) {
        return Err(at.child(keyword).invalid("is not supported"));
    }
    if let Some(dialect) = object.get("$schema")
        && !dialect.as_str().is_some_and(|dialect| DIALECTS.contains(&dialect))
    {
        return Err(at.child("$schema").invalid("is not JSON Schema 2020-12"));
    }
    Ok(())
}

/// 3.0: `exclusiveMinimum: true` makes `minimum` exclusive.
fn exclusive(schema: &mut Map<String, Value>, exclusive: &str, inclusive: &str) {
    let Some(Value::Bool(is_exclusive)) = schema.get(exclusive) else {
        return;
    };
    let is_exclusive = *is_exclusive;
    schema.remove(exclusive);
    if is_exclusive && let Some(limit) = schema.remove(inclusive) {
        schema.insert(exclusive.to_owned(), limit);
    }
}

fn format(schema: &mut Map<String, Value>, format: Option<&str>) {
    let Some(format) = format else { return };
    if FORMATS.contains(&format) {
        schema.insert("format".to_owned(), format.into());
    }
    let (low, high) = match format {
        "int32" => (i64::from(i32::MIN), i64::from(i32::MAX)),
        "int64" => (i64::MIN, i64::MAX),
        _ => return,
    };
    if !schema.contains_key("exclusiveMinimum") {
        schema.entry("minimum").or_insert(low.into());
    }
    if !schema.contains_key("exclusiveMaximum") {
        schema.entry("maximum").or_insert(high.into());
    }
}
