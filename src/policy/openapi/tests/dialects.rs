//! What the dialects of OpenAPI say otherwise.

use super::{json, taking};

#[test]
fn what_openapi_3_1_says_otherwise_holds_there() {
    for (schema, body, passes) in [
        (r#"{"type": ["string", "null"]}"#, "null", true),
        (r#"{"type": ["string", "null"]}"#, "1", false),
        (r#"{"type": "string", "nullable": true}"#, "null", false),
        (r#"{"exclusiveMinimum": 3}"#, "3", false),
        (r#"{"exclusiveMinimum": 3}"#, "3.5", true),
        (r#"{"const": {"a": 1}}"#, r#"{"a": 1.0}"#, true),
        (r#"{"const": 1}"#, "2", false),
        (
            r#"{"prefixItems": [{"type": "string"}], "items": false}"#,
            r#"["a"]"#,
            true,
        ),
        (
            r#"{"prefixItems": [{"type": "string"}], "items": false}"#,
            r#"["a", 1]"#,
            false,
        ),
        (
            r#"{"if": {"required": ["a"]}, "then": {"required": ["b"]}}"#,
            r#"{"a": 1}"#,
            false,
        ),
        (
            r#"{"if": {"required": ["a"]}, "then": {"required": ["b"]}}"#,
            r#"{"c": 1}"#,
            true,
        ),
        (
            r#"{"patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": false}"#,
            r#"{"x-a": "b"}"#,
            true,
        ),
        (
            r#"{"patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": false}"#,
            r#"{"y": "b"}"#,
            false,
        ),
        (
            r#"{"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": false}"#,
            r#"{"a": 1}"#,
            true,
        ),
        (
            r#"{"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": false}"#,
            r#"{"b": 1}"#,
            false,
        ),
        (
            r##"{"$defs": {"n": {"type": "integer"}}, "minimum": 5,
              "$ref": "#/paths/~1/post/requestBody/content/application~1json/schema/$defs/n"}"##,
            "4",
            false,
        ),
        (r#"{"contains": {"const": 1}, "maxContains": 1}"#, "[1, 2]", true),
        (r#"{"contains": {"const": 1}, "maxContains": 1}"#, "[1, 1]", false),
        (r#"{"dependentRequired": {"a": ["b"]}}"#, r#"{"a": 1}"#, false),
        (r#"{"uniqueItems": true}"#, "[1, 1.0]", false),
        (r#"{"uniqueItems": false}"#, "[1, 1]", true),
        (r#"{"not": {"type": "string"}}"#, r#""a""#, false),
        ("false", "1", false),
        ("true", "1", true),
    ] {
        let document = taking("3.1.1", schema).unwrap();
        assert_eq!(json(&document, "POST /", body).is_ok(), passes, "{schema} {body}");
    }
}

#[test]
fn what_openapi_3_0_says_otherwise_holds_there() {
    for (schema, body, passes) in [
        (r#"{"type": "string", "nullable": true}"#, "null", true),
        (r#"{"type": "string", "nullable": true, "enum": ["a"]}"#, "null", false),
        (r#"{"nullable": true, "allOf": [{"type": "string"}]}"#, "null", false),
        (r#"{"minimum": 3, "exclusiveMinimum": true}"#, "3", false),
        (r#"{"minimum": 3, "exclusiveMinimum": false}"#, "3", true),
        (r#"{"maximum": 3, "exclusiveMaximum": true}"#, "3", false),
        (r#"{"type": "integer", "format": "int32"}"#, "2147483648", false),
        (r#"{"type": "integer", "format": "int32"}"#, "-2147483648", true),
        (r#"{"type": "string", "format": "email"}"#, r#""a@example.com""#, true),
        (r#"{"type": "string", "format": "email"}"#, r#""a""#, false),
        (r#"{"type": "string", "format": "of my own"}"#, r#""a""#, true),
        (r#"{"type": "string", "format": "regex"}"#, r#""(""#, true),
        (r#"{"type": "string", "pattern": "^\\d+$"}"#, "\"\u{0663}\"", false),
        (
            r#"{"$schema": "https://json-schema.org/draft/2020-12/schema"}"#,
            "1",
            true,
        ),
    ] {
        let document = taking("3.0.4", schema).unwrap();
        assert_eq!(json(&document, "POST /", body).is_ok(), passes, "{schema} {body}");
    }
}
