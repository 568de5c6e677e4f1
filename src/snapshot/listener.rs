//! What the listeners go by, beside the routes: all of it hot, so it is swapped with them. Sockets stay bound and
//! connections open; what a connection has agreed on already stays agreed.

use std::time::Duration;

use clap::ValueEnum;
use http::HeaderValue;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::text::printed;

/// Which bound socket a connection came by. A request finds the hosts of its own listener, whatever port its Host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKey {
    /// The installation's port for plaintext.
    Http,
    /// The installation's port for TLS.
    Https,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Peers whose X-Forwarded-* and X-Request-Id are believed, and who may speak the PROXY protocol.
    #[serde(serialize_with = "printed::texts")]
    pub trusted_proxies: Box<[IpNet]>,
    /// Whether a trusted peer's connection begins with a PROXY header. Others' must not.
    pub proxy_protocol: bool,
    /// Whether plaintext requests are sent to https.
    pub redirect: bool,
    pub http2: bool,
    /// Whether WebSockets over HTTP/2 are offered (RFC 8441).
    pub websocket_http2: bool,
    /// Strict-Transport-Security on answers over TLS (RFC 6797).
    #[serde(serialize_with = "printed::option_value")]
    pub hsts: Option<HeaderValue>,
    /// Whether apps get Forwarded (RFC 7239) too.
    pub forwarded: bool,
    pub tls_min_version: TlsVersion,
    #[serde(serialize_with = "printed::seconds")]
    pub tls_handshake_timeout: Duration,
    #[serde(serialize_with = "printed::seconds")]
    pub keep_alive_timeout: Duration,
    /// Open streams of one HTTP/2 connection.
    pub http2_max_streams: u32,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    #[value(name = "1.2")]
    V12,
    #[serde(rename = "1.3")]
    #[value(name = "1.3")]
    V13,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            trusted_proxies: Box::default(),
            proxy_protocol: false,
            redirect: false,
            http2: true,
            websocket_http2: true,
            hsts: None,
            forwarded: false,
            tls_min_version: TlsVersion::V12,
            tls_handshake_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            http2_max_streams: 250,
        }
    }
}

impl Listener {
    /// Whether this peer is one of the trusted proxies.
    pub fn trusts(&self, peer: std::net::IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&peer))
    }
}
