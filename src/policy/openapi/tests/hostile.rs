//! Documents and requests that would cost too much. Where time is the point, the bound is far above what is needed and far
//! below what a flaw would take.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use super::{json, taking, validate};
use crate::policy::openapi::document::Document;

/// With these components, and `POST /` taking the schema `S0`.
fn with_schemas(schemas: &str) -> Result<Document, String> {
    let text = format!(
        r##"{{"openapi": "3.1.0", "info": {{"title": "t", "version": "1"}}, "components": {{"schemas": {{{schemas}}}}},
            "paths": {{"/": {{"post": {{"requestBody": {{"content": {{"application/json": {{"schema":
            {{"$ref": "#/components/schemas/S0"}}}}}}}}}}}}}}}}"##
    );
    Document::read(text.as_bytes())
}

/// `S0` to `S{count}`, each as `schema` says by the number of the next, and a last one.
fn chain(count: usize, schema: impl Fn(usize) -> String) -> String {
    let mut schemas = String::new();
    for n in 0..count {
        write!(schemas, r#""S{n}": {}, "#, schema(n + 1)).unwrap();
    }
    write!(schemas, r#""S{count}": {{"type": "integer"}}"#).unwrap();
    schemas
}

/// As small as a runtime's threads may be.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}

fn within(limit: Duration, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    let took = start.elapsed();
    assert!(took < limit, "took {took:?}");
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn aliases_cannot_multiply_without_end() {
    let mut laughs =
        "openapi: 3.1.0\ninfo: {title: t, version: '1'}\nx-a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let all = vec![format!("*a{}", n - 1); 10].join(", ");
        writeln!(laughs, "x-a{n}: &a{n} [{all}]").unwrap();
    }
    within(SOON, || assert!(Document::read(laughs.as_bytes()).is_err()));
}

#[test]
fn documents_cannot_nest_or_grow_without_end() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = format!(r#"{{"x": {}1{}}}"#, open.repeat(100_000), close.repeat(100_000));
        on_a_small_stack(move || assert!(Document::read(deep.as_bytes()).is_err()));
    }
    let flow = format!("x: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    on_a_small_stack(move || assert!(Document::read(flow.as_bytes()).is_err()));
    let block: String = (0..1_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    on_a_small_stack(move || assert!(Document::read(block.as_bytes()).is_err()));
    let many = format!("[{}1]", "1,".repeat(300_000));
    assert!(
        Document::read(format!(r#"{{"x": {many}}}"#).as_bytes())
            .unwrap_err()
            .contains("values")
    );
    let many = vec![r#"{"not": {}}"#; 20_000].join(",");
    assert!(
        taking("3.1.0", &format!(r#"{{"oneOf": [{many}]}}"#))
            .unwrap_err()
            .contains("schemas")
    );
}

#[test]
fn a_schema_that_refers_to_itself_for_one_value_is_refused() {
    for schemas in [
        r##""S0": {"$ref": "#/components/schemas/S0"}"##,
        r##""S0": {"$ref": "#/components/schemas/S1"}, "S1": {"$ref": "#/components/schemas/S0"}"##,
        r##""S0": {"allOf": [{"$ref": "#/components/schemas/S0"}]}"##,
        r##""S0": {"anyOf": [{"type": "null"}, {"not": {"$ref": "#/components/schemas/S1"}}]},
            "S1": {"if": {"$ref": "#/components/schemas/S0"}}"##,
        r##""S0": {"items": {"dependentSchemas": {"a": {"$ref": "#/components/schemas/S1"}}}},
            "S1": {"oneOf": [{"$ref": "#/components/schemas/S1"}]}"##,
    ] {
        on_a_small_stack(move || {
            let refusal = with_schemas(schemas).unwrap_err();
            assert!(
                refusal.contains("itself") || refusal.contains("cycle"),
                "{schemas}: {refusal}"
            );
        });
    }
}

#[test]
fn schemas_that_double_with_every_step_are_refused() {
    for double in [
        r##"{"allOf": [{"$ref": "#/components/schemas/SN"}, {"$ref": "#/components/schemas/SN"}]}"##,
        r##"{"anyOf": [{"properties": {"a": {"$ref": "#/components/schemas/SN"}}},
                       {"properties": {"a": {"$ref": "#/components/schemas/SN"}}}]}"##,
        r##"{"items": {"$ref": "#/components/schemas/SN"}, "contains": {"$ref": "#/components/schemas/SN"}}"##,
        r##"{"patternProperties": {"a": {"$ref": "#/components/schemas/SN"}, "aa": {"$ref": "#/components/schemas/SN"}}}"##,
        r##"{"$ref": "#/components/schemas/SN", "unevaluatedProperties": false}"##,
    ] {
        let schemas = chain(40, |next| double.replace("SN", &format!("S{next}")));
        within(SOON, || {
            assert!(
                with_schemas(&schemas).unwrap_err().contains("one value against"),
                "{double}"
            );
        });
    }
}

#[test]
fn long_chains_of_references_cost_no_stack() {
    for step in [
        r##"{"$ref": "#/components/schemas/SN", "minimum": 0}"##,
        r##"{"allOf": [{"$ref": "#/components/schemas/SN"}]}"##,
        r##"{"properties": {"a": {"$ref": "#/components/schemas/SN"}}}"##,
    ] {
        for count in [8, 30, 240, 400, 9_000] {
            let schemas = chain(count, |next| step.replace("SN", &format!("S{next}")));
            on_a_small_stack(move || {
                let document = with_schemas(&schemas);
                assert_eq!(
                    document.is_ok(),
                    count <= 30 || (count <= 400 && step.contains("properties")),
                    "{step} {count}"
                );
                if let Ok(document) = document {
                    let _ = json(
                        &document,
                        "POST /",
                        &format!("{}1{}", r#"{"a":"#.repeat(60), "}".repeat(60)),
                    );
                }
            });
        }
    }
}

#[test]
fn the_deepest_validation_fits_a_small_stack() {
    // As many frames as there can be: the longest chains, for a value that nests as deep as it then may.
    for links in [1, 4, 15, 31, 60] {
        let mut schemas = chain(links, |next| {
            format!(r##"{{"anyOf": [{{"type": "null"}}, {{"allOf": [{{"$ref": "#/components/schemas/S{next}"}}]}}]}}"##)
        });
        let last = schemas.rfind(r#"{"type": "integer"}"#).unwrap();
        schemas.replace_range(
            last..,
            r##"{"properties": {"a": {"$ref": "#/components/schemas/S0"}, "b": {"type": "integer"}},
                 "items": {"$ref": "#/components/schemas/S0"}}"##,
        );
        on_a_small_stack(move || match with_schemas(&schemas) {
            Err(refusal) => assert!(links > 20 && refusal.contains("chain"), "{refusal}"),
            Ok(document) => {
                let nested =
                    |depth: usize, inner: &str| format!("{}{inner}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
                let most = (1..=64)
                    .rev()
                    .find(|depth| json(&document, "POST /", &nested(*depth, "1")).is_ok())
                    .unwrap();
                assert!(most >= 10 || links > 20, "{links} {most}");
                assert!(json(&document, "POST /", &nested(most - 1, r#"{"b": "x"}"#)).is_err());
                assert!(json(&document, "POST /", &nested(10_000, "1")).is_err());
            }
        });
    }
}

#[test]
fn patterns_take_linear_time() {
    for pattern in ["^(a+)+$", "^(a|a)*$", "(a|aa)+$", "^(.*)*x$", "(x+x+)+y"] {
        let document = taking("3.1.0", &format!(r#"{{"type": "string", "pattern": "{pattern}"}}"#)).unwrap();
        let body = format!(r#""{}!""#, "a".repeat(1_000_000));
        within(SOON, || drop(json(&document, "POST /", &body)));
    }
}

#[test]
fn circles_with_alternatives_take_polynomial_time() {
    let schemas = r##""S0": {"anyOf": [{"properties": {"a": {"$ref": "#/components/schemas/S0"}}, "required": ["a", "x"]},
                                       {"properties": {"a": {"$ref": "#/components/schemas/S0"}}, "required": ["a", "y"]},
                                       {"allOf": [{"properties": {"a": {"$ref": "#/components/schemas/S0"}}},
                                                  {"properties": {"a": {"$ref": "#/components/schemas/S0"}}}]}]}"##;
    let document = with_schemas(schemas).unwrap();
    for inner in ["1", r#"{"a": 1}"#, r#"{"a": [{}]}"#] {
        let body = format!("{}{inner}{}", r#"{"a":"#.repeat(50), "}".repeat(50));
        within(SOON, || drop(json(&document, "POST /", &body)));
    }
    let strict = schemas.replace(r#""S0": {"#, r#""S0": {"type": "object", "#);
    let document = with_schemas(&strict).unwrap();
    let body = format!("{}1{}", r#"{"a":"#.repeat(50), "}".repeat(50));
    within(SOON, || assert!(json(&document, "POST /", &body).is_err()));
}

#[test]
fn large_bodies_are_validated_or_refused_in_time() {
    let flat = format!("[{}1]", "1,".repeat(500_000));
    let nested = format!("[{}[]]", "[],".repeat(300_000));
    // Different values that are easily taken for the same: what is in them is.
    let alike: Vec<_> = (0..20_000_u32)
        .map(|n| {
            (0..16).fold(String::from("0"), |item, bit| {
                if n >> bit & 1 == 1 {
                    format!("[{item}]")
                } else {
                    format!("[{item},[]]")
                }
            })
        })
        .collect();
    let alike = format!("[{}]", alike.join(","));
    for schema in [
        r#"{"uniqueItems": true}"#,
        r#"{"anyOf": [{"items": {"type": "object"}}, {"items": {"type": "string"}}]}"#,
        r#"{"oneOf": [{"items": {"oneOf": [{"type": "object"}, {"type": "null"}]}}, {"items": {"anyOf": [{"minimum": 7}]}}]}"#,
        r#"{"contains": {"const": {"a": 1}}}"#,
        r#"{"items": {"type": ["integer", "array"], "not": {"enum": ["a", "b"]}}, "unevaluatedItems": false}"#,
    ] {
        let document = taking("3.1.0", schema).unwrap();
        for body in [&flat, &nested, &alike] {
            within(SOON, || drop(json(&document, "POST /", body)));
        }
    }
    // Few values, many schemas; many values, many schemas.
    let many: Vec<_> = (0..4_000)
        .map(|n| format!(r#"{{"properties": {{"p{n}": {{"type": "string"}}}}, "required": ["p{n}"]}}"#))
        .collect();
    let document = taking("3.1.0", &format!(r#"{{"items": {{"anyOf": [{}]}}}}"#, many.join(","))).unwrap();
    assert_eq!(json(&document, "POST /", r#"[{"p3999": "x"}]"#), Ok(()));
    let violation = json(&document, "POST /", &format!("[{}1]", "{},".repeat(200_000))).unwrap_err();
    assert!(violation.message.contains("too large"), "{violation}");
}

#[test]
fn many_parameters_and_fields_are_refused() {
    let pets = super::pets();
    let query = "a=1&".repeat(5_000);
    assert!(validate(&pets, &format!("GET /v1/pets?{query}"), &[], None).is_err());
    let headers = [
        ("x-trace", "0b8e3d0c-67a3-4d7b-9c5e-0d2a1f7f1b11"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let body = format!("name=x&{query}");
    let violation = validate(&pets, "PUT /v1/pets/1", &headers, Some(body.as_bytes())).unwrap_err();
    assert!(violation.message.contains("fields"), "{violation}");
    let body = format!("name=x&home={}", "%5B".repeat(50_000));
    assert!(validate(&pets, "PUT /v1/pets/1", &headers, Some(body.as_bytes())).is_err());
}

#[test]
fn many_operations_that_share_a_schema_compile_it_once() {
    let mut paths = String::new();
    for n in 0..1_500 {
        write!(
            paths,
            r##"  "/p{n}": {{"post": {{"requestBody": {{"content": {{"application/json": {{"schema":
               {{"$ref": "#/components/schemas/S"}}}}}}}}}}}},"##
        )
        .unwrap();
    }
    let properties: Vec<_> = (0..2_000).map(|n| format!(r#""p{n}": {{"type": "string"}}"#)).collect();
    let text = format!(
        r#"{{"openapi": "3.1.0", "info": {{"title": "t", "version": "1"}}, "paths": {{{}}},
            "components": {{"schemas": {{"S": {{"properties": {{{}}}}}}}}}}}"#,
        paths.trim_end_matches(','),
        properties.join(",")
    );
    within(SOON, || assert_eq!(Document::read(text.as_bytes()).err(), None));
    // One that is used anew in each is compiled anew in each, and so bounded.
    let anew = text.replace(
        r##"{"$ref": "#/components/schemas/S"}"##,
        r##"{"items": {"$ref": "#/components/schemas/S"}}"##,
    );
    within(SOON, || {
        assert!(
            Document::read(anew.as_bytes())
                .unwrap_err()
                .contains("where each use counts")
        );
    });
}

#[test]
fn forms_cannot_multiply_without_end() {
    let properties: Vec<_> = (0..1_000)
        .map(|n| format!(r##""p{n}": {{"$ref": "#/components/schemas/S0"}}"##))
        .collect();
    let text = format!(
        r##"{{"openapi": "3.0.0", "info": {{"title": "t", "version": "1"}},
            "components": {{"schemas": {{"S0": {{"properties": {{{}}}}}}}}},
            "paths": {{"/": {{"post": {{"requestBody": {{"content": {{"application/json": {{"schema":
            {{"$ref": "#/components/schemas/S0"}}}}}}}}}}}}}}}}"##,
        properties.join(",")
    );
    within(SOON, || assert_eq!(Document::read(text.as_bytes()).err(), None));
    let form = text.replace("application/json", "application/*");
    within(SOON, || {
        assert!(Document::read(form.as_bytes()).unwrap_err().contains("forms"));
    });
}
