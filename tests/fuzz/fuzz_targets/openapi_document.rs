//! OpenAPI documents: each is read in a bounded time, or refused with a place; what is read validates requests.

#![no_main]

use http::{HeaderMap, HeaderValue, Method, header};
use libfuzzer_sys::fuzz_target;
use postern::policy::openapi::{Call, Document, Parts};

fuzz_target!(|input: &[u8]| {
    let document = match Document::read(input) {
        Ok(document) => document,
        Err(message) => {
            assert!(!message.is_empty() && message != "the document could not be read");
            return;
        }
    };
    assert_eq!(Document::read(input).as_ref(), Ok(&document));
    for (kind, body) in [
        ("application/json", r#"{"a": [1, null, "x"], "b": {"a": -1e3}}"#),
        ("application/x-www-form-urlencoded", "a=1&b=x&a=2&b[a]=3"),
    ] {
        let headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
            (header::COOKIE, HeaderValue::from_static("a=1; b=x")),
            ("x-a".parse().unwrap(), HeaderValue::from_static("1,2")),
        ]);
        for method in [Method::POST, Method::GET, Method::HEAD] {
            for path in ["/", "/a", "/a/b", "/v1/a/1"] {
                let call = Call {
                    method: &method,
                    path,
                    query: Some("a=1&b=x,y&c[a]=1&c[b]=x"),
                    headers: &headers,
                    body: Some(body.as_bytes()),
                };
                let verdict = document.validate(Parts::ALL, &call);
                assert_eq!(document.validate(Parts::ALL, &call), verdict);
                if !document.needs_body(&method, path) {
                    assert_eq!(document.validate(Parts::ALL, &Call { body: None, ..call }), verdict);
                }
            }
        }
    }
});
