//! What a request is for: its host and its target in origin form, or why that cannot be told. hyper lets through several
//! kinds of requests that two parsers could read in two ways; they end here.

use std::borrow::Cow;
use std::net::Ipv6Addr;
use std::{fmt, str};

use h2::ext::Protocol;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};

use crate::fields::MAX_HEADERS;
use crate::hostname::normalize;
use crate::reason::Reason;

/// The longest path and query, in bytes. RFC 9112 section 3 asks for 8,000 octets at least; a head has 64 KiB in all.
const MAX_TARGET: usize = 32 * 1024;

/// What a request is for, as every reader after Postern reads it.
pub struct Target {
    /// As the app sees it: verbatim, with its port.
    pub host: HeaderValue,
    /// Origin form (RFC 9112 section 3.2.1), or `*` for OPTIONS.
    pub uri: Uri,
}

impl Target {
    /// Refuses a target that is too long, malformed, or could be read in two ways; a CONNECT that opens no WebSocket;
    /// and too many header lines.
    pub fn of(head: &Parts) -> Result<Self, Reason> {
        if head
            .uri
            .path_and_query()
            .is_some_and(|target| target.as_str().len() > MAX_TARGET)
        {
            return Err(Reason::UriTooLong);
        }
        if head.method == Method::CONNECT && !is_extended_connect(head) {
            return Err(Reason::MethodNotAllowed);
        }
        // hyper counts them itself, h2 only their bytes.
        if head.headers.len() > MAX_HEADERS {
            return Err(Reason::HeadersTooLarge);
        }
        check_framing(&head.headers)?;
        if head.version == Version::HTTP_2 && head.headers.values().any(is_padded) {
            return Err(Reason::BadRequest);
        }
        let host = host_header(head)?;
        let uri = &head.uri;
        let is_path = |path: &str| path.starts_with('/') || (path == "*" && head.method == Method::OPTIONS);
        match (uri.scheme_str(), uri.authority()) {
            // Origin form, or the asterisk.
            (None, None) if is_path(uri.path()) => {
                let host = host.ok_or(Reason::BadRequest)?.clone();
                Ok(Self { host, uri: uri.clone() })
            }
            // RFC 9113 section 8.3.1: one that differs from :authority is malformed.
            (_, Some(authority))
                if head.version == Version::HTTP_2
                    && host
                        .is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())) =>
            {
                Err(Reason::BadRequest)
            }
            // Absolute form: its host counts, whatever Host says (RFC 9112 section 3.2.2).
            (Some("http" | "https"), Some(authority))
                if is_host(authority.as_str().as_bytes()) && is_path(uri.path()) =>
            {
                let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::BadRequest)?;
                // In HTTP/2 a path of a fragment alone has become an empty one, which shows as `/` and would be sent as nothing.
                let path = match uri.path_and_query() {
                    Some(path) if path != "/" => path.clone(),
                    _ => PathAndQuery::from_static("/"),
                };
                Ok(Self {
                    host,
                    uri: Uri::from(path),
                })
            }
            // Authority form, an asterisk for another method, a foreign scheme, userinfo.
            _ => Err(Reason::BadRequest),
        }
    }

    /// The name to route by.
    pub fn hostname(&self) -> Cow<'_, str> {
        // Checked by `is_host`: ASCII.
        normalize(self.host.to_str().unwrap_or_default())
    }

    /// As it was sent, for a Location.
    pub fn host_without_port(&self) -> &str {
        let host = self.host.to_str().unwrap_or_default();
        match host.rfind(':') {
            Some(colon) if !host.ends_with(']') => &host[..colon],
            _ => host,
        }
    }

    /// Verbatim, without the query.
    pub fn path(&self) -> &str {
        self.uri.path()
    }
}

/// RFC 8441 section 4: a CONNECT that is for a path, as a GET is.
pub fn is_extended_connect(head: &Parts) -> bool {
    head.version == Version::HTTP_2 && head.extensions.get::<Protocol>().is_some()
}

/// Exactly one Host in HTTP/1.1 (RFC 9112 section 3.2), well formed; in HTTP/2 :authority may stand for it.
fn host_header(head: &Parts) -> Result<Option<&HeaderValue>, Reason> {
    let mut lines = head.headers.get_all(header::HOST).iter();
    match (lines.next(), lines.next()) {
        (Some(host), None) if is_host(host.as_bytes()) => Ok(Some(host)),
        (None, _) if head.version != Version::HTTP_11 => Ok(None),
        _ => Err(Reason::BadRequest),
    }
}

/// uri-host [ ":" port ] (RFC 3986 section 3.2.2), of what a name or an address can hold.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host.iter().position(|byte| *byte == b']') {
        Some(end) if host.starts_with(b"[") => {
            let address = str::from_utf8(&host[1..end]);
            if !address.is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
                return false;
            }
            (&b"v6"[..], &host[end + 1..])
        }
        _ => host.split_at(host.iter().position(|byte| *byte == b':').unwrap_or(host.len())),
    };
    // One dot at the end is the root's (RFC 1034 section 3.1); no other label is empty.
    let labels = name.strip_suffix(b".").unwrap_or(name).split(|byte| *byte == b'.');
    let name_is_fine = name.len() <= 254
        && !labels.into_iter().any(<[u8]>::is_empty)
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'));
    let port_is_fine = match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    name_is_fine && port_is_fine
}

/// What hyper lets through of Transfer-Encoding: it takes off one coding, and would pass on the rest of the header
/// (RFC 9112 section 6.1). Only the one coding that every recipient reads alike may stand there.
fn check_framing(headers: &HeaderMap) -> Result<(), Reason> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Reason::BadRequest),
    }
}

/// A value that is malformed in HTTP/2 (RFC 9113 section 8.2.1), which h2 lets through. To the app, in HTTP/1.1, spaces around a value are no
/// part of it (RFC 9110 section 5.5): it would see another one than the rules do.
fn is_padded(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(bytes.first()) || is_space(bytes.last())
}

// By hand: a query may hold a credential.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({:?}{})", self.host, self.uri.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_of_labels_or_an_address() {
        for host in [
            "a",
            "a.",
            "A.example:80",
            "a_b~c-d",
            "1.2.3.4:",
            "[::1]",
            "[2001:DB8::1]:443",
            "[::ffff:1.2.3.4]",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for (host, name) in [("a.", "a"), ("A.Example.:80", "a.example"), ("[::A]:1", "::a")] {
            assert_eq!(normalize(host), name);
        }
        for host in [
            "",
            ".",
            "..",
            "a..",
            ".a",
            "a..b",
            ".:80",
            ":80",
            "a:b",
            "a:123456",
            "[]",
            "[1.]",
            "[::1",
            "[::1]80",
            "[:]",
            "[1.2.3.4]",
            "[::1%0]",
            "a b",
            "a@b",
            "a,b",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
