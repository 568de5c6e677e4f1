//! Validates requests against an OpenAPI document, before an app sees them. It looks at requests alone, never at responses,
//! and at what a document says of their form: who may send them (`security`) is for other rules.
//!
//! What passes though the document does not speak of it: parameters that it does not name, the body of an operation that
//! describes none, and the content of bodies that are neither JSON nor a form (their media type must be listed). `HEAD` is
//! validated as `GET` where it is not described; a WebSocket's handshake is a `GET` without a body.

mod body;
mod cost;
mod decode;
mod document;
mod invalid;
mod json;
mod node;
mod parameter;
mod path;
mod pattern;
mod schema;
mod servers;
mod shape;
mod unique;
mod validate;
mod validator;
mod violation;

pub use document::Document;
pub use violation::{Place, Violation};

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use serde::Serialize;

/// A rule's document, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenApi {
    pub document: Arc<Document>,
    pub parts: Parts,
    /// Bytes. A longer body is refused before it is looked at.
    pub max_body: usize,
}

/// What is validated, besides that the operation exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parts {
    pub path: bool,
    pub query: bool,
    pub headers: bool,
    pub cookies: bool,
    pub body: bool,
}

/// A request as it will be sent.
#[derive(Clone, Copy, Debug)]
pub struct Call<'r> {
    pub method: &'r Method,
    /// Verbatim, without the query.
    pub path: &'r str,
    pub query: Option<&'r str>,
    pub headers: &'r HeaderMap,
    /// The whole body. Where `needs_body` says no, it need not be read.
    pub body: Option<&'r [u8]>,
}

/// Bytes of a body that are validated in passing: a fraction of a millisecond.
pub const MAX_INLINE: usize = 32 * 1024;

impl<'r> Call<'r> {
    pub fn new(method: &'r Method, uri: &'r Uri, headers: &'r HeaderMap, body: Option<&'r [u8]>) -> Self {
        Self {
            method,
            path: uri.path(),
            query: uri.query(),
            headers,
            body,
        }
    }
}

impl Parts {
    pub const ALL: Self = Self {
        path: true,
        query: true,
        headers: true,
        cookies: true,
        body: true,
    };
}

impl OpenApi {
    /// Whether the body has to be read for `validate`.
    pub fn needs_body(&self, method: &Method, path: &str) -> bool {
        self.parts.body && self.document.needs_body(method, path)
    }

    pub fn validate(&self, call: &Call<'_>) -> Result<(), Violation> {
        self.document.validate(self.parts, call)
    }

    /// Bytes that are looked at, at most.
    pub fn looks(&self, request: usize, body: Option<&Bytes>) -> u64 {
        let bytes = request + body.map_or(0, Bytes::len);
        self.document.weight.max(1).saturating_mul(bytes as u64)
    }
}

#[cfg(test)]
mod tests;
