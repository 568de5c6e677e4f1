//! Which route of the snapshot a request takes, whether this connection may use it, and the redirect to https. Nothing is
//! waited for.

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;

use super::backend;
use super::body::Body;
use super::context::RequestContext;
use super::peer::Peer;
use super::request_log::RequestInfo;
use super::target::Target;
use crate::fields::{X_REQUEST_ID, cdn_loop};
use crate::matching::Head;
use crate::reason::Reason;
use crate::snapshot::{Action, Backend, ClientTlsMode, Deployment, Host, Route, Snapshot};
use crate::upstream::tls::UpstreamTls;
use crate::upstream::{Protocol, Upstream};

/// What becomes of a request that has a route.
pub enum Routed {
    /// It goes on to the rules and to an app.
    App(Chosen),
    /// It came in plaintext, and the listener or the route wants TLS.
    Redirect,
}

/// What of the route the phases after the snapshot need.
pub struct Chosen {
    backends: Arc<[Backend]>,
    /// Where one of them speaks TLS.
    upstream_tls: Option<Arc<UpstreamTls>>,
    /// Whether the host asks clients for certificates.
    pub asks_clients: bool,
}

impl Chosen {
    /// One of the backends by weight, with its TLS settings if it speaks TLS; an error if none can take the request.
    pub fn choose_upstream(&self) -> Result<(&Arc<Upstream>, Option<&Arc<UpstreamTls>>), Reason> {
        let upstream = backend::choose_backend(&self.backends)?;
        // Most speak none, and one stands for all of those: every request would count on it.
        let tls = self.upstream_tls.as_ref();
        Ok((upstream, tls.filter(|_| upstream.protocol == Protocol::Https)))
    }
}

impl RequestContext<'_> {
    /// By host, then by route; `info` learns both the Deployment and its policies. It refuses what has no route, what another
    /// connection should have carried (421), what has passed too often (508), and what the route's action refuses.
    pub fn route(
        &self,
        snapshot: &Snapshot,
        target: &Target,
        upgrade: bool,
        info: &mut RequestInfo,
    ) -> Result<Routed, Reason> {
        let hostname = target.hostname();
        let hosts = snapshot.hosts(self.client.peer.listener);
        let host = hosts.find(&hostname).ok_or(Reason::HostNotFound)?;
        let head = Head {
            // A WebSocket in HTTP/2 is a CONNECT (RFC 8441 section 5), to routes a GET.
            method: if upgrade { &Method::GET } else { &self.head.method },
            path: target.path(),
            query: target.uri.query(),
            headers: &self.head.headers,
        };
        let route = host.find(&head).ok_or(Reason::PathNotFound)?;
        info.deployment = Some(route.deployment.clone());
        if !self.origin.https && (snapshot.listener.redirect || demands_certificate(route)) {
            // A WebSocket client follows no redirect (RFC 6455 section 4.1): it is told.
            return if upgrade {
                Err(Reason::TlsRequired)
            } else {
                Ok(Routed::Redirect)
            };
        }
        if !is_meant_here(&self.client.peer, snapshot, &hostname, host, route) {
            return Err(Reason::Misdirected);
        }
        if host.is_read_past_rules(&head, route) {
            return Err(Reason::AmbiguousPath);
        }
        match &route.action {
            Action::Forward(_) if cdn_loop::is_loop(&self.head.headers) => Err(Reason::LoopDetected),
            Action::Forward(backends) => {
                let mut upstreams = backends.iter().filter_map(|backend| backend.upstream.as_ref());
                info.policies = route.policies.clone();
                let speaks_tls = upstreams.any(|upstream| upstream.protocol == Protocol::Https);
                Ok(Routed::App(Chosen {
                    backends: backends.clone(),
                    upstream_tls: speaks_tls.then(|| route.upstream_tls.clone()),
                    asks_clients: host.tls.client.is_some() || route.client_tls.is_some(),
                }))
            }
            Action::Refuse(reason) => Err(*reason),
        }
    }

    /// RFC 9110 section 15.4.9: the method stays. The port goes: whatever port plaintext came by, TLS has its own.
    pub fn redirect(&self, target: &Target, found: Option<&Deployment>) -> Response<Body> {
        // OPTIONS of the asterisk is for the host as such.
        let path = if target.path() == "*" {
            String::new()
        } else {
            target.uri.to_string()
        };
        let location = HeaderValue::try_from(format!("https://{}{path}", target.host_without_port()));
        let mut response = Response::new(Body::Own(Full::default()));
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, self.request_id.clone());
        if let Ok(location) = location {
            headers.insert(header::LOCATION, location);
        }
        if let Some(deployment) = found {
            let traffic = &deployment.runtime.get().traffic;
            traffic.count_answer(StatusCode::PERMANENT_REDIRECT, self.started.elapsed());
        }
        self.client.clock.idle();
        response
    }
}

fn demands_certificate(route: &Route) -> bool {
    let client = route.client_tls.as_ref();
    client.is_some_and(|client| client.mode == ClientTlsMode::Required)
}

/// Whether this connection's handshake is the one that a client of this host would have had (RFC 9110 section 7.4): the same
/// certificate, the same rule on the client's.
fn is_meant_here(peer: &Peer, snapshot: &Snapshot, hostname: &str, host: &Host, route: &Route) -> bool {
    let Some(agreed) = &peer.tls else {
        return !demands_certificate(route);
    };
    let named = agreed.server_name.as_deref() == Some(hostname);
    (named || agreed.identity.is_of(snapshot, peer.listener, hostname))
        && agreed.client == host.tls.client
        && (route.client_tls.is_none() || route.client_tls == agreed.client)
}
