//! How much a rule has to look at, and where that is done: in passing, in its namespace's turn, or aside.

use std::sync::Arc;

use bytes::Bytes;

use super::openapi::{self, Call, OpenApi};
use super::refusal::Refusal;
use super::request::Request;
use crate::reason::Reason;
use crate::runtime::work;

/// Bytes that are looked at in passing: some 100 microseconds.
const MAX_LOOKS: u64 = 64 * 1024;
/// And in a turn: a millisecond or two.
const MAX_LOOKS_IN_TURN: u64 = 1024 * 1024;

/// Does what looks at so many bytes, in passing if they are few.
pub async fn look<T>(looks: u64, namespace: &Arc<str>, work: impl FnOnce() -> T) -> T {
    match looks > MAX_LOOKS {
        true => work::in_turn(namespace, work).await,
        false => work(),
    }
}

/// Holds a request against a document. `size`: bytes of its head.
pub async fn validate(
    openapi: &OpenApi,
    request: &Request<'_>,
    size: usize,
    body: Option<&Bytes>,
    namespace: &Arc<str>,
) -> Result<(), Refusal> {
    let Request {
        method, uri, headers, ..
    } = *request;
    // Another rule, which takes longer ones, has had it read.
    if body.is_some_and(|body| body.len() > openapi.max_body) && openapi.needs_body(method, uri.path()) {
        return Err(Reason::BodyTooLarge.into());
    }
    let looks = openapi.looks(size, body);
    let is_large = body.is_some_and(|body| body.len() > openapi::MAX_INLINE);
    let validated = if is_large || looks > MAX_LOOKS_IN_TURN {
        let (openapi, method, uri) = (openapi.clone(), method.clone(), uri.clone());
        let (headers, body) = (headers.clone(), body.cloned());
        let validate = move || openapi.validate(&Call::new(&method, &uri, &headers, body.as_deref()));
        work::aside(namespace, validate).await
    } else {
        let validate = || openapi.validate(&Call::new(method, uri, headers, body.map(|body| &**body)));
        Some(look(looks, namespace, validate).await)
    };
    match validated {
        Some(Ok(())) => Ok(()),
        Some(Err(violation)) => Err(Refusal {
            detail: Some(violation.to_string()),
            ..Reason::OpenapiValidationFailed.into()
        }),
        None => Err(Reason::InternalError.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc::sync_channel;

    use futures_util::future::poll_immediate;
    use http::{HeaderMap, HeaderValue, Method, Uri, header};

    use super::*;
    use crate::policy::openapi::{Document, MAX_INLINE, Parts};

    #[tokio::test]
    async fn a_large_body_is_validated_while_others_go_on() {
        let document = br#"{
            "openapi": "3.1.0", "info": {"title": "a", "version": "1"},
            "paths": {"/": {"post": {"requestBody": {"content": {"application/json": {"schema": {"items": {"type": "integer"}}}}}}}}
        }"#;
        let openapi = OpenApi {
            document: Arc::new(Document::read(document).expect("a document")),
            parts: Parts::ALL,
            max_body: usize::MAX,
        };
        let (uri, authority) = (Uri::from_static("/"), HeaderValue::from_static("a.example"));
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let request = Request {
            method: &Method::POST,
            headers: &headers,
            authority: &authority,
            host: "a.example",
            uri: &uri,
            client: None,
            trusted: false,
            https: true,
            web_socket: false,
            certificate: None,
            readings: Default::default(),
        };
        let namespace = Arc::from("effort");
        for (item, passes) in [("1", true), ("1.5", false)] {
            // The last item decides: one that refused at once might be done before anybody looks.
            let body = Bytes::from(format!("[{}{item}]", "1,".repeat(MAX_INLINE)));
            // It is not the namespace's turn yet.
            let (free, wait) = sync_channel::<()>(1);
            let mut busy = pin!(work::aside(&namespace, move || wait.recv()));
            assert!(poll_immediate(&mut busy).await.is_none());
            let mut validating = pin!(validate(&openapi, &request, 0, Some(&body), &namespace));
            assert!(
                poll_immediate(&mut validating).await.is_none(),
                "this thread is free meanwhile"
            );
            free.send(()).expect("somebody waits");
            assert_eq!(busy.await, Some(Ok(())));
            assert_eq!(validating.await.is_ok(), passes);
        }
    }
}
