//! Requests against an OpenAPI document: what is said of a body does not depend on how its JSON is written.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderMap, Method, header};
use libfuzzer_sys::fuzz_target;
use postern::policy::openapi::{Call, Document, Parts, Violation};
use postern_fuzz::head;
use serde_json::Value;

static DOCUMENT: LazyLock<Document> =
    LazyLock::new(|| Document::read(include_bytes!("../corpus/openapi_document/library.yaml")).unwrap());

fn validate(call: &Call<'_>) -> Result<(), Violation> {
    let verdict = DOCUMENT.validate(Parts::ALL, call);
    if let Err(violation) = &verdict {
        assert!(violation.to_string().len() <= 300, "{violation}");
    }
    verdict
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind == Some(b"application/json")
}

fuzz_target!(|input: &[u8]| {
    let Some((parts, body)) = head(input) else { return };
    let call = Call::new(&parts.method, &parts.uri, &parts.headers, Some(body));
    let verdict = validate(&call);
    assert_eq!(validate(&call), verdict);
    if !DOCUMENT.needs_body(&parts.method, parts.uri.path()) {
        assert_eq!(validate(&Call { body: None, ..call }), verdict);
    }
    if parts.method == Method::GET {
        let head = Call {
            method: &Method::HEAD,
            ..call
        };
        assert_eq!(validate(&head), verdict, "HEAD is GET");
    }
    if verdict.is_ok()
        && is_json(&parts.headers)
        && DOCUMENT.needs_body(&parts.method, parts.uri.path())
        && let Ok(value) = serde_json::from_slice::<Value>(body)
    {
        for text in [serde_json::to_vec(&value), serde_json::to_vec_pretty(&value)] {
            let text = text.unwrap();
            assert_eq!(
                validate(&Call {
                    body: Some(&text),
                    ..call
                }),
                Ok(()),
                "written in another way"
            );
        }
    }
});
