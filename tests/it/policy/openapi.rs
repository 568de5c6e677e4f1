//! `openapi`: what is not as the document says never reaches the app, and what is reaches it byte for byte. What a document can
//! say is tested beside the validator; here it is which requests are held against it.

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::support::backend::echoing_bodies;
use crate::support::eventually;
use crate::support::front::{Front, Transport};
use crate::support::guarded::{Guarded, HOST, policy, site};
use crate::support::site::Site;
use crate::support::wire::Answer;

over_each! {
    requests_as_the_document_says_pass_and_no_others,
    bodies_as_the_document_says_reach_the_app_unchanged,
    bodies_as_it_does_not_say_never_reach_the_app,
    a_body_past_the_limit_is_refused_however_it_comes,
    a_socket_is_a_get_without_a_body,
    each_part_is_looked_at_where_the_rule_says_so,
    in_the_shadow_every_body_passes_unchanged,
}

over_http1! {
    a_body_that_says_it_is_too_long_is_not_waited_for,
    who_expects_a_100_gets_it_once_the_body_is_wanted,
}

const INVALID: (u16, &str) = (400, "client:openapi_validation_failed");
const TOO_LARGE: (u16, &str) = (413, "client:body_too_large");
const CLOSED: (u16, &str) = (503, "config:policy_invalid");
const JSON: &str = "Content-Type: application/json\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const OCTETS: &str = "Content-Type: application/octet-stream\r\n";
const LIMIT: usize = 200_000;
/// Up to here a body is validated in passing, from here on elsewhere.
const INLINE: usize = postern::policy::openapi::MAX_INLINE;

const PETS: &str = r##"
openapi: 3.0.3
info: {title: Pets, version: "1"}
paths:
  /version: {get: {}}
  /pets:
    get:
      parameters:
        - {name: limit, in: query, required: true, schema: {type: integer, minimum: 1, maximum: 100}}
        - {name: X-Page, in: header, schema: {type: integer}}
        - {name: session, in: cookie, schema: {type: string, pattern: "^[a-f0-9]{4}$"}}
    post:
      requestBody: {$ref: "#/components/requestBodies/Pet"}
  /pets/{id}:
    get:
      parameters:
        - {name: id, in: path, required: true, schema: {type: integer, minimum: 1}}
  /pets/{id}/toys: {get: {parameters: [{name: id, in: path, required: true, schema: {type: string}}]}}
  /socket: {get: {requestBody: {$ref: "#/components/requestBodies/Pet"}}}
components:
  requestBodies:
    Pet:
      content:
        application/json: {schema: {$ref: "#/components/schemas/Pet"}}
        application/x-www-form-urlencoded: {schema: {$ref: "#/components/schemas/Pet"}}
        application/octet-stream: {}
  schemas:
    Pet:
      type: object
      required: [name]
      additionalProperties: false
      properties:
        name: {type: string, minLength: 1}
        age: {type: integer, minimum: 0, maximum: 100}
        parent: {$ref: "#/components/schemas/Pet"}
"##;

fn rule() -> Value {
    json!({"name": "form", "openapi": {"documentRef": {"name": "pets"}, "maxBodyBytes": LIMIT}})
}

fn document(key: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "pets", "namespace": "default", "uid": "pets", "labels": {"postern.dev/use": "openapi"}},
        "data": {key: text},
    })
}

fn pets(rules: Value) -> Site {
    site(rules).with(document("openapi.yaml", PETS))
}

/// An app that sends back what it gets, behind the rule.
async fn echoing(over: Transport, site: Site) -> Guarded {
    let backend = echoing_bodies().await;
    let front = Front::start(over, &[site.to(backend.address)]).await;
    Guarded { front, backend }
}

/// How a client tells the length of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Announced,
    /// Chunked; in HTTP/2, no Content-Length.
    Open,
}

const LENGTHS: [Length; 2] = [Length::Announced, Length::Open];

