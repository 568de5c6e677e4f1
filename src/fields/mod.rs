//! HTTP field names and the syntax of field values (RFC 9110, section 5).

pub mod cdn_loop;
pub mod hop;
pub mod list;
pub mod reserved;

use std::net::IpAddr;

use http::header::HeaderName;

/// The largest head of a request, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// The most header lines of a request.
pub const MAX_HEADERS: usize = 100;

/// The code of an answer that is Postern's own.
pub const X_POSTERN_ERROR: HeaderName = HeaderName::from_static("x-postern-error");
/// Kept of a trusted proxy, otherwise made anew; apps and clients both get it.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a proxy says of its client's certificate: never a client's to say.
pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// The client and the proxies after it, each of them told by the next.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The authority that the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The port that the client connected to.
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// `http` or `https`, as the client connected.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A client as fields name it: its address, or what RFC 7239 section 6.2 calls one that cannot be named.
pub fn node(client: Option<IpAddr>) -> String {
    client.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}
