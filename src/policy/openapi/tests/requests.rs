//! What passes and what does not, by part of a request.

use http::Method;

use super::{PETS, json, pets, taking, validate};
use crate::policy::openapi::document::Document;
use crate::policy::openapi::violation::Place;
use crate::policy::openapi::{Call, Parts};

pub const TRACE: (&str, &str) = ("x-trace", "0b8e3d0c-67a3-4d7b-9c5e-0d2a1f7f1b11");

#[test]
fn operations_are_found_by_path_and_method_under_the_servers_path() {
    let pets = pets();
    for (line, passes) in [
        ("GET /v1/pets", true),
        ("HEAD /v1/pets", true),
        ("HEAD /v1/sockets/lobby", true),
        ("GET /v1/pets/mine", true),
        ("GET /v1/sockets/lobby", true),
        ("GET /pets", false),
        ("GET /v1/pets/", false),
        ("GET /V1/pets", false),
        ("GET /v1/%70ets", true),
        ("DELETE /v1/pets", false),
        ("OPTIONS /v1/pets", false),
        ("get /v1/pets", false),
        ("POST /v1/pets/mine", false),
        ("GET /v1/sockets/Lobby", false),
        ("GET /v1/sockets/lobby%2Fx", false),
        ("GET /v1/sockets/..", false),
        ("GET /v1/sockets/../pets", false),
    ] {
        assert_eq!(validate(&pets, line, &[], None).is_ok(), passes, "{line}");
    }
}

#[test]
fn path_parameters_are_read_by_their_type() {
    let pets = pets();
    for (id, passes) in [
        ("1", true),
        ("%31", true),
        ("0", false),
        ("-1", false),
        ("1.0", false),
        ("1e3", false),
        ("+1", false),
        ("01", false),
        ("0x1", false),
        ("1%20", false),
        ("%EF%BC%91", false),
        ("true", false),
        ("99999999999999999999999999", true),
        ("%", false),
    ] {
        let line = format!("DELETE /v1/pets/{id}");
        assert_eq!(validate(&pets, &line, &[TRACE], None).is_ok(), passes, "{id}");
    }
}

#[test]
fn query_parameters_are_read_by_their_notation() {
    let pets = pets();
    for (query, passes) in [
        ("", true),
        ("limit=5", true),
        ("limit=%35", true),
        ("li%6Dit=101", false),
        ("limit=101", false),
        ("limit=", false),
        ("limit", false),
        ("limit=five", false),
        // An app may take either.
        ("limit=5&limit=5", false),
        ("limit=5&l%69mit=500", false),
        ("limit=%zz", false),
        ("limit=%ff", false),
        // Parameters that are not described pass.
        ("other=%zz&limit=5", true),
        ("tag=cat&tag=dog", true),
        ("tag=cat", true),
        ("tag=cow", false),
        ("tag=cat,dog", false),
        ("tag=cat&tag=cat&tag=cat&tag=cat", false),
        ("ids=1,2,3", true),
        ("ids=1,x", false),
        ("ids=1%2C2", false),
        ("ids=1&ids=2", false),
        ("ids=", true),
        ("sizes=1|2.5", true),
        ("sizes=1%7C2.5", true),
        ("sizes=1|x", false),
        ("words=ab+cd%20ef", true),
        ("words=ab+c", false),
        ("filter[age]=3&filter[alive]=true", true),
        ("filter%5Bage%5D=3", true),
        ("filter[age]=x", false),
        ("filter[age]=3&filter[age]=x", false),
        ("filter[other]=3", false),
        ("filter[colours]=red&filter[colours]=blue", true),
        ("filter[colours]=red&filter[colours]=pink", false),
        ("filter[age][x]=3", false),
        ("filter[age", false),
        ("filter=3", false),
        ("all", true),
        ("all=", true),
        ("all=true", true),
        ("all=yes", false),
        ("all=&all=true", false),
        ("where=%7B%22a%22%3A1%7D", true),
        ("where=%7B%22a%22%3A%22x%22%7D", false),
        ("where=%7B", false),
        ("where=", false),
    ] {
        let line = format!("GET /v1/pets?{query}");
        assert_eq!(validate(&pets, &line, &[], None).is_ok(), passes, "{query}");
    }
}

#[test]
fn headers_and_cookies_are_read_by_their_types() {
    let pets = pets();
    for (headers, passes) in [
        (vec![], false),
        (vec![TRACE], true),
        (vec![("X-TRACE", "none")], false),
        (vec![TRACE, TRACE], false),
        (vec![TRACE, ("x-tags", "1, 2,3")], true),
        (vec![TRACE, ("x-tags", "1"), ("x-tags", "2")], true),
        (vec![TRACE, ("x-tags", "1"), ("x-tags", "x")], false),
        (vec![TRACE, ("cookie", "a=b; session=0123abcd")], true),
        (vec![TRACE, ("cookie", "session=0123abcd "), ("cookie", "a=b")], true),
        (vec![TRACE, ("cookie", "session=nope")], false),
        (vec![TRACE, ("cookie", "session=0123abcd; session=0123abcd")], false),
        (
            vec![TRACE, ("cookie", "session=0123abcd"), ("cookie", "session=nope")],
            false,
        ),
        (vec![TRACE, ("cookie", "Session=nope")], true),
        (vec![TRACE, ("cookie", "session=%30123abcd")], true),
        (vec![TRACE, ("cookie", "session=%")], false),
    ] {
        assert_eq!(
            validate(&pets, "GET /v1/pets/1", &headers, None).is_ok(),
            passes,
            "{headers:?}"
        );
    }
}

