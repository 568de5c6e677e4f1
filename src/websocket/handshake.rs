//! The opening handshake's rules: what a client must send to be an upgrade, in HTTP/1.1 (RFC 6455 section 4) or HTTP/2
//! (RFC 8441 section 5), and what the app must answer.

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use h2::ext::Protocol;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};

use crate::fields::list::{has_token, only};
use crate::reason::Reason;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A well-formed handshake of a client.
#[derive(Debug)]
pub struct Handshake {
    /// In HTTP/2 there is none: Postern's own.
    key: HeaderValue,
}

impl Handshake {
    /// `Ok(None)`: a plain request, whatever other upgrade it asks for. `Err`: it asks for a WebSocket, wrongly.
    pub fn parse(head: &Parts) -> Result<Option<Self>, Reason> {
        if let Some(protocol) = head.extensions.get::<Protocol>() {
            return Self::parse_connect(head, protocol).map(Some);
        }
        // RFC 9110 section 7.8: an Upgrade in HTTP/1.0, or one that Connection does not name, is to be ignored.
        let asked = head.version == Version::HTTP_11
            && has_token(&head.headers, header::CONNECTION, "upgrade")
            && has_token(&head.headers, header::UPGRADE, "websocket");
        if !asked {
            return Ok(None);
        }
        let one = |name| only(&head.headers, name);
        if one(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version != "13") {
            return Err(Reason::UnsupportedVersion);
        }
        let key = one(header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
        match (key, one(header::SEC_WEBSOCKET_VERSION)) {
            (Some(key), Some(_)) if head.method == Method::GET && !has_body(&head.headers) => {
                Ok(Some(Self { key: key.clone() }))
            }
            _ => Err(Reason::BadUpgrade),
        }
    }

    /// An extended CONNECT. A protocol other than `websocket` is refused as a bad handshake: RFC 8441 names no status, and the
    /// 501 of RFC 9220 section 3 would say that the app knows the method for other resources.
    fn parse_connect(head: &Parts, protocol: &Protocol) -> Result<Self, Reason> {
        let version = head.headers.get_all(header::SEC_WEBSOCKET_VERSION);
        if version.iter().any(|version| version != "13") {
            return Err(Reason::UnsupportedVersion);
        }
        if protocol.as_str() != "websocket" || head.method != Method::CONNECT || has_body(&head.headers) {
            return Err(Reason::BadUpgrade);
        }
        let key = BASE64_STANDARD.encode(fastrand::u128(..).to_ne_bytes());
        let key = HeaderValue::try_from(key).map_err(|_| Reason::InternalError)?;
        Ok(Self { key })
    }

    /// What a handshake in HTTP/1.1 has beside its Upgrade. A client's own are the same, or in HTTP/2 of no meaning.
    pub fn complete(&self, headers: &mut HeaderMap) {
        headers.insert(header::SEC_WEBSOCKET_KEY, self.key.clone());
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }

    /// Whether the head of a 101 accepts this very handshake (section 4.1, items 2 and 4 of the client's checks).
    pub fn is_accepted_by(&self, answer: &HeaderMap) -> bool {
        has_token(answer, header::UPGRADE, "websocket")
            && only(answer, header::SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| accept.as_bytes() == self.accept())
    }

    fn accept(&self) -> Vec<u8> {
        let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(self.key.as_bytes());
        hash.update(GUID);
        BASE64_STANDARD.encode(hash.finish()).into_bytes()
    }
}

/// Sixteen bytes in base64; the bits past them may be anything, as servers at large have it.
fn is_key(key: &HeaderValue) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(key.as_bytes().split_at_checked(22), Some((digits, b"==")) if digits.iter().all(digit))
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}
