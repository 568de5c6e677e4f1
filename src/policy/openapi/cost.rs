//! What a schema can cost a request: a bound on the work per value, and on the depth. A document comes from whoever owns
//! the app and a request from anybody, so that neither may choose how long a validation takes.

use serde_json::Value;

use super::invalid::Invalid;
use super::schema::{Definition, NAMED_SCHEMAS, SCHEMA, SCHEMAS, Schemas};

#[derive(Debug)]
pub struct Costs {
    /// By definition: how many schemas can come to look at one value, its parents' share included.
    pub weights: Vec<u64>,
    /// By definition: whether it was come upon again from within itself. Every circle has one such.
    pub circular: Vec<bool>,
    /// The longest chain of schemas that look at the same value.
    pub chain: usize,
}

/// So many schemas at most look at one value.
pub const MAX_WEIGHT: u64 = 10_000;
/// One inside the other, through references: what it costs of a stack.
const MAX_LEVELS: usize = 1_000;
const MAX_CHAIN: usize = 64;

/// Each of these looks at the very value that its parent does.
const SAME_VALUE: [&str; 4] = ["else", "if", "not", "then"];
const SAME_VALUE_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

pub fn measure(schemas: &Schemas<'_>) -> Result<Costs, Invalid> {
    let count = schemas.definitions.len();
    let mut walk = Walk {
        definitions: &schemas.definitions,
        weights: vec![Mark::New; count],
        chains: vec![Mark::New; count],
        circular: vec![false; count],
        levels: 0,
        longest: 0,
    };
    let mut weights = Vec::with_capacity(count);
    for (index, definition) in schemas.definitions.iter().enumerate() {
        let weight = walk.weight_of(index)?;
        if weight > MAX_WEIGHT {
            return Err(Invalid::at(
                &definition.pointer,
                format!("could validate one value against more than {MAX_WEIGHT} schemas"),
            ));
        }
        weights.push(weight);
        walk.chains_within(&definition.schema, index)?;
    }
    Ok(Costs {
        weights,
        circular: walk.circular,
        chain: walk.longest,
    })
}

struct Walk<'s> {
    definitions: &'s [Definition],
    weights: Vec<Mark>,
    chains: Vec<Mark>,
    circular: Vec<bool>,
    levels: usize,
    longest: usize,
}

#[derive(Clone, Copy)]
enum Mark {
    New,
    Open,
    Done(u64),
}

