//! Compiled schemas, and what is said when a value does not match: where and which rule, never the value.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{Draft, Keyword, PatternOptions, ValidationError};
use serde_json::{Map, Value, json};

use super::cost::{Costs, measure, target};
use super::invalid::Invalid;
use super::pattern::{self, MAX_PATTERN};
use super::schema::{Definition, NAMED_SCHEMAS, SCHEMA, SCHEMAS, Schemas};
use super::shape::Shape;
use super::unique;

/// A schema in use: how to read text by it, and whether a value matches.
#[derive(Debug)]
pub struct Schema {
    pub shape: Arc<Shape>,
    pub validator: Arc<Validator>,
}

/// One schema, compiled.
#[derive(Debug)]
pub struct Validator {
    whole: jsonschema::Validator,
    /// The same without alternatives and circles, to say what is wrong: there, looking for the reason could take
    /// exponentially longer than finding that there is one.
    simple: Option<jsonschema::Validator>,
    weight: u64,
    /// How deep a value may nest.
    pub depth: usize,
    names: Arc<HashSet<Box<str>>>,
}

/// Why a value does not match.
#[derive(Debug, PartialEq)]
pub struct Mismatch {
    pub pointer: String,
    pub message: String,
}

/// Compiles each schema once.
pub struct Compiler<'s> {
    schemas: &'s Schemas<'s>,
    costs: Costs,
    /// Bytes that the automata of all patterns would take.
    pub patterns: usize,
    /// Names of properties in the document: they may be told to a client, those that it made up may not.
    names: Arc<HashSet<Box<str>>>,
    compiled: HashMap<usize, Arc<Validator>>,
    shapes: HashMap<(usize, usize), Arc<Shape>>,
    /// So many more schemas may be copied into shapes.
    shapes_left: usize,
}

/// So many schemas are compiled for one document. Those used in several places count there each.
const MAX_COMPILED: usize = 50_000;
/// Schemas times values that one validation may look at: a fraction of a second.
const MAX_WORK: u64 = 20_000_000;
/// One inside the other, in a value. Together with the longest chain it bounds the stack that is needed.
const MAX_DEPTH: usize = 64;
const MAX_FRAMES: usize = 1_024;

impl<'s> Compiler<'s> {
    /// `roots`: the definitions that will be compiled.
    pub fn new(schemas: &'s Schemas<'s>, roots: &BTreeSet<usize>) -> Result<Self, Invalid> {
        let definitions = &schemas.definitions;
        let patterns = pattern::bound(definitions)?;
        let mut size = 0;
        for &root in roots {
            size += reached(definitions, root)
                .iter()
                .map(|&index| definitions[index].size)
                .sum::<usize>();
            if size > MAX_COMPILED {
                let message = format!("more than {MAX_COMPILED} schemas are used from here on, where each use counts");
                return Err(Invalid::at(&definitions[root].pointer, message));
            }
        }
        let mut names = HashSet::new();
        for definition in definitions {
            collect_names(&definition.schema, &mut names);
        }
        Ok(Self {
            schemas,
            costs: measure(schemas)?,
            patterns,
            names: Arc::new(names),
            compiled: HashMap::new(),
            shapes: HashMap::new(),
            shapes_left: MAX_COMPILED,
        })
    }

    /// How many schemas may come to look at one value, wherever it is.
    pub fn weight(&self) -> u64 {
        self.costs.weights.iter().copied().max().unwrap_or_default()
    }

    /// `depth`: how many levels of it there is a notation for in text.
    pub fn compile(&mut self, index: usize, depth: usize) -> Result<Schema, Invalid> {
        Ok(Schema {
            shape: self.shape(index, depth)?,
            validator: match self.compiled.get(&index) {
                Some(validator) => Arc::clone(validator),
                None => {
                    let validator = Arc::new(self.validator(index)?);
                    self.compiled.insert(index, Arc::clone(&validator));
                    validator
                }
            },
        })
    }

    fn shape(&mut self, index: usize, depth: usize) -> Result<Arc<Shape>, Invalid> {
        if let Some(shape) = self.shapes.get(&(index, depth)) {
            return Ok(Arc::clone(shape));
        }
        let definitions = &self.schemas.definitions;
        let shape = Shape::of(definitions, index, depth, &mut self.shapes_left).ok_or_else(|| {
            let message = format!("parameters and forms from here on use more than {MAX_COMPILED} schemas");
            Invalid::at(&definitions[index].pointer, message)
        })?;
        let shape = Arc::new(shape);
        self.shapes.insert((index, depth), Arc::clone(&shape));
        Ok(shape)
    }

