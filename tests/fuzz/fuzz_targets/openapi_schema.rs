//! Schemas against an interpreter that does what the definitions of the keywords say. The first line is a schema, each
//! further one a value.

#![no_main]

use http::{HeaderMap, HeaderValue, Method, header};
use libfuzzer_sys::fuzz_target;
use postern::policy::openapi::{Call, Document, Parts};
use postern_fuzz::cut;
use serde_json::{Value, json};

/// None: the schema holds what is not interpreted here.
fn matches(schema: &Value, value: &Value) -> Option<bool> {
    let Value::Object(keywords) = schema else {
        return schema.as_bool();
    };
    let mut all = true;
    for (keyword, rule) in keywords {
        all &= match keyword.as_str() {
            "type" => is_of_type(rule.as_str()?, value)?,
            "const" => same(rule, value),
            "enum" => rule.as_array()?.iter().any(|one| same(one, value)),
            "minimum" => compare(value, rule, |value, limit| value >= limit)?,
            "exclusiveMaximum" => compare(value, rule, |value, limit| value < limit)?,
            "minLength" => length(value.as_str().map(|text| text.chars().count()), rule, |own, limit| {
                own >= limit
            })?,
            "maxLength" => length(value.as_str().map(|text| text.chars().count()), rule, |own, limit| {
                own <= limit
            })?,
            "minItems" => length(value.as_array().map(Vec::len), rule, |own, limit| own >= limit)?,
            "maxItems" => length(value.as_array().map(Vec::len), rule, |own, limit| own <= limit)?,
            "maxProperties" => length(value.as_object().map(|object| object.len()), rule, |own, limit| {
                own <= limit
            })?,
            "required" => {
                let names = rule.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
                value
                    .as_object()
                    .is_none_or(|object| names.iter().all(|name| object.contains_key(*name)))
            }
            "uniqueItems" => {
                let unique = |items: &Vec<Value>| (0..items.len()).all(|a| (0..a).all(|b| !same(&items[a], &items[b])));
                !rule.as_bool()? || value.as_array().is_none_or(unique)
            }
            "allOf" => count(rule, value)?.0,
            "anyOf" => count(rule, value)?.1 > 0,
            "oneOf" => count(rule, value)?.1 == 1,
            "not" => !matches(rule, value)?,
            "items" => {
                matches(rule, &Value::Null)?;
                let items = value.as_array().into_iter().flatten();
                items
                    .map(|item| matches(rule, item))
                    .collect::<Option<Vec<_>>>()?
                    .iter()
                    .all(|fits| *fits)
            }
            "properties" => {
                let mut fits = true;
                for (name, rule) in rule.as_object()? {
                    matches(rule, &Value::Null)?;
                    if let Some(value) = value.as_object().and_then(|object| object.get(name)) {
                        fits &= matches(rule, value)?;
                    }
                }
                fits
            }
            "additionalProperties" => {
                matches(rule, &Value::Null)?;
                let named = |name: &String| {
                    keywords
                        .get("properties")
                        .is_some_and(|known| known.get(name).is_some())
                };
                let others = value.as_object().into_iter().flatten().filter(|(name, _)| !named(name));
                others
                    .map(|(_, value)| matches(rule, value))
                    .collect::<Option<Vec<_>>>()?
                    .iter()
                    .all(|fits| *fits)
            }
            _ => return None,
        };
    }
    Some(all)
}

/// Whether all of them match, and how many.
fn count(rules: &Value, value: &Value) -> Option<(bool, usize)> {
    let rules = rules.as_array().filter(|rules| !rules.is_empty())?;
    let fits = rules
        .iter()
        .map(|rule| matches(rule, value))
        .collect::<Option<Vec<_>>>()?;
    Some((fits.iter().all(|fits| *fits), fits.iter().filter(|fits| **fits).count()))
}

fn is_of_type(name: &str, value: &Value) -> Option<bool> {
    Some(match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => return None,
    })
}

fn compare(value: &Value, limit: &Value, holds: fn(f64, f64) -> bool) -> Option<bool> {
    let limit = limit.as_f64()?;
    Some(value.as_f64().is_none_or(|value| holds(value, limit)))
}

fn length(own: Option<usize>, limit: &Value, holds: fn(u64, u64) -> bool) -> Option<bool> {
    let limit = limit.as_u64()?;
    Some(own.is_none_or(|own| holds(own as u64, limit)))
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// Every whole number is itself as a float.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() < 9e15),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(object) => object.values().all(is_exact),
        _ => true,
    }
}

fuzz_target!(|input: &[u8]| {
    let (schema, values) = cut(input);
    let Ok(schema) = serde_json::from_slice::<Value>(schema) else {
        return;
    };
    if !is_exact(&schema) || matches(&schema, &Value::Null).is_none() {
        return;
    }
    let media_types = json!({"application/json": {"schema": schema}});
    let text = json!({
        "openapi": "3.1.0", "info": {"title": "t", "version": "1"},
        "paths": {"/": {"post": {"requestBody": {"content": media_types}}}},
    });
    let Ok(document) = Document::read(text.to_string().as_bytes()) else {
        return;
    };
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    for line in values.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(value) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        let Some(expected) = matches(&schema, &value).filter(|_| is_exact(&value)) else {
            continue;
        };
        // Written anew: a key that stands twice is refused whatever the schema says.
        let body = value.to_string();
        let call = Call {
            method: &Method::POST,
            path: "/",
            query: None,
            headers: &headers,
            body: Some(body.as_bytes()),
        };
        assert_eq!(
            document.validate(Parts::ALL, &call).is_ok(),
            expected,
            "{value} by {schema}"
        );
    }
});