impl Walk<'_> {
    fn weight_of(&mut self, index: usize) -> Result<u64, Invalid> {
        match self.weights[index] {
            Mark::Done(weight) => Ok(weight),
            // Results are remembered by value where definitions go in circles: each looks at a value once.
            Mark::Open => {
                self.circular[index] = true;
                Ok(1)
            }
            Mark::New => {
                self.weights[index] = Mark::Open;
                let definitions = self.definitions;
                let weight = self.weight(&definitions[index].schema, index)?;
                self.weights[index] = Mark::Done(weight);
                Ok(weight)
            }
        }
    }

    fn weight(&mut self, schema: &Value, index: usize) -> Result<u64, Invalid> {
        self.deeper(index)?;
        let mut same = 0_u64;
        if let Some(target) = target(schema) {
            same = same.saturating_add(self.weight_of(target)?);
        }
        for child in same_value(schema) {
            same = same.saturating_add(self.weight(child, index)?);
        }
        if schema.get("unevaluatedProperties").is_some() || schema.get("unevaluatedItems").is_some() {
            // These look a second time at what has been evaluated.
            same = same.saturating_mul(2);
        }
        let mut properties = 0;
        for child in named(schema, "properties") {
            properties = properties.max(self.weight(child, index)?);
        }
        for child in named(schema, "patternProperties") {
            properties = properties.saturating_add(self.weight(child, index)?);
        }
        for keyword in ["additionalProperties", "propertyNames", "unevaluatedProperties"] {
            if let Some(child) = schema.get(keyword) {
                properties = properties.saturating_add(self.weight(child, index)?);
            }
        }
        let mut items = 0;
        for child in list(schema, "prefixItems") {
            items = items.max(self.weight(child, index)?);
        }
        for keyword in ["contains", "items", "unevaluatedItems"] {
            if let Some(child) = schema.get(keyword) {
                items = items.saturating_add(self.weight(child, index)?);
            }
        }
        self.levels -= 1;
        // Lists of names and values are gone through, too.
        let listed: u64 = ["dependentRequired", "enum", "properties", "required"]
            .iter()
            .filter_map(|keyword| schema.get(keyword))
            .map(|value| {
                value
                    .as_array()
                    .map_or(0, Vec::len)
                    .max(value.as_object().map_or(0, |object| object.len()))
            })
            .map(|count| count as u64 / 8)
            .sum();
        Ok(same.saturating_add(properties.max(items)).saturating_add(listed + 1))
    }

    /// Every schema in here begins a chain.
    fn chains_within(&mut self, schema: &Value, index: usize) -> Result<(), Invalid> {
        let chain = self.chain(schema, index)?;
        self.longest = self.longest.max(usize::try_from(chain).unwrap_or(usize::MAX));
        if self.longest > MAX_CHAIN {
            return Err(Invalid::at(
                &self.definitions[index].pointer,
                format!("has a chain of more than {MAX_CHAIN} schemas for the same value"),
            ));
        }
        for keyword in SCHEMA {
            if let Some(child) = schema.get(keyword) {
                self.chains_within(child, index)?;
            }
        }
        for child in SCHEMAS.iter().flat_map(|keyword| list(schema, keyword)) {
            self.chains_within(child, index)?;
        }
        for child in NAMED_SCHEMAS.iter().flat_map(|keyword| named(schema, keyword)) {
            self.chains_within(child, index)?;
        }
        Ok(())
    }

    fn chain(&mut self, schema: &Value, index: usize) -> Result<u64, Invalid> {
        self.deeper(index)?;
        let mut longest = 0;
        if let Some(target) = target(schema) {
            longest = match self.chains[target] {
                Mark::Done(chain) => chain,
                Mark::Open => {
                    return Err(Invalid::at(
                        &self.definitions[target].pointer,
                        "refers to itself for the same value",
                    ));
                }
                Mark::New => {
                    self.chains[target] = Mark::Open;
                    let definitions = self.definitions;
                    let chain = self.chain(&definitions[target].schema, target)?;
                    self.chains[target] = Mark::Done(chain);
                    chain
                }
            };
        }
        for child in same_value(schema) {
            longest = longest.max(self.chain(child, index)?);
        }
        self.levels -= 1;
        Ok(longest + 1)
    }

    fn deeper(&mut self, index: usize) -> Result<(), Invalid> {
        self.levels += 1;
        if self.levels > MAX_LEVELS {
            return Err(Invalid::at(
                &self.definitions[index].pointer,
                format!("nests more than {MAX_LEVELS} schemas, including references"),
            ));
        }
        Ok(())
    }
}

fn same_value(schema: &Value) -> impl Iterator<Item = &Value> {
    let single = SAME_VALUE.iter().filter_map(|keyword| schema.get(keyword));
    let lists = SAME_VALUE_LISTS.iter().flat_map(|keyword| list(schema, keyword));
    single.chain(lists).chain(named(schema, "dependentSchemas"))
}

/// The definition that a converted schema refers to.
pub fn target(schema: &Value) -> Option<usize> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?.parse().ok()
}

fn list<'s>(schema: &'s Value, keyword: &str) -> impl Iterator<Item = &'s Value> {
    schema.get(keyword).and_then(Value::as_array).into_iter().flatten()
}

fn named<'s>(schema: &'s Value, keyword: &str) -> impl Iterator<Item = &'s Value> {
    let schemas = schema.get(keyword).and_then(Value::as_object);
    schemas.into_iter().flat_map(|object| object.values())
}
