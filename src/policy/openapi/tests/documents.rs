//! Documents that are refused, and the place that is named.

use super::taking;
use crate::policy::openapi::document::Document;

fn refusal(text: &str) -> String {
    Document::read(text.as_bytes()).unwrap_err()
}

/// A document with these paths, as YAML in one line.
fn with_paths(paths: &str) -> String {
    format!("openapi: 3.0.0\ninfo: {{title: t, version: '1'}}\npaths: {paths}\n")
}

#[test]
fn what_is_no_openapi_document_is_refused() {
    for (text, place) in [
        ("", "openapi"),
        ("[]", "openapi"),
        ("{}", "/openapi"),
        ("openapi: 3.1.0", "/info"),
        ("swagger: '2.0'", "/openapi"),
        ("openapi: 3.2.0\ninfo: {title: t, version: '1'}", "/openapi"),
        ("openapi: 3.0\ninfo: {title: t, version: '1'}", "/openapi"),
        (
            "openapi: 3.1.0\ninfo: {title: t, version: '1'}\njsonSchemaDialect: http://json-schema.org/draft-07/schema#",
            "/jsonSchemaDialect",
        ),
        ("openapi: 3.1.0\nopenapi: 3.1.0", "YAML"),
        ("{\"openapi\": \"3.1.0\", \"openapi\": \"3.1.0\"}", "JSON"),
        ("a: b: c", "YAML"),
        ("{\"openapi\": ", "JSON"),
        ("openapi: 3.1.0\n---\nopenapi: 3.1.0", "YAML"),
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(place), "{text}: {refusal}");
    }
    assert!(Document::read(b"\xff").is_err());
    assert!(
        Document::read(&b" ".repeat(1024 * 1024 + 1))
            .unwrap_err()
            .contains("larger")
    );
}

#[test]
fn a_document_without_paths_has_no_operations() {
    assert!(Document::read(b"openapi: 3.1.0\ninfo: {title: t, version: '1'}").is_ok());
}

#[test]
fn what_is_wrong_with_operations_is_told_with_its_place() {
    for (paths, expected) in [
        ("{pets: {get: {}}}", "/paths/pets: does not begin with /"),
        (
            "{'/a/{b}': {get: {}}, '/a/{c}': {get: {}}}",
            "/paths/~1a~1{c}: differs from another path only in the names of its parameters",
        ),
        (
            "{/a: {get: {parameters: [{name: b, in: path, schema: {}}]}}}",
            "/paths/~1a/get/parameters/0: is not part of the path",
        ),
        (
            "{/a: {get: {parameters: [{in: query, schema: {}}]}}}",
            "/paths/~1a/get/parameters/0/name: is missing",
        ),
        (
            "{/a: {get: {parameters: [{name: b, in: body, schema: {}}]}}}",
            "/paths/~1a/get/parameters/0/in",
        ),
        (
            "{/a: {get: {parameters: [{name: b, in: query}]}}}",
            "/paths/~1a/get/parameters/0: must have either",
        ),
        (
            "{/a: {get: {parameters: [{name: b, in: query, schema: {}}, {name: b, in: query, schema: {}}]}}}",
            "/paths/~1a/get/parameters/1: is described twice",
        ),
        (
            "{'/a/{b}': {get: {parameters: [{name: b, in: path, style: matrix, schema: {}}]}}}",
            "/paths/~1a~1{b}/get/parameters/0/style",
        ),
        (
            "{/a: {get: {parameters: [{name: b, in: header, style: form, schema: {}}]}}}",
            "/parameters/0/style: is not supported here",
        ),
        (
            "{/a: {get: {parameters: {}}}}",
            "/paths/~1a/get/parameters: is not a list",
        ),
        (
            "{/a: {get: {parameters: [{name: b, in: query, required: 'yes', schema: {}}]}}}",
            "/parameters/0/required",
        ),
        (
            "{/a: {post: {requestBody: {}}}}",
            "/paths/~1a/post/requestBody/content: is not an object",
        ),
        (
            "{/a: {post: {requestBody: {content: {json: {}}}}}}",
            "/content/json: is not a valid media type",
        ),
        (
            "{/a: {post: {requestBody: {$ref: 'other.yaml#/Body'}}}}",
            "/paths/~1a/post/requestBody: refers to something outside",
        ),
        (
            "{/a: {post: {requestBody: {$ref: '#/components/None'}}}}",
            "/paths/~1a/post/requestBody: refers to /components/None",
        ),
        (
            "{/a: {$ref: '#/paths/~1a'}}",
            "/paths/~1a: is reached through too many references",
        ),
        ("[]", "/paths: is not an object"),
    ] {
        let refusal = refusal(&with_paths(paths));
        assert!(refusal.contains(expected), "{paths}: {refusal}");
    }
}