async fn post(guarded: &Guarded, over: Transport, length: Length, more: &str, body: &[u8]) -> Answer {
    let ask = async |more: &str| guarded.front.ask(Method::POST, HOST, "/pets", more, body).await;
    match (over, length) {
        (Transport::Http2, Length::Announced) => ask(&format!("{more}Content-Length: {}\r\n", body.len())).await,
        (Transport::Http2, Length::Open) | (_, Length::Announced) => ask(more).await,
        (Transport::Plain | Transport::Tls, Length::Open) => {
            let mut wire = guarded.front.wire(HOST).await;
            let head = format!("POST /pets HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n{more}\r\n");
            let mut message = head.into_bytes();
            for chunk in body.chunks(7_001) {
                message.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                message.extend([chunk, b"\r\n"].concat());
            }
            message.extend(b"0\r\n\r\n");
            // Refused, it may be answered before all of it is there.
            wire.try_send(message).await;
            wire.answer().await
        }
    }
}

fn is(answer: &Answer, (status, code): (u16, &str)) -> bool {
    (answer.status(), answer.head.get("x-postern-error")) == (status, Some(code))
}

/// JSON of this length.
fn padded(length: usize) -> Vec<u8> {
    let pet = r#"{"name": "a", "age": 7}"#;
    format!("{pet}{}", " ".repeat(length - pet.len())).into_bytes()
}

async fn requests_as_the_document_says_pass_and_no_others(over: Transport) {
    let guarded = Guarded::start_with(over, pets(json!([rule()])), &[]).await;
    for (target, more) in [
        ("/pets?limit=1", ""),
        ("/pets?limit=100&unheard=of", "X-Page: 3\r\n"),
        ("/pets?%6cimit=7", "Cookie: a=b; session=ab12\r\n"),
        ("/%70ets/1", ""),
        ("/pets/17?x", "X-Page: not for this one\r\n"),
    ] {
        guarded.passes(target, more).await;
    }
    for (target, more, place) in [
        ("/pets", "", "query parameter limit"),
        ("/pets?LIMIT=1", "", "query parameter limit"),
        ("/pets?limit=", "", "query parameter limit"),
        ("/pets?limit=0", "", "query parameter limit"),
        ("/pets?limit=101", "", "query parameter limit"),
        ("/pets?limit=1.5", "", "query parameter limit"),
        ("/pets?limit=sesame", "", "query parameter limit"),
        ("/pets?limit=1%", "", "query parameter limit"),
        ("/pets?limit=1&limit=sesame", "", "query parameter limit"),
        ("/pets?limit=1&lim%69t=2", "", "query parameter limit"),
        ("/pets?limit=1;limit=2", "", "query parameter limit"),
        ("/pets?limit=1", "X-Page: sesame\r\n", "header x-page"),
        ("/pets?limit=1", "X-Page: 1\r\nx-page: 2\r\n", "header x-page"),
        ("/pets?limit=1", "X_Page: sesame\r\n", "header x-page"),
        ("/pets?limit=1", "X-Page: 1\r\nX_Page: 1\r\n", "header x-page"),
        ("/pets?limit=1", "Cookie: session=sesame\r\n", "cookie session"),
        (
            "/pets?limit=1",
            "Cookie: session=ab12\r\nCookie: session=ab12\r\n",
            "cookie session",
        ),
        ("/pets/0", "", "path parameter id"),
        ("/pets/sesame", "", "path parameter id"),
        ("/pets/1%20", "", "path parameter id"),
        ("/pets/", "", "the request has a path"),
        ("/pets/1/sesame", "", "the request has a path"),
        ("/Pets/1", "", "the request has a path"),
        ("/sesame", "", "the request has a path"),
        ("/", "", "the request has a path"),
        ("/version/../pets/1", "", "the request has a path"),
        ("/./version", "", "the request has a path"),
        // To some apps the toys of the root, to the document those of a pet.
        ("/pets/..;/toys", "", "the request has a path"),
        ("/pets/.;x=1/toys", "", "the request has a path"),
    ] {
        for answer in guarded.refuses(target, more, INVALID.0, INVALID.1).await {
            let detail = answer.json()["detail"].as_str().expect("a text").to_owned();
            assert!(detail.contains(place), "{target} {more:?}: {detail}");
            assert!(!answer.text().contains("sesame"), "{answer:?}");
        }
    }
    for target in ["/pets%2F1", "//pets/1", "/pets/%2e%2e/version", "/pets/1%00"] {
        guarded.refuses(target, "", 400, "client:ambiguous_path").await;
    }
    let hits = guarded.backend.hits();
    for more in ["", "X-HTTP-Method-Override: GET\r\n", "X-Method-Override: GET\r\n"] {
        for method in [Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
            let answer = guarded.front.ask(method.clone(), HOST, "/pets/1", more, b"").await;
            assert!(is(&answer, INVALID), "{method} {more}: {answer:?}");
        }
    }
    let lower = Method::from_bytes(b"get").expect("a method");
    let answer = guarded.front.ask(lower, HOST, "/pets/1", "", b"").await;
    assert!(is(&answer, INVALID), "{answer:?}");
    assert_eq!(guarded.backend.hits(), hits);
}