    fn validator(&self, index: usize) -> Result<Validator, Invalid> {
        let definitions = &self.schemas.definitions;
        let reached = reached(definitions, index);
        let whole = reached.iter().map(|&index| definitions[index].schema.clone());
        let whole = build(index, reached.iter().copied().zip(whole), definitions)?;
        let is_simple = |&index: &usize| !self.costs.circular[index] && !has_alternatives(&definitions[index].schema);
        let simple = if reached.iter().all(is_simple) {
            None
        } else {
            let simple = reached
                .iter()
                .map(|&index| simplified(&definitions[index].schema, &self.costs.circular));
            Some(build(index, reached.iter().copied().zip(simple), definitions)?)
        };
        Ok(Validator {
            whole,
            simple,
            weight: self.costs.weights[index],
            depth: MAX_DEPTH.min(MAX_FRAMES / self.costs.chain.max(1)),
            names: Arc::clone(&self.names),
        })
    }
}

impl Validator {
    /// `size`: what `value` was made of, in values and bytes.
    pub fn check(&self, value: &Value, size: usize) -> Result<(), Mismatch> {
        if self.weight.saturating_mul(size as u64) > MAX_WORK {
            return Err(Mismatch {
                pointer: String::new(),
                message: "is too large to be validated against this schema".to_owned(),
            });
        }
        if self.whole.is_valid(value) {
            return Ok(());
        }
        match self.simple.as_ref().unwrap_or(&self.whole).validate(value) {
            Err(error) => Err(self.mismatch(&error)),
            Ok(()) => Err(Mismatch {
                pointer: String::new(),
                message: "matches none or too many of the alternatives".to_owned(),
            }),
        }
    }

    fn mismatch(&self, error: &ValidationError<'_>) -> Mismatch {
        let mut pointer = String::new();
        for segment in error.instance_path().segments() {
            pointer.push('/');
            match segment {
                LocationSegment::Index(index) => pointer.push_str(&index.to_string()),
                LocationSegment::Property(name) if self.names.contains(name.as_ref()) => pointer.push_str(&name),
                LocationSegment::Property(_) => pointer.push('*'),
            }
        }
        Mismatch {
            pointer,
            message: message(error.kind()),
        }
    }
}

