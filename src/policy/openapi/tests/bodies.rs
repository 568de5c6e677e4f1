//! Which bodies pass: JSON, forms, and other media types.

use http::Method;

use super::requests::TRACE;
use super::{json, pets, validate};
use crate::policy::openapi::{OpenApi, Parts};

#[test]
fn json_is_validated_by_its_schema() {
    let pets = pets();
    for (body, passes) in [
        // The id is read-only, and so required of answers alone.
        (r#"{"name": "Tom", "kind": "cat"}"#, true),
        (r#"{"name": null, "kind": "cat"}"#, true),
        (r#"{"name": "Tom", "kind": null}"#, false),
        (r#"{"name": "", "kind": "cat"}"#, false),
        (r#"{"name": "Tom"}"#, false),
        (r#"{"name": "Tom", "kind": "horse"}"#, false),
        (r#"{"name": "Tom", "kind": "cat", "weight": 0}"#, false),
        (r#"{"name": "Tom", "kind": "cat", "weight": 0.1}"#, true),
        (r#"{"name": "Tom", "kind": "cat", "weight": "1"}"#, false),
        (r#"{"name": "Tom", "kind": "cat", "born": "2024-02-29"}"#, true),
        (r#"{"name": "Tom", "kind": "cat", "born": "2023-02-29"}"#, false),
        (r#"{"name": "Tom", "kind": "cat", "home": {"street": "x"}}"#, true),
        (
            r#"{"name": "Tom", "kind": "cat", "home": {"street": "x", "field": 1}}"#,
            false,
        ),
        (
            r#"{"name": "Tom", "kind": "cat", "parents": [{"name": "A", "kind": "cat"}, {"name": "B", "kind": "cat"}]}"#,
            true,
        ),
        (
            r#"{"name": "Tom", "kind": "cat", "parents": [{"name": "A", "kind": "cat"}, {"kind": "cat", "name": "A"}]}"#,
            false,
        ),
        (
            r#"{"name": "Tom", "kind": "cat", "parents": [{"name": "A", "kind": "cow"}]}"#,
            false,
        ),
        (r#"{"name": "Tom", "kind": "cat", "labels": {"a": "b"}}"#, true),
        (r#"{"name": "Tom", "kind": "cat", "labels": {"a": 1}}"#, false),
        (r#"{"name": "Tom", "kind": "cat", "id": 9223372036854775807}"#, true),
        (r#"{"name": "Tom", "kind": "cat", "id": 9223372036854775808}"#, false),
        (r#"{"name": "Tom", "kind": "horse", "kind": "cat"}"#, false),
        (r#"{"name": "Tom", "kind": "cat"} x"#, false),
        (r#"[]"#, false),
        ("", false),
    ] {
        assert_eq!(json(&pets, "POST /v1/pets", body).is_ok(), passes, "{body}");
    }
}

#[test]
fn media_types_must_be_listed_and_readable() {
    let pets = pets();
    let proper = r#"{"name": "Tom", "kind": "cat"}"#;
    for (headers, body, passes) in [
        (vec![("content-type", "application/json; charset=UTF-8")], proper, true),
        (
            vec![("content-type", "Application/JSON;charset=\"utf-8\"")],
            proper,
            true,
        ),
        (
            vec![("content-type", "application/json; charset=utf-16")],
            proper,
            false,
        ),
        (
            vec![("content-type", "application/json; charset=utf-8; charset=utf-7")],
            proper,
            false,
        ),
        (vec![("content-type", "application/json")], "{}", false),
        (vec![("content-type", "text/plain")], "{}", true),
        (vec![("content-type", "text/plain;a=b")], "{}", true),
        (vec![("content-type", "text/html")], proper, false),
        (vec![("content-type", "application/vnd.api+json")], proper, false),
        (vec![("content-type", "*/*")], proper, false),
        (vec![("content-type", "json")], proper, false),
        (vec![("content-type", "")], proper, false),
        (vec![], proper, false),
        (
            vec![("content-type", "text/plain"), ("content-type", "application/json")],
            "{}",
            false,
        ),
        (
            vec![("content-type", "application/json"), ("content-encoding", "gzip")],
            proper,
            false,
        ),
        (
            vec![("content-type", "application/json"), ("content-encoding", "identity")],
            proper,
            true,
        ),
        (
            vec![("content-type", "text/plain"), ("content-encoding", "gzip")],
            proper,
            true,
        ),
    ] {
        let result = validate(&pets, "POST /v1/pets", &headers, Some(body.as_bytes()));
        assert_eq!(result.is_ok(), passes, "{headers:?} {body}");
    }
}

#[test]
fn forms_are_validated_by_their_schema() {
    let pets = pets();
    for (content_type, body, passes) in [
        ("application/x-www-form-urlencoded", "name=Tom", true),
        (
            "application/x-www-form-urlencoded",
            "name=Tom&age=3&tags=a&tags=b",
            true,
        ),
        ("application/x-www-form-urlencoded", "name=12", true),
        ("application/x-www-form-urlencoded", "name=", false),
        ("application/x-www-form-urlencoded", "age=3", false),
        ("application/x-www-form-urlencoded", "name=Tom&age=x", false),
        ("application/x-www-form-urlencoded", "name=Tom&age=3&age=4", false),
        (
            "application/x-www-form-urlencoded",
            "name=Tom&tags=a&tags=b&tags=c",
            false,
        ),
        ("application/x-www-form-urlencoded", "name=Tom&other=1", false),
        ("application/x-www-form-urlencoded", "name=Tom&%6", false),
        (
            "application/x-www-form-urlencoded",
            "name=Tom&home=%7B%22city%22%3A%22x%22%7D",
            true,
        ),
        ("application/x-www-form-urlencoded", "name=Tom&home=%7B%7D", false),
        ("application/x-www-form-urlencoded", "", true),
        ("image/png", "anything", true),
        ("text/plain", "anything", false),
    ] {
        let headers = [TRACE, ("content-type", content_type)];
        let result = validate(&pets, "PUT /v1/pets/1", &headers, Some(body.as_bytes()));
        assert_eq!(result.is_ok(), passes, "{body}");
    }
}

#[test]
fn a_body_is_asked_for_only_where_it_means_something() {
    let rule = OpenApi {
        document: pets().into(),
        parts: Parts::ALL,
        max_body: 1024,
    };
    assert!(rule.needs_body(&Method::POST, "/v1/pets"));
    assert!(rule.needs_body(&Method::PUT, "/v1/pets/1"));
    assert!(!rule.needs_body(&Method::GET, "/v1/pets"));
    assert!(!rule.needs_body(&Method::DELETE, "/v1/pets/1"));
    assert!(!rule.needs_body(&Method::POST, "/v1/unknown"));
    let without = OpenApi {
        parts: Parts {
            body: false,
            ..Parts::ALL
        },
        ..rule
    };
    assert!(!without.needs_body(&Method::POST, "/v1/pets"));
}
