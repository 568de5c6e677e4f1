//! `cors`: what browsers are told of who may read answers (Fetch, section 3.2). Preflights are answered here, before any rule
//! asks who is there: a browser sends no credentials with them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;

use super::origin::Origins;
use super::request::Request;
use crate::text::printed;

/// A rule that tells browsers, and refuses nobody.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Pages of these may read answers.
    pub origins: Origins,
    /// As lists that are sent as they are; None: what is asked for is allowed.
    #[serde(serialize_with = "printed::option_value")]
    pub methods: Option<HeaderValue>,
    /// Access-Control-Allow-Headers; None: what is asked for is allowed.
    #[serde(serialize_with = "printed::option_value")]
    pub headers: Option<HeaderValue>,
    /// Access-Control-Expose-Headers; None: browsers show scripts the usual few.
    #[serde(serialize_with = "printed::option_value")]
    pub exposed: Option<HeaderValue>,
    /// Whether answers to requests with cookies may be read.
    pub credentials: bool,
    /// Seconds.
    pub max_age: Option<u32>,
}

/// What a rule adds to whatever answer there will be.
#[derive(Debug)]
pub struct Grant(HeaderMap);

/// Whether the request is a browser's question about the one that it wants to send (Fetch, section 3.2.2).
pub fn is_preflight(request: &Request<'_>) -> bool {
    *request.method == Method::OPTIONS
        && request.headers.contains_key(header::ORIGIN)
        && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    /// An origin that is not allowed is told nothing, which is a refusal to a browser.
    pub fn preflight(&self, request: &Request<'_>) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        if self.allow(request, headers) {
            let asked = |name: HeaderName| request.headers.get(name).cloned();
            let methods = self
                .methods
                .clone()
                .or_else(|| asked(header::ACCESS_CONTROL_REQUEST_METHOD));
            let fields = self
                .headers
                .clone()
                .or_else(|| asked(header::ACCESS_CONTROL_REQUEST_HEADERS));
            headers.extend(methods.map(|methods| (header::ACCESS_CONTROL_ALLOW_METHODS, methods)));
            headers.extend(fields.map(|fields| (header::ACCESS_CONTROL_ALLOW_HEADERS, fields)));
            let age = self.max_age.map(HeaderValue::from);
            headers.extend(age.map(|age| (header::ACCESS_CONTROL_MAX_AGE, age)));
        }
        for name in ["access-control-request-method", "access-control-request-headers"] {
            headers.append(header::VARY, HeaderValue::from_static(name));
        }
        response
    }

    /// What the answer to the request is to carry. An origin that is not allowed gets nothing that allows it.
    pub fn grant(&self, request: &Request<'_>) -> Grant {
        let mut headers = HeaderMap::new();
        if self.allow(request, &mut headers) {
            headers.extend(
                self.exposed
                    .clone()
                    .map(|list| (header::ACCESS_CONTROL_EXPOSE_HEADERS, list)),
            );
        }
        Grant(headers)
    }

    /// Whether the origin is an allowed one, which the headers then say.
    fn allow(&self, request: &Request<'_>, headers: &mut HeaderMap) -> bool {
        // With credentials a browser takes no asterisk (Fetch, section 3.2.5).
        let any = self.origins.hold_any() && !self.credentials;
        if !any {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        let origin = request.headers.get(header::ORIGIN);
        let Some(origin) = origin.filter(|origin| any || self.origins.hold(origin, request)) else {
            return false;
        };
        let allowed = if any {
            HeaderValue::from_static("*")
        } else {
            origin.clone()
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        true
    }
}

impl Grant {
    /// The rule's word counts, not the app's.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
        ] {
            headers.remove(name);
        }
        for (name, value) in &self.0 {
            headers.append(name, value.clone());
        }
    }
}
