//! The admin port: health and metrics for everyone, debug pages for peers on this machine. Not the data plane: it has a
//! small server of its own, one request per connection.

pub mod question;
pub mod ready;
pub mod server;
pub mod why;

pub use ready::{Phase, Readiness};
pub use server::serve;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::{AdminDebug, Settings};
use crate::live::LiveCell;
use crate::metrics::Metrics;
use crate::policy::Services;
use question::Question;

/// What the pages show.
pub struct View {
    /// What a scrape of `/metrics` is answered from.
    pub metrics: Arc<Metrics>,
    /// The snapshot in force, which the debug pages show and ask.
    pub live: Arc<LiveCell>,
    /// What rules are evaluated with when `/debug/why` is asked.
    pub services: Arc<Services>,
    /// The settings in force, without secrets.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// What was bound, by the listener's name.
    pub addresses: BTreeMap<&'static str, SocketAddr>,
    /// What `/readyz` goes by.
    pub readiness: Arc<Readiness>,
}

type Page = Response<Full<Bytes>>;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON: &str = "application/json";
const KEY_SET: &str = "application/jwk-set+json";
const TEXT: &str = "text/plain; charset=utf-8";

impl View {
    /// The answer to one request. May take a while for a big snapshot: for a thread of
    /// its own, beside a runtime.
    pub fn answer(&self, peer: IpAddr, method: &Method, uri: &Uri, headers: &HeaderMap) -> Page {
        let known = match uri.path() {
            "/livez" | "/readyz" | "/metrics" => true,
            "/principal-jwks" => self.services.signer.is_some(),
            "/debug/config" | "/debug/snapshot" | "/debug/why" => {
                let mode = self.settings.borrow().admin_debug;
                mode == AdminDebug::Loopback && peer.to_canonical().is_loopback()
            }
            _ => false,
        };
        if !known {
            return text(StatusCode::NOT_FOUND, "not found\n");
        }
        if uri.path().starts_with("/debug/") && !asks_for_this_machine(uri, headers) {
            let why = "the Host header must be localhost or a loopback address, to protect against web pages (DNS rebinding)\n";
            return text(StatusCode::FORBIDDEN, why);
        }
        if method != Method::GET && method != Method::HEAD {
            let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            page.headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return page;
        }
        match uri.path() {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readyz(),
            "/metrics" => page(StatusCode::OK, OPEN_METRICS, self.metrics.encode()),
            "/principal-jwks" => self.principal_jwks(),
            "/debug/config" => self.config(),
            "/debug/snapshot" => self.snapshot(),
            _ => self.why(uri.query().unwrap_or_default()),
        }
    }

    fn readyz(&self) -> Page {
        let phase = self.readiness.phase();
        let status = match phase {
            Phase::Ready => StatusCode::OK,
            Phase::Starting { .. } | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
        };
        text(status, format!("{phase}\n"))
    }

    /// What apps verify the signed principal by: public, whoever asks.
    fn principal_jwks(&self) -> Page {
        let signer = self.services.signer.as_ref();
        let key_set = signer.map(|signer| signer.key_set().clone()).unwrap_or_default();
        page(StatusCode::OK, KEY_SET, key_set)
    }

    fn config(&self) -> Page {
        let settings = self.settings.borrow().clone();
        json(&json!({"settings": &*settings, "addresses": self.addresses}))
    }

    fn snapshot(&self) -> Page {
        let Some(live) = self.live.load() else {
            return nothing_served();
        };
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Served<'a> {
            version: u64,
            hash: String,
            /// When it was saved, if it is not what the apiserver has said since the start.
            stale_since: Option<String>,
            snapshot: &'a crate::snapshot::Snapshot,
        }
        json(&Served {
            version: live.version,
            hash: format!("{:016x}", live.snapshot.hash()),
            stale_since: self.metrics.published.stale_since.lock().map(|since| since.to_string()),
            snapshot: &live.snapshot,
        })
    }

    fn why(&self, query: &str) -> Page {
        let question = match Question::from_query(query) {
            Ok(question) => question,
            Err(wrong) => return text(StatusCode::BAD_REQUEST, format!("{wrong}\n{}\n", question::USAGE)),
        };
        match self.live.load() {
            Some(live) => {
                let explained = why::explain(&live.snapshot, &question, &self.services);
                json(&Handle::current().block_on(explained))
            }
            None => nothing_served(),
        }
    }
}

/// A page of the web can make a browser on this machine ask us, under a name of its own that resolves to loopback; it
/// cannot make it leave that name out (DNS rebinding).
fn asks_for_this_machine(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let is_here = |host: &[u8]| {
        let authority = http::uri::Authority::try_from(host).ok();
        authority.is_some_and(|authority| {
            let name = authority.host();
            let address = name.trim_start_matches('[').trim_end_matches(']');
            let loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
            name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(loopback)
        })
    };
    is_here(host.as_bytes())
        && uri
            .authority()
            .is_none_or(|authority| is_here(authority.as_str().as_bytes()))
}

fn nothing_served() -> Page {
    text(
        StatusCode::SERVICE_UNAVAILABLE,
        "no snapshot is served yet: see /readyz\n",
    )
}

fn json(value: &impl Serialize) -> Page {
    match serde_json::to_string_pretty(value) {
        Ok(body) => page(StatusCode::OK, JSON, body + "\n"),
        // A path that is not UTF-8 has no JSON.
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Page {
    page(status, TEXT, body)
}

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    page
}

#[cfg(test)]
mod tests;