async fn bodies_as_the_document_says_reach_the_app_unchanged(over: Transport) {
    let guarded = echoing(over, pets(json!([rule()]))).await;
    let octets: Vec<u8> = (0..LIMIT).map(|at| (at * 31 % 251) as u8).collect();
    let bodies: [(&str, &[u8]); 15] = [
        (JSON, br#"{"name": "a"}"#),
        (
            JSON,
            "\r\n\t {\"\\u006eame\"\t: \"\\u00e4 ä\\n\", \"age\": 1.0e1}\r\n".as_bytes(),
        ),
        (
            JSON,
            br#"{"name": "a", "parent": {"name": "b", "parent": {"name": "c"}}}"#,
        ),
        (
            "Content-Type: Application/JSON; charset=\"UTF-8\"\r\n",
            br#"{"name": "a"}"#,
        ),
        (JSON, &padded(INLINE)),
        (JSON, &padded(INLINE + 1)),
        (JSON, &padded(LIMIT - 1)),
        (JSON, &padded(LIMIT)),
        (FORM, b"name=a+b%26&age=3"),
        (FORM, b"age=3&&name=%61"),
        (OCTETS, &octets),
        (OCTETS, &octets[..1]),
        (OCTETS, &[0; 3]),
        (OCTETS, b"{"),
        ("", b""),
    ];
    for (nth, (more, body)) in bodies.into_iter().enumerate() {
        for length in LENGTHS {
            let answer = post(&guarded, over, length, more, body).await;
            assert_eq!(answer.status(), 200, "{nth} {length:?}: {answer:?}");
            assert!(answer.body == body, "{nth} {length:?}: the app got another body");
        }
    }
    assert_eq!(guarded.backend.hits(), 2 * bodies.len());
}

async fn bodies_as_it_does_not_say_never_reach_the_app(over: Transport) {
    let guarded = Guarded::start_with(over, pets(json!([rule()])), &[]).await;
    let deep = format!("{}1{}", "[".repeat(90_000), "]".repeat(90_000));
    let parents = format!("{}{{}}{}", r#"{"name": "a", "parent": "#.repeat(100), "}".repeat(100));
    let digits = format!(r#"{{"name": "a", "age": {}}}"#, "9".repeat(400));
    let late = format!(r#"{{"name": "a"{}, "sesame": 1}}"#, " ".repeat(INLINE));
    let gzip = format!("{JSON}Content-Encoding: gzip\r\n");
    let twice = format!("{JSON}{OCTETS}");
    let json: [&[u8]; 29] = [
        b"{}",
        br#"{"name": ""}"#,
        br#"{"name": 1}"#,
        br#"{"name": null}"#,
        br#"{"name": "a", "age": 101}"#,
        br#"{"name": "a", "age": -1}"#,
        br#"{"name": "a", "age": 1.5}"#,
        br#"{"name": "a", "age": "3"}"#,
        br#"{"name": "a", "age": 1e999}"#,
        br#"{"name": "a", "age": 18446744073709551616}"#,
        digits.as_bytes(),
        br#"{"name": "a", "sesame": 1}"#,
        br#"{"name": "a", "parent": {"name": "b", "parent": {}}}"#,
        br#"{"name": "a", "name": "sesame"}"#,
        br#"{"name": "a", "n\u0061me": "sesame"}"#,
        br#"{"name": "a", "parent": {"name": "b", "name": "c"}}"#,
        br#"{"name": "a"}{"name": "sesame"}"#,
        br#"{"name": "a"} sesame"#,
        br#"{"name": "a",}"#,
        br"{'name': 'sesame'}",
        b"\xef\xbb\xbf{\"name\": \"a\"}",
        b"{\"name\": \"\xff\"}",
        br#"{"name": "\ud800"}"#,
        b" ",
        b"null",
        br#"["name"]"#,
        deep.as_bytes(),
        parents.as_bytes(),
        late.as_bytes(),
    ];
    let pet: &[u8] = br#"{"name": "a"}"#;
    let others: [(&str, &[u8]); 12] = [
        ("", pet),
        ("Content-Type: text/json\r\n", pet),
        ("Content-Type: text/xml\r\n", b"<name>a</name>"),
        ("Content-Type: application/json, text/plain\r\n", pet),
        ("Content-Type: application/json; charset=utf-16\r\n", pet),
        ("Content-Type: */*\r\n", pet),
        (&gzip, pet),
        (&twice, pet),
        (FORM, b"age=3"),
        (FORM, b"name=a&name=sesame"),
        (FORM, b"name=%ff"),
        (FORM, b"name=a&sesame=1"),
    ];
    let bodies = json.map(|body| (JSON, body)).into_iter().chain(others);
    for (nth, (more, body)) in bodies.enumerate() {
        for length in LENGTHS {
            let answer = post(&guarded, over, length, more, body).await;
            assert!(is(&answer, INVALID), "{nth} {length:?}: {answer:?}");
            let told = answer.json();
            let detail = told["detail"].as_str().expect("a text");
            assert!(detail.starts_with("the body"), "{nth}: {detail}");
            assert!(!answer.text().contains("sesame"), "{answer:?}");
        }
    }
    assert_eq!(guarded.backend.hits(), 0);
}

async fn a_body_past_the_limit_is_refused_however_it_comes(over: Transport) {
    let guarded = Guarded::start_with(over, pets(json!([rule()])), &[]).await;
    for length in LENGTHS {
        for size in [LIMIT + 1, 4 * LIMIT] {
            for more in [JSON, OCTETS] {
                let answer = post(&guarded, over, length, more, &padded(size)).await;
                assert!(is(&answer, TOO_LARGE), "{length:?} {size}: {answer:?}");
            }
        }
    }
    assert_eq!(guarded.backend.hits(), 0);
    // What the rule does not look at may have any length.
    let long = guarded
        .front
        .ask(Method::GET, HOST, "/pets/1", "", &padded(2 * LIMIT))
        .await;
    assert_eq!((long.status(), guarded.backend.hits()), (200, 1));
}

async fn a_socket_is_a_get_without_a_body(over: Transport) {
    let guarded = Guarded::start_with(over, pets(json!([rule()])), &[]).await;
    let (_, mut socket) = guarded.front.upgrade(HOST, "/socket", JSON).await.expect("opens");
    let bytes = padded(INLINE);
    assert_eq!(socket.exchange(&bytes, bytes.len()).await, bytes);
    assert_eq!(guarded.backend.hits(), 1);
}

async fn each_part_is_looked_at_where_the_rule_says_so(over: Transport) {
    let ask = async |guarded: &Guarded, part: &str| match part {
        "PathParameters" => guarded.get("/pets/x", "").await,
        "Query" => guarded.get("/pets", "").await,
        "Headers" => guarded.get("/pets?limit=1", "X-Page: x\r\n").await,
        "Cookies" => guarded.get("/pets?limit=1", "Cookie: session=x\r\n").await,
        _ => guarded.front.ask(Method::POST, HOST, "/pets", JSON, b"{}").await,
    };
    let parts = ["PathParameters", "Query", "Headers", "Cookies", "Body"];
    let selections = parts.map(|part| vec![part]).into_iter().chain([vec![], parts.to_vec()]);
    for selected in selections {
        let openapi = json!({"documentRef": {"name": "pets"}, "validate": selected});
        let guarded = Guarded::start_with(over, pets(json!([{"name": "form", "openapi": openapi}])), &[]).await;
        for part in parts {
            let answer = ask(&guarded, part).await;
            assert_eq!(
                is(&answer, INVALID),
                selected.contains(&part),
                "{selected:?} {part}: {answer:?}"
            );
        }
        guarded.refuses("/unheard-of", "", INVALID.0, INVALID.1).await;
    }
}

async fn in_the_shadow_every_body_passes_unchanged(over: Transport) {
    let mut rule = rule();
    rule["mode"] = "Shadow".into();
    let guarded = echoing(over, pets(json!([rule]))).await;
    for length in LENGTHS {
        for body in [&padded(4 * LIMIT)[..], b"{}", b"{", &padded(INLINE + 1)] {
            let answer = post(&guarded, over, length, JSON, body).await;
            assert!(answer.status() == 200 && answer.body == body, "{length:?}: {answer:?}");
        }
    }
    assert_eq!(guarded.decisions("form", "shadow", "refused").await, 6.0);
    assert_eq!(guarded.decisions("form", "shadow", "passed").await, 2.0);
}

async fn a_body_that_says_it_is_too_long_is_not_waited_for(over: Transport) {
    let guarded = Guarded::start_with(over, pets(json!([rule()])), &[]).await;
    for more in ["", "Expect: 100-continue\r\n"] {
        let mut wire = guarded.front.wire(HOST).await;
        let length = LIMIT + 1;
        let head = format!("POST /pets HTTP/1.1\r\nHost: {HOST}\r\n{JSON}{more}Content-Length: {length}\r\n\r\n");
        wire.send(head).await;
        let answer = wire.answer().await;
        assert!(is(&answer, TOO_LARGE), "{answer:?}");
    }
    assert_eq!(guarded.backend.hits(), 0);
}

async fn who_expects_a_100_gets_it_once_the_body_is_wanted(over: Transport) {
    let guarded = echoing(over, pets(json!([rule()]))).await;
    for (body, status) in [(r#"{"name": "a"}"#, 200), (r#"{"name": ""}"#, 400)] {
        let mut wire = guarded.front.wire(HOST).await;
        let length = body.len();
        let expect = "Expect: 100-continue\r\n";
        let head = format!("POST /pets HTTP/1.1\r\nHost: {HOST}\r\n{JSON}{expect}Content-Length: {length}\r\n\r\n");
        wire.send(head).await;
        assert_eq!(wire.head().await.status(), 100);
        wire.send(body).await;
        assert_eq!(wire.answer().await.status(), status);
    }
    // Refused by its head, it is asked for nothing.
    let mut wire = guarded.front.wire(HOST).await;
    wire.send(format!(
        "POST /pets/1 HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    ))
    .await;
    assert!(is(&wire.answer().await, INVALID));
    assert_eq!(guarded.backend.hits(), 1);
}

#[tokio::test]
async fn slow_bodies_hold_nothing_else_up() {
    let guarded = echoing(Transport::Plain, pets(json!([rule()]))).await;
    let body = r#"{"name": "a"}"#;
    let slow = join_all((0..64).map(async |_| {
        let mut wire = guarded.front.wire(HOST).await;
        let length = body.len();
        wire.send(format!(
            "POST /pets HTTP/1.1\r\nHost: {HOST}\r\n{JSON}Content-Length: {length}\r\n\r\n{{"
        ))
        .await;
        wire
    }))
    .await;
    for length in LENGTHS {
        let answer = post(&guarded, Transport::Plain, length, JSON, &padded(LIMIT)).await;
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(guarded.backend.hits(), 2, "of none of the slow ones the app has heard");
    for mut wire in slow {
        wire.send(&body[1..]).await;
        assert_eq!(wire.answer().await.text(), body);
    }
}

#[tokio::test]
async fn a_body_that_stops_is_given_up() {
    let hasty = pets(json!([rule()])).spec(json!({"timeouts": {"idle": "300ms"}}));
    let guarded = Guarded::start_with(Transport::Plain, hasty, &[]).await;
    for framing in [
        "Content-Length: 100\r\n\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ] {
        let mut wire = guarded.front.wire(HOST).await;
        wire.send(format!("POST /pets HTTP/1.1\r\nHost: {HOST}\r\n{JSON}{framing}"))
            .await;
        let answer = wire.answer().await;
        assert!(is(&answer, (408, "client:request_timeout")), "{answer:?}");
    }
    let whole = pets(json!([rule()])).spec(json!({"timeouts": {"total": "300ms"}}));
    let limited = Guarded::start_with(Transport::Plain, whole, &[]).await;
    let mut wire = limited.front.wire(HOST).await;
    wire.send(format!(
        "POST /pets HTTP/1.1\r\nHost: {HOST}\r\n{JSON}Content-Length: 100\r\n\r\n{{"
    ))
    .await;
    let answer = wire.answer().await;
    assert!(is(&answer, (408, "client:request_timeout")), "{answer:?}");
    assert_eq!(limited.backend.hits(), 0);
    // One that ends before its length is no whole one, and one whose framing breaks neither.
    for framing in [
        "Content-Length: 100\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\nff\r\n{}",
    ] {
        let mut wire = guarded.front.wire(HOST).await;
        wire.send(format!("POST /pets HTTP/1.1\r\nHost: {HOST}\r\n{JSON}{framing}"))
            .await;
        wire.finish().await;
        wire.rest().await;
    }
    assert_eq!(guarded.backend.hits(), 0);
}

#[tokio::test]
async fn a_document_of_3_1_in_json_counts_as_well() {
    let text = json!({
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "servers": [{"url": "https://elsewhere.test/v2"}],
        "paths": {"/a": {"post": {"requestBody": {"content": {"application/json": {"schema": {
            "type": ["object", "null"],
            "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer", "exclusiveMaximum": 10}},
            "if": {"required": ["lives"]},
            "then": {"required": ["kind"]},
            "unevaluatedProperties": false,
        }}}}}}},
    });
    let site = site(json!([rule()])).with(document("openapi.json", &text.to_string()));
    let guarded = echoing(Transport::Plain, site).await;
    for (target, body, status) in [
        ("/v2/a", r#"{"kind": "cat", "lives": 9}"#, 200),
        ("/v2/a", "null", 200),
        ("/v2/a", r#"{"kind": "dog"}"#, 400),
        ("/v2/a", r#"{"kind": "cat", "lives": 10}"#, 400),
        ("/v2/a", r#"{"lives": 9}"#, 400),
        ("/v2/a", r#"{"other": 1}"#, 400),
        ("/a", "null", 400),
    ] {
        let answer = guarded
            .front
            .ask(Method::POST, HOST, target, JSON, body.as_bytes())
            .await;
        assert_eq!(answer.status(), status, "{target} {body}: {answer:?}");
    }
    assert_eq!(guarded.backend.hits(), 2);
}

#[tokio::test]
async fn with_pass_no_path_is_read_past_the_document() {
    let lenient = pets(json!([rule()])).spec(json!({"ambiguousPaths": "Pass"}));
    let guarded = Guarded::start_with(Transport::Plain, lenient, &[]).await;
    for target in [
        "//pets/1",
        "/pets//1",
        "/pets%2F1",
        "/pets/%2e%2e/version",
        "/pets/%2e/toys",
        "/pets/..%3B/toys",
        "/pets%5C1",
        "/pets/%ff",
    ] {
        guarded.refuses(target, "", INVALID.0, INVALID.1).await;
    }
}

#[tokio::test]
async fn without_a_document_nobody_passes_and_a_broken_edit_keeps_the_last_good_one() {
    let guarded = Guarded::start_with(Transport::Plain, Site::new("app", HOST), &[]).await;
    // The policy and its document in one file, which is one edit.
    let write = async |version: &str, map: Option<Value>| {
        let marked = json!({"set": [{"name": "X-Version", "value": version}]});
        let rules = json!([{"name": "version", "responseHeaders": marked}, rule()]);
        let documents = [Some(policy("guard", rules)), map].into_iter().flatten();
        let text: String = documents.map(|object| format!("---\n{object}\n")).collect();
        guarded.front.postern.write("guard", &text);
    };
    let closed = async || {
        eventually("nobody passes", async || is(&guarded.get("/version", "").await, CLOSED)).await;
        guarded.refuses("/pets/1", "", CLOSED.0, CLOSED.1).await;
    };
    let in_force = async |version: &str| {
        let so = async || guarded.get("/version", "").await.head.get("x-version") == Some(version);
        eventually(&format!("version {version} is in force"), so).await;
        guarded.passes("/pets/1", "").await;
        guarded.refuses("/pets/x", "", INVALID.0, INVALID.1).await;
    };
    let good = || document("openapi.yaml", PETS);
    write("none", None).await;
    closed().await;
    write("broken from the start", Some(document("openapi.yaml", "openapi: 2"))).await;
    closed().await;
    write("good", Some(good())).await;
    in_force("good").await;
    for (version, text) in [
        ("no yaml", "{"),
        ("another version", "openapi: 2.0.0"),
        ("a dangling reference", &PETS.replace("schemas/Pet\"", "schemas/Dog\"")),
    ] {
        write(version, Some(document("openapi.yaml", text))).await;
        in_force(version).await;
    }
    let mut both = good();
    both["data"]["openapi.json"] = "{}".into();
    write("two documents", Some(both)).await;
    in_force("two documents").await;
    let without_pets = PETS.replace("/pets/{id}:", "/cats/{id}:");
    write("good again", Some(document("openapi.yaml", &without_pets))).await;
    eventually("the new document counts", async || {
        is(&guarded.get("/pets/1", "").await, INVALID)
    })
    .await;
    let mut unlabelled = good();
    unlabelled["metadata"]["labels"] = json!({"postern.dev/use": "jwks"});
    write("another's label", Some(unlabelled)).await;
    closed().await;
    write("good", Some(good())).await;
    in_force("good").await;
    write("deleted", None).await;
    closed().await;
}

#[tokio::test]
async fn all_bodies_at_once_have_so_much_memory_and_no_more() {
    const MOST: usize = 16 * 1024 * 1024;
    let widest = json!({"name": "form", "openapi": {"documentRef": {"name": "pets"}, "maxBodyBytes": MOST}});
    let guarded = echoing(Transport::Plain, pets(json!([widest]))).await;
    let pet = r#"{"name": "a"}"#;
    let small = async || post(&guarded, Transport::Plain, Length::Announced, JSON, pet.as_bytes()).await;
    let last_missing = vec![b' '; MOST - 1];
    // One that finds no room any more is answered, and leaves its own to the next.
    let mut slow = Vec::new();
    let mut full = None;
    while full.is_none() && slow.len() < 40 {
        let mut wire = guarded.front.wire(HOST).await;
        let head = format!("POST /pets HTTP/1.1\r\nHost: {HOST}\r\n{JSON}Content-Length: {MOST}\r\n\r\n");
        wire.try_send([head.as_bytes(), &last_missing].concat()).await;
        slow.push(wire);
        full = Some(small().await).filter(|answer| is(answer, (503, "capacity:overloaded")));
    }
    let full = full.expect("there is no room any more");
    assert!(full.head.has("retry-after") && slow.len() >= 4, "after {}", slow.len());
    assert_eq!(guarded.decisions("form", "enforce", "refused").await, 0.0);
    assert!(guarded.decisions("form", "enforce", "failed").await >= 1.0);
    // Who has no body to be looked at needs no room.
    guarded.refuses("/pets/x", "", INVALID.0, INVALID.1).await;
    assert_eq!(guarded.get("/pets/1", "").await.status(), 200);
    drop(slow);
    eventually("there is room again", async || small().await.text() == pet).await;
}