/// Values that were sent are in none of these; the schema's own may be.
fn message(kind: &ValidationErrorKind) -> String {
    match kind {
        ValidationErrorKind::Type {
            kind: TypeKind::Single(expected),
        } => format!("is not of type {expected}"),
        ValidationErrorKind::Type { .. } => "does not have an allowed type".to_owned(),
        ValidationErrorKind::Required { property } => match property.as_str() {
            Some(name) => format!("lacks {name}"),
            None => "lacks a property".to_owned(),
        },
        ValidationErrorKind::Minimum { limit } => format!("is less than {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("is more than {limit}"),
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("is not more than {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("is not less than {limit}"),
        ValidationErrorKind::MinLength { limit } => format!("is shorter than {limit}"),
        ValidationErrorKind::MaxLength { limit } => format!("is longer than {limit}"),
        ValidationErrorKind::MinItems { limit } => format!("has fewer items than {limit}"),
        ValidationErrorKind::MaxItems { limit } => format!("has more items than {limit}"),
        ValidationErrorKind::MinProperties { limit } => format!("has fewer properties than {limit}"),
        ValidationErrorKind::MaxProperties { limit } => format!("has more properties than {limit}"),
        ValidationErrorKind::AdditionalProperties { .. } | ValidationErrorKind::UnevaluatedProperties { .. } => {
            "has a property that is not allowed".to_owned()
        }
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => "is not an allowed value".to_owned(),
        ValidationErrorKind::Format { format } => format!("is not a valid {format}"),
        ValidationErrorKind::Pattern { .. } => "does not match its pattern".to_owned(),
        ValidationErrorKind::FalseSchema => "is not allowed".to_owned(),
        ValidationErrorKind::Custom { message, .. } => message.clone(),
        other => format!("does not satisfy {}", other.keyword()),
    }
}

fn reached(definitions: &[Definition], index: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::from([index]);
    let mut open = vec![index];
    while let Some(index) = open.pop() {
        open.extend(
            definitions[index]
                .references
                .iter()
                .filter(|&&target| reached.insert(target)),
        );
    }
    reached
}

fn build(
    root: usize,
    schemas: impl Iterator<Item = (usize, Value)>,
    definitions: &[Definition],
) -> Result<jsonschema::Validator, Invalid> {
    let schemas: Map<_, _> = schemas.map(|(index, schema)| (index.to_string(), schema)).collect();
    let schema = json!({"$ref": format!("#/$defs/{root}"), "$defs": schemas});
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .with_pattern_options(
            PatternOptions::regex()
                .size_limit(MAX_PATTERN)
                .dfa_size_limit(MAX_PATTERN),
        )
        .with_keyword("uniqueItems", unique_items)
        .build(&schema)
        .map_err(|error| {
            // A schema that is wrong by the meta-schema is the instance there; a pattern has its own place.
            let place = place(error.instance_path(), definitions).or_else(|| place(error.schema_path(), definitions));
            Invalid::at(place.as_deref().unwrap_or_default(), error.to_string())
        })
}

/// Back from a place in what was compiled to the document's.
fn place(location: &Location, definitions: &[Definition]) -> Option<String> {
    let rest = location.as_str().strip_prefix("/$defs/")?;
    let (index, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let definition = definitions.get(index.parse::<usize>().ok()?)?;
    let slash = if rest.is_empty() { "" } else { "/" };
    Some(format!("{}{slash}{rest}", definition.pointer))
}

const ALTERNATIVES: [&str; 12] = [
    "anyOf",
    "contains",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "oneOf",
    "propertyNames",
    "then",
    "unevaluatedItems",
];

/// Whether there is more than one way through.
fn has_alternatives(schema: &Value) -> bool {
    let Some(object) = schema.as_object() else { return false };
    object.contains_key("unevaluatedProperties")
        || ALTERNATIVES.iter().any(|keyword| object.contains_key(*keyword))
        || children(schema).any(has_alternatives)
}

fn simplified(schema: &Value, circular: &[bool]) -> Value {
    let Some(object) = schema.as_object() else {
        return schema.clone();
    };
    let mut simple = Map::new();
    for (keyword, value) in object {
        let keyword = keyword.as_str();
        if ALTERNATIVES.contains(&keyword)
            || keyword == "unevaluatedProperties"
            || (keyword == "$ref" && target(schema).is_none_or(|target| circular[target]))
        {
            continue;
        }
        let value = match value {
            Value::Object(named) if NAMED_SCHEMAS.contains(&keyword) => named
                .iter()
                .map(|(name, child)| (name.clone(), simplified(child, circular)))
                .collect::<Map<_, _>>()
                .into(),
            Value::Array(children) if SCHEMAS.contains(&keyword) => {
                children.iter().map(|child| simplified(child, circular)).collect()
            }
            value if SCHEMA.contains(&keyword) => simplified(value, circular),
            value => value.clone(),
        };
        simple.insert(keyword.to_owned(), value);
    }
    Value::Object(simple)
}

fn children(schema: &Value) -> impl Iterator<Item = &Value> {
    let single = SCHEMA.iter().filter_map(|keyword| schema.get(keyword));
    let lists = SCHEMAS
        .iter()
        .filter_map(|keyword| schema.get(keyword)?.as_array())
        .flatten();
    let named = NAMED_SCHEMAS
        .iter()
        .filter_map(|keyword| schema.get(keyword)?.as_object());
    single.chain(lists).chain(named.flat_map(|object| object.values()))
}

fn collect_names(schema: &Value, names: &mut HashSet<Box<str>>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    names.extend(properties.into_iter().flatten().map(|(name, _)| name.as_str().into()));
    for child in children(schema) {
        collect_names(child, names);
    }
}

/// In place of the library's: that one hashes, and what is sent can be made to collide.
struct UniqueItems;

impl<'i> Keyword<'i> for UniqueItems {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            return Ok(());
        }
        Err(ValidationError::custom("has duplicate items"))
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        instance.as_array().is_none_or(|items| unique::are_unique(items))
    }
}

struct Anything;

impl<'i> Keyword<'i> for Anything {
    fn validate(&self, _: &'i Value) -> Result<(), ValidationError<'i>> {
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        true
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the library asks for it")]
fn unique_items<'a>(
    _: &'a Map<String, Value>,
    wanted: &'a Value,
    _: Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    match wanted {
        Value::Bool(true) => Ok(Box::new(UniqueItems)),
        _ => Ok(Box::new(Anything)),
    }
}
