//! A document of each dialect against requests, and documents and requests that mean harm.

mod bodies;
mod dialects;
mod documents;
mod hostile;
mod random;
mod requests;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::document::Document;
use super::violation::Violation;
use super::{Call, Parts};

/// A shop for pets: written for these tests, with as much of OpenAPI as they need.
const PETS: &str = r##"
openapi: 3.0.3
info: {title: Pets, version: "7"}
servers:
  - url: https://pets.example.com/v1
paths:
  /pets:
    get:
      parameters:
        - {name: limit, in: query, schema: {type: integer, format: int32, minimum: 1, maximum: 100}}
        - {name: tag, in: query, schema: {type: array, items: {type: string, enum: [cat, dog]}, maxItems: 3}}
        - {name: ids, in: query, explode: false, schema: {type: array, items: {type: integer}}}
        - {name: sizes, in: query, style: pipeDelimited, schema: {type: array, items: {type: number}}}
        - {name: words, in: query, style: spaceDelimited, schema: {type: array, items: {type: string, minLength: 2}}}
        - name: filter
          in: query
          style: deepObject
          explode: true
          schema:
            type: object
            additionalProperties: false
            properties:
              age: {type: integer}
              alive: {type: boolean}
              colours: {type: array, items: {type: string, enum: [red, blue]}}
        - {name: all, in: query, allowEmptyValue: true, schema: {type: boolean}}
        - name: where
          in: query
          content: {application/json: {schema: {$ref: "#/components/schemas/Where"}}}
    post:
      requestBody: {$ref: "#/components/requestBodies/Pet"}
  /pets/mine:
    get: {}
  /pets/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: integer, minimum: 1}}
      - {name: X-Trace, in: header, required: true, schema: {type: string, format: uuid}}
    get:
      parameters:
        - {name: X-Tags, in: header, schema: {type: array, items: {type: integer}}}
        - {name: session, in: cookie, schema: {type: string, pattern: "^[a-f0-9]{8}$"}}
    delete: {}
    put:
      requestBody:
        required: false
        content:
          application/x-www-form-urlencoded:
            schema:
              type: object
              required: [name]
              additionalProperties: false
              properties:
                name: {type: string, minLength: 1}
                age: {type: integer}
                tags: {type: array, items: {type: string}, maxItems: 2}
                home: {type: object, required: [city], properties: {city: {type: string}}}
          image/*: {}
  /sockets/{room}:
    get:
      parameters:
        - {name: room, in: path, required: true, schema: {type: string, pattern: "^[a-z]+$"}}
components:
  requestBodies:
    Pet:
      required: true
      content:
        application/json:
          schema: {$ref: "#/components/schemas/Pet"}
        text/plain: {}
  schemas:
    Pet:
      type: object
      required: [id, name, kind]
      properties:
        id: {type: integer, format: int64, readOnly: true}
        name: {type: string, minLength: 1, maxLength: 20, nullable: true}
        kind: {$ref: "#/components/schemas/Kind"}
        weight: {type: number, minimum: 0, exclusiveMinimum: true}
        born: {type: string, format: date}
        parents: {type: array, maxItems: 2, uniqueItems: true, items: {$ref: "#/components/schemas/Pet"}}
        home:
          oneOf:
            - {type: object, required: [street], properties: {street: {type: string}}, additionalProperties: false}
            - {type: object, required: [field], properties: {field: {type: integer}}, additionalProperties: false}
        labels: {type: object, additionalProperties: {type: string}}
      example: {name: 3}
    Kind:
      type: string
      enum: [cat, dog]
      example: horse
    Where:
      type: object
      additionalProperties: {type: integer}
"##;

fn pets() -> Document {
    Document::read(PETS.as_bytes()).unwrap()
}

/// A request of the tests: method and path with its query, headers, body.
fn validate(document: &Document, line: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Result<(), Violation> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        })
        .collect();
    document.validate(
        Parts::ALL,
        &Call {
            method: &Method::from_bytes(method.as_bytes()).unwrap(),
            path,
            query,
            headers: &headers,
            body,
        },
    )
}

fn json(document: &Document, line: &str, body: &str) -> Result<(), Violation> {
    validate(
        document,
        line,
        &[("content-type", "application/json")],
        Some(body.as_bytes()),
    )
}

/// A document with one operation, `POST /`, that takes JSON of this schema.
fn taking(version: &str, schema: &str) -> Result<Document, String> {
    let text = format!(
        r#"{{"openapi": "{version}", "info": {{"title": "t", "version": "1"}}, "paths": {{"/": {{"post": {{"requestBody":
           {{"content": {{"application/json": {{"schema": {schema}}}}}}}}}}}}}}}"#
    );
    Document::read(text.as_bytes())
}
