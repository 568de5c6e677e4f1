//! What is known of one request while it is served.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;
use http::request::Parts;
use uuid::Uuid;

use super::client::Client;
use super::client_origin::ClientOrigin;
use crate::telemetry::traces::Scope;

/// One request on its way through the phases.
#[derive(Clone, Copy)]
pub struct RequestContext<'a> {
    /// The connection's.
    pub client: &'a Arc<Client>,
    /// As it came; its target is not checked yet.
    pub head: &'a Parts,
    /// Who asks, by the word of trusted proxies.
    pub origin: &'a ClientOrigin<'a>,
    /// A trusted proxy's, or a new one.
    pub request_id: &'a HeaderValue,
    /// Its place in a trace; None: there is no collector.
    pub scope: Option<&'a Scope>,
    /// When the head had come.
    pub started: Instant,
}

/// UUIDv7: sorts by time.
pub fn request_id() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let id: &str = Uuid::now_v7().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("-"))
}
