//! Where a request comes from, as apps are told: by the connection itself or, where a trusted proxy stands before Postern,
//! by what that says. What anybody else says of it is dropped.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::peer::Peer;
use crate::fields::list::{elements, only};
use crate::fields::{
    X_FORWARDED_CLIENT_CERT, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REQUEST_ID, node,
};
use crate::snapshot::Listener;
use crate::telemetry::traces::context::Context;

/// Hops that are looked at, from the nearest: a list is as long as a client likes. Past them the client is unknown.
const MAX_HOPS: usize = 64;
const MAX_REQUEST_ID: usize = 128;
const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");

/// Who a request is from, and what apps are told of its way.
#[derive(Clone, Debug)]
pub struct ClientOrigin<'a> {
    /// Whether the peer is one of `trustedProxies`.
    pub trusted: bool,
    /// The rightmost hop that is not trusted. None: what the trusted proxies say of it cannot be read.
    pub ip: Option<IpAddr>,
    /// `ip` as text, or `unknown` (RFC 7239 section 6.2).
    pub client: Cow<'a, HeaderValue>,
    /// The client and the trusted proxies after it.
    pub forwarded_for: Cow<'a, HeaderValue>,
    /// Whether the client came by TLS, to Postern or to a trusted proxy.
    pub https: bool,
    /// The port that the client connected to.
    pub port: &'a HeaderValue,
    /// What the client asked for, where a trusted proxy says that it was another one than Host.
    pub host: Option<&'a HeaderValue>,
    /// A trusted proxy's.
    pub request_id: Option<&'a HeaderValue>,
    /// X-Forwarded-Client-Cert: of the certificate that Postern verified, or as a trusted proxy sent it.
    pub client_certificate: Option<&'a HeaderValue>,
    /// Whether apps get Forwarded, too.
    pub forwarded: bool,
}

impl<'a> ClientOrigin<'a> {
    /// By the peer alone, unless the listener trusts it to speak for others; None: no listener is known yet, and nobody
    /// is trusted.
    pub fn of(peer: &'a Peer, headers: &'a HeaderMap, listener: Option<&Listener>) -> Self {
        let direct = Self {
            trusted: false,
            ip: Some(peer.ip),
            client: Cow::Borrowed(&peer.address),
            forwarded_for: Cow::Borrowed(&peer.address),
            https: peer.tls.is_some(),
            port: &peer.port,
            host: None,
            request_id: None,
            client_certificate: peer.client_certificate().map(|shown| &shown.told),
            forwarded: listener.is_some_and(|listener| listener.forwarded),
        };
        match listener.filter(|listener| listener.trusts(peer.ip)) {
            Some(listener) => direct.told_by_proxy(peer, headers, listener),
            None => direct,
        }
    }

    fn told_by_proxy(self, peer: &Peer, headers: &'a HeaderMap, listener: &Listener) -> Self {
        let Way {
            ip,
            client,
            forwarded_for,
        } = Way::of(peer, headers, listener);
        let only = |name: HeaderName| only(headers, name);
        let proto = only(X_FORWARDED_PROTO).map(|proto| proto.as_bytes().to_ascii_lowercase());
        let rule = peer.tls.as_ref().and_then(|agreed| agreed.client.as_ref());
        Self {
            trusted: true,
            ip,
            client: Cow::Owned(client),
            forwarded_for: Cow::Owned(forwarded_for),
            https: match proto.as_deref() {
                Some(b"https" | b"wss") => true,
                Some(b"http" | b"ws") => false,
                _ => self.https,
            },
            port: only(X_FORWARDED_PORT).filter(|port| is_port(port)).unwrap_or(self.port),
            host: only(X_FORWARDED_HOST),
            request_id: only(X_REQUEST_ID).filter(|id| is_request_id(id)),
            client_certificate: match rule {
                Some(_) => self.client_certificate,
                None => only(X_FORWARDED_CLIENT_CERT),
            },
            forwarded: self.forwarded,
        }
    }

    /// For a host with a rule of its own: what was verified here counts, and no proxy's word for it.
    pub fn verified_here(&self, peer: &'a Peer) -> Self {
        Self {
            client_certificate: peer.client_certificate().map(|shown| &shown.told),
            ..self.clone()
        }
    }

    /// The trace that the request is part of. Only a trusted proxy's word counts: it decides what is recorded, and under
    /// which id.
    pub fn trace(&self, headers: &HeaderMap) -> Option<Context> {
        self.trusted.then(|| Context::of(headers)).flatten()
    }

    /// RFC 7239 section 4, of the client alone.
    pub fn forwarded(&self, host: &HeaderValue) -> Option<HeaderValue> {
        if !self.forwarded {
            return None;
        }
        let client = self.client.to_str().ok()?;
        // Section 6: an IPv6 address stands in brackets, and so in quotes; a host may have a colon.
        let client = if client.contains(':') {
            format!("\"[{client}]\"")
        } else {
            client.to_owned()
        };
        let host = host.to_str().ok()?.replace(['"', '\\'], "");
        let proto = if self.https { "https" } else { "http" };
        HeaderValue::try_from(format!("for={client};host=\"{host}\";proto={proto}")).ok()
    }
}

/// The client and the way from it: each hop was told by the one after it, so the first that is not trusted ends what can be
/// believed. One that cannot be read is not trusted: whoever it is, nobody vouches for it.
struct Way {
    ip: Option<IpAddr>,
    client: HeaderValue,
    forwarded_for: HeaderValue,
}

impl Way {
    fn of(peer: &Peer, headers: &HeaderMap, listener: &Listener) -> Self {
        let mut ip = Some(peer.ip);
        let mut forwarded_for = peer.ip.to_string();
        for (nth, hop) in elements(headers, X_FORWARDED_FOR).rev().enumerate() {
            ip = address(hop).filter(|_| nth < MAX_HOPS);
            forwarded_for = format!("{}, {forwarded_for}", node(ip));
            if ip.is_none_or(|hop| !listener.trusts(hop)) {
                break;
            }
        }
        let value = |text: String| HeaderValue::try_from(text).unwrap_or(UNKNOWN);
        Self {
            ip,
            client: value(node(ip)),
            forwarded_for: value(forwarded_for),
        }
    }
}

/// An address, perhaps with a port, as proxies write one.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(element).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let ip = bare
        .parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    ip.map(|ip| ip.to_canonical())
}

fn is_port(port: &HeaderValue) -> bool {
    port.to_str()
        .is_ok_and(|port| port.len() <= 5 && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_request_id(id: &HeaderValue) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}
