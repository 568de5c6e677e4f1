//! Whatever is read or sent, nothing panics; and what is validated agrees with a naive reading.

use serde_json::{Value, json};

use super::{json as send, pets, taking, validate};
use crate::policy::openapi::document::Document;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[a-c]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![
            "null", "boolean", "integer", "number", "string", "array", "object"
        ])
        .prop_map(|name| json!({"type": name})),
        value().prop_map(|value| json!({"const": value})),
        prop::collection::vec(value(), 1..3).prop_map(|values| json!({"enum": values})),
        (-3_i64..4).prop_map(|limit| json!({"minimum": limit})),
        (0_u64..3).prop_map(|limit| json!({"minLength": limit})),
        (0_u64..3).prop_map(|limit| json!({"maxItems": limit})),
        "[a-c]".prop_map(|name| json!({"required": [name]})),
        Just(json!({"uniqueItems": true})),
        Just(json!({"pattern": "^[ab]*$"})),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"allOf": [a, b]})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"anyOf": [a, b]})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"oneOf": [a, b]})),
            inner.clone().prop_map(|schema| json!({"not": schema})),
            inner.clone().prop_map(|schema| json!({"items": schema})),
            ("[a-c]", inner.clone(), inner)
                .prop_map(|(name, a, b)| json!({"properties": {name: a}, "additionalProperties": b})),
        ]
    })
}

/// The same keywords, as their definitions read.
fn matches(schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else {
        return schema == &Value::Bool(true);
    };
    let all = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .map(|schema| matches(schema, value))
            .collect::<Vec<_>>()
    };
    schema.iter().all(|(keyword, rule)| match keyword.as_str() {
        "type" => match (rule.as_str().unwrap(), value) {
            ("null", value) => value.is_null(),
            ("boolean", value) => value.is_boolean(),
            ("integer", Value::Number(number)) => number.as_f64().unwrap().fract() == 0.0,
            ("number", value) => value.is_number(),
            ("string", value) => value.is_string(),
            ("array", value) => value.is_array(),
            ("object", value) => value.is_object(),
            _ => false,
        },
        "const" => same(rule, value),
        "enum" => rule.as_array().unwrap().iter().any(|one| same(one, value)),
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
        "minLength" => value
            .as_str()
            .is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap()),
        "maxItems" => value
            .as_array()
            .is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
        "required" => value
            .as_object()
            .is_none_or(|object| object.contains_key(rule[0].as_str().unwrap())),
        "uniqueItems" => value
            .as_array()
            .is_none_or(|items| (0..items.len()).all(|a| (0..a).all(|b| !same(&items[a], &items[b])))),
        "pattern" => value
            .as_str()
            .is_none_or(|text| text.chars().all(|c| c == 'a' || c == 'b')),
        "allOf" => all(rule).iter().all(|&fits| fits),
        "anyOf" => all(rule).iter().any(|&fits| fits),
        "oneOf" => all(rule).iter().filter(|&&fits| fits).count() == 1,
        "not" => !matches(rule, value),
        "items" => value
            .as_array()
            .is_none_or(|items| items.iter().all(|item| matches(rule, item))),
        "properties" => value.as_object().is_none_or(|object| {
            let mut rules = rule.as_object().unwrap().iter();
            rules.all(|(name, rule)| object.get(name).is_none_or(|value| matches(rule, value)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|object| {
            let mut others = object
                .iter()
                .filter(|(name, _)| schema["properties"].get(name).is_none());
            others.all(|(_, value)| matches(rule, value))
        }),
        _ => unreachable!("{keyword}"),
    })
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn schemas_mean_what_their_keywords_say(schema in schema(), values in prop::collection::vec(value(), 1..6)) {
        let document = taking("3.1.0", &schema.to_string()).unwrap();
        for value in values {
            prop_assert_eq!(send(&document, "POST /", &value.to_string()).is_ok(), matches(&schema, &value), "{} {}", schema, value);
        }
    }

    #[test]
    fn no_text_makes_reading_a_document_panic(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Document::read(text.as_bytes());
        let _ = Document::read(&bytes);
    }

    /// One thing in a good document is replaced.
    #[test]
    fn no_change_to_a_document_makes_it_panic(at in 0_usize..10_000, with in value(), cut in 0_usize..5_000) {
        let mut document = serde_saphyr::from_str::<Value>(super::PETS).unwrap();
        let mut count = 0;
        replace(&mut document, &mut count, at % 330, &with);
        let text = document.to_string();
        if let Ok(document) = Document::read(text.as_bytes()) {
            let _ = send(&document, "POST /v1/pets", r#"{"name": "x", "kind": "cat"}"#);
            let _ = validate(&document, "GET /v1/pets?limit=5&tag=cat&filter[age]=3", &[], None);
        }
        let cut = super::PETS.floor_char_boundary(cut);
        let _ = Document::read(&super::PETS.as_bytes()[..cut]);
    }

    #[test]
    fn no_request_makes_validation_panic(
        path in prop_oneof!["/v1/pets/[ -~]{0,8}", "[ -~]{0,20}", Just("/v1/pets".to_owned())],
        query in "((limit|tag|ids|sizes|words|filter|filter\\[|all|where)[=&\\[\\]%a-c0-9|,+]{0,8}&?){0,4}",
        cookie in "[ -~]{0,20}",
        content_type in "(application/json|application/x-www-form-urlencoded|[!-~]{0,12})(;charset=[a-z0-9-]{0,5})?",
        body in prop_oneof![prop::collection::vec(any::<u8>(), 0..64), value().prop_map(|value| value.to_string().into_bytes())],
        method in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]),
    ) {
        let headers = [
            ("x-trace", "0b8e3d0c-67a3-4d7b-9c5e-0d2a1f7f1b11"),
            ("x-tags", cookie.as_str()),
            ("cookie", &format!("session={cookie}")),
            ("content-type", &content_type),
        ];
        let line = format!("{method} {}?{query}", path.replace(['?'], ""));
        PETS_READ.with(|pets| {
            if let Err(violation) = validate(pets, &line, &headers, Some(&body)) {
                assert!(violation.to_string().len() <= 300);
            }
        });
    }
}

thread_local! {
    static PETS_READ: Document = pets();
}

fn replace(value: &mut Value, count: &mut usize, at: usize, with: &Value) {
    *count += 1;
    if *count == at {
        *value = with.clone();
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, count, at, with)),
        Value::Object(object) => object.values_mut().for_each(|value| replace(value, count, at, with)),
        _ => {}
    }
}
