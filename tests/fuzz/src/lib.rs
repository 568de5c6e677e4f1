//! What several targets need: inputs that are text, a head out of it, and a future that never waits.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// The output of a future that finds all that it needs at hand.
pub fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// The head of a request in the form of RFC 9112, with bare line feeds, and what follows the empty line. None: no HTTP
/// library would hand on such a head.
pub fn head(input: &[u8]) -> Option<(Parts, &[u8])> {
    let (line, mut rest) = cut(input);
    let mut words = line.split(|byte| *byte == b' ');
    let (method, uri, version) = (words.next()?, words.next()?, words.next()?);
    let version = match version {
        b"HTTP/1.0" => Version::HTTP_10,
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/2" => Version::HTTP_2,
        _ => return None,
    };
    let mut headers = HeaderMap::new();
    while !rest.is_empty() {
        let (line, after) = cut(rest);
        rest = after;
        if line.is_empty() {
            break;
        }
        let (name, value) = header(line)?;
        headers.try_append(name, value).ok()?;
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method).ok()?;
    parts.uri = Uri::try_from(uri).ok()?;
    parts.version = version;
    parts.headers = headers;
    Some((parts, rest))
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = line[colon + 1..].trim_ascii();
    Some((name, HeaderValue::from_bytes(value).ok()?))
}

/// The first line, without its end, and the rest.
pub fn cut(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}