#[test]
fn a_violation_tells_where_and_never_what() {
    let pets = pets();
    let secret = "s3cret";
    for (line, body, expected) in [
        (
            "GET /v1/pets?limit=s3cret",
            None,
            "query parameter limit is not of type integer",
        ),
        ("GET /v1/pets?limit=101", None, "query parameter limit is more than 100"),
        (
            "GET /v1/s3cret",
            None,
            "the request has a path that the API description does not contain",
        ),
        (
            "PATCH /v1/pets",
            None,
            "the request has a method that the API description does not contain for its path",
        ),
        (
            "GET /v1/sockets/s3cret",
            None,
            "path parameter room does not match its pattern",
        ),
        (
            "POST /v1/pets",
            Some(r#"{"s3cret": 1, "kind": "cat"}"#),
            "the body lacks name",
        ),
        (
            "POST /v1/pets",
            Some(r#"{"name": "s3cret", "kind": "s3cret"}"#),
            "the body at /kind is not an allowed value",
        ),
        (
            "POST /v1/pets",
            Some(r#"{"name": "a", "kind": "cat", "labels": {"s3cret": 1}}"#),
            "the body at /labels/* is not of type string",
        ),
        (
            "POST /v1/pets",
            Some(r#"{"name": "a", "kind": "cat", "home": {"s3cret": 1}}"#),
            "the body matches none or too many of the alternatives",
        ),
        (
            "POST /v1/pets",
            Some("s3cret"),
            "the body is not valid JSON: expected value at line 1 column 1",
        ),
    ] {
        let headers = [("content-type", "application/json")];
        let violation = validate(&pets, line, &headers, body.map(str::as_bytes)).unwrap_err();
        assert_eq!(violation.to_string(), expected, "{line}");
        assert!(!format!("{violation:?}").contains(secret), "{violation:?}");
    }
    let long = taking("3.1.0", &format!(r#"{{"required": ["{}"]}}"#, "é".repeat(1_000))).unwrap();
    let violation = json(&long, "POST /", "{}").unwrap_err();
    assert!(violation.to_string().len() <= 300);
}

#[test]
fn parts_that_are_not_wanted_are_not_looked_at() {
    let pets = pets();
    let none = Parts {
        path: false,
        query: false,
        headers: false,
        cookies: false,
        body: false,
    };
    let check = |parts, method, path, query, body| {
        let headers = http::HeaderMap::from_iter([(http::header::COOKIE, http::HeaderValue::from_static("session=x"))]);
        let call = Call {
            method: &method,
            path,
            query: Some(query),
            headers: &headers,
            body,
        };
        pets.validate(parts, &call)
    };
    let place = |parts, method, path, query| check(parts, method, path, query, None).unwrap_err().place;
    assert_eq!(check(none, Method::GET, "/v1/pets/x", "limit=x", None), Ok(()));
    assert_eq!(
        check(none, Method::GET, "/v1/x", "", None).unwrap_err().place,
        Place::Request
    );
    assert_eq!(
        place(Parts { path: true, ..none }, Method::GET, "/v1/pets/x", ""),
        Place::Path("id".into())
    );
    assert_eq!(
        place(Parts { query: true, ..none }, Method::GET, "/v1/pets", "limit=x"),
        Place::Query("limit".into())
    );
    assert_eq!(
        place(Parts { headers: true, ..none }, Method::GET, "/v1/pets/1", ""),
        Place::Header("x-trace".into())
    );
    assert_eq!(
        place(Parts { cookies: true, ..none }, Method::GET, "/v1/pets/1", ""),
        Place::Cookie("session".into())
    );
    assert_eq!(
        place(Parts { body: true, ..none }, Method::POST, "/v1/pets", ""),
        Place::Body
    );
}

#[test]
fn documents_are_the_same_by_their_text_and_show_only_a_summary() {
    assert_eq!(pets(), pets());
    let other = Document::read(PETS.replace("Pets", "Cats").as_bytes()).unwrap();
    assert_ne!(pets(), other);
    let shown = serde_json::to_value(pets()).unwrap();
    assert_eq!(shown["title"], "Pets");
    assert_eq!(shown["version"], "7");
    assert_eq!(shown["operations"], 7);
    assert_eq!(shown["fingerprint"].as_str().map(str::len), Some(64));
    assert!(format!("{:?}", pets()).len() < 200);
}
