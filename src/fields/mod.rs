//! HTTP field names and the syntax of field values (RFC 9110, section 5).

pub mod hop;
pub mod list;
pub mod reserved;

use http::header::HeaderName;

pub const MAX_HEAD: usize = 64 * 1024;
pub const MAX_HEADERS: usize = 100;

pub const X_POSTERN_ERROR: HeaderName = HeaderName::from_static("x-postern-error");
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