#[test]
fn what_is_wrong_with_schemas_is_told_with_its_place() {
    let at = "/paths/~1/post/requestBody/content/application~1json/schema";
    for (version, schema, place, message) in [
        ("3.1.0", r#"{"type": "text"}"#, "/type", "text"),
        (
            "3.1.0",
            r#"{"properties": {"a": {"minLength": -1}}}"#,
            "/properties/a/minLength",
            "-1",
        ),
        (
            "3.1.0",
            r#"{"properties": {"a/b": {"pattern": "("}}}"#,
            "/properties/a~1b/pattern",
            "(",
        ),
        ("3.1.0", r#"{"pattern": "(?=a)b"}"#, "/pattern", "(?=a)b"),
        ("3.1.0", r#"{"pattern": "(a)\\1"}"#, "/pattern", "(a)"),
        ("3.1.0", r#"{"pattern": "((a{99}){99}){99}"}"#, "/pattern", ""),
        (
            "3.1.0",
            r#"{"$ref": "https://example.com/schema"}"#,
            "",
            "outside this document",
        ),
        (
            "3.1.0",
            r#"{"items": {"$ref": "file:///etc/passwd"}}"#,
            "/items",
            "outside this document",
        ),
        ("3.1.0", r##"{"$ref": "#name"}"##, "", "outside this document"),
        (
            "3.1.0",
            r##"{"items": {"$ref": "#/%zz"}}"##,
            "/items",
            "not properly encoded",
        ),
        (
            "3.1.0",
            r##"{"items": {"$ref": "#/none"}}"##,
            "",
            "/none: is referred to but does not exist",
        ),
        ("3.1.0", r#"{"$id": "https://example.com"}"#, "/$id", "not supported"),
        ("3.1.0", r##"{"$dynamicRef": "#a"}"##, "/$dynamicRef", "not supported"),
        (
            "3.1.0",
            r#"{"$schema": "http://json-schema.org/draft-07/schema#"}"#,
            "/$schema",
            "2020-12",
        ),
        ("3.1.0", r#"{"items": [{}]}"#, "/items", "is not a schema"),
        ("3.1.0", r#"{"allOf": {}}"#, "/allOf", "is not a list"),
        ("3.1.0", r#"{"required": "a"}"#, "/required", "not a list of names"),
        ("3.1.0", "3", "", "is not a schema"),
        ("3.0.0", r#"{"type": ["string"]}"#, "/type", "must be a single type"),
    ] {
        let refusal = taking(version, schema).unwrap_err();
        assert!(
            refusal.contains(&format!("{at}{place}")) || message.starts_with("/none"),
            "{schema}: {refusal}"
        );
        assert!(refusal.contains(message), "{schema}: {refusal}");
    }
}

#[test]
fn references_may_be_chained_and_circular_through_values() {
    let text = r##"
openapi: 3.1.0
info: {title: t, version: '1'}
paths:
  /a:
    $ref: '#/components/pathItems/A'
components:
  pathItems:
    A: {post: {requestBody: {$ref: '#/components/requestBodies/B'}}}
  requestBodies:
    B: {$ref: '#/components/requestBodies/C'}
    C: {content: {application/json: {schema: {$ref: '#/components/schemas/List'}}}}
  schemas:
    List: {$ref: '#/components/schemas/Real List'}
    Real List:
      type: object
      properties: {next: {$ref: '#/components/schemas/Real%20List'}, value: {type: integer}}
"##;
    let document = Document::read(text.as_bytes()).unwrap();
    let check = |body| super::json(&document, "POST /a", body);
    assert_eq!(check(r#"{"next": {"next": {"value": 1}}}"#), Ok(()));
    assert!(check(r#"{"next": {"next": {"value": "x"}}}"#).is_err());
}

#[test]
fn keys_that_yaml_reads_as_numbers_or_merges_are_what_json_would_have() {
    let text = r##"
openapi: 3.0.3
info: {title: t, version: '1'}
x-common: &common
  type: object
paths:
  /a:
    post:
      requestBody:
        content:
          application/json:
            schema:
              <<: *common
              required: [no, 1a]
              properties: {no: {type: string}}
      responses:
        200: {description: fine}
"##;
    let document = Document::read(text.as_bytes()).unwrap();
    assert_eq!(super::json(&document, "POST /a", r#"{"no": "x", "1a": 1}"#), Ok(()));
    assert!(super::json(&document, "POST /a", r#"{"no": false, "1a": 1}"#).is_err());
    assert!(super::json(&document, "POST /a", "1").is_err());
}
