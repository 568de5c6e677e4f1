//! One request, from its head to its answer: the phases in the order of the contract, on one screen.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use uuid::Uuid;

use super::balance;
use super::body::Body;
use super::connection::Client;
use super::error::{self, Asker};
use super::forward::{self, Errand};
use super::incoming::Incoming;
use super::target::Target;
use crate::reason::Reason;
use crate::snapshot::{Action, Deployment, Upstream, UpstreamTls};
use crate::state::Traffic;
use crate::websocket::handshake::Handshake;

/// Always an answer: the app's, or one of ours that says why not.
pub async fn answer(client: &Arc<Client>, request: Request<Incoming>) -> Response<Body> {
    let started = Instant::now();
    let request_id = request_id();
    let (head, incoming) = request.into_parts();
    let mut account = Account {
        client,
        deployment: None,
        answered: false,
    };
    let respond = respond(client, &head, incoming, &request_id, started, &mut account.deployment);
    let answered = AssertUnwindSafe(respond).catch_unwind().await;
    account.answered = true;
    let reason = match answered {
        Ok(Ok(response)) => return response,
        Ok(Err(reason)) => reason,
        // The panic hook has logged it; it costs this request alone.
        Err(_panic) => Reason::InternalError,
    };
    account.traffic().count_refusal(reason, started.elapsed());
    client.clock.idle();
    error::answer(
        reason,
        Asker {
            accept: &head.headers,
            request_id: &request_id,
        },
    )
}

/// Whose request it is, as far as is known; and that it was given up if it ends without an answer.
struct Account<'a> {
    client: &'a Client,
    deployment: Option<Arc<Deployment>>,
    answered: bool,
}

impl Account<'_> {
    fn traffic(&self) -> &Traffic {
        match &self.deployment {
            Some(deployment) => &deployment.runtime.get().traffic,
            None => &self.client.proxy.state.unrouted,
        }
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.traffic().abandoned.fetch_add(1, Relaxed);
        }
    }
}

async fn respond(
    client: &Arc<Client>,
    head: &Parts,
    incoming: Incoming,
    request_id: &HeaderValue,
    started: Instant,
    found: &mut Option<Arc<Deployment>>,
) -> Result<Response<Body>, Reason> {
    // Given back by the first request, whatever it turns out to be.
    let turn = client.take_turn();
    let target = Target::of(head)?;
    let upgrade = Handshake::parse(head)?;
    let (upstream, upstream_tls) = route(client, &target, found)?;
    let deployment = found.as_ref().ok_or(Reason::InternalError)?;
    let errand = Errand {
        client,
        deployment,
        upstream: &upstream,
        upstream_tls: &upstream_tls,
        head,
        target: &target,
        request_id,
        started,
    };
    match upgrade {
        // Boxed: it is the larger one, and every plain request's future would have its size.
        Some(handshake) => Box::pin(forward::upgrade(errand, handshake, turn)).await,
        None => forward::plain(errand, incoming).await,
    }
}

/// By host, then by path, then by weight. The one look at the configuration that this request takes.
fn route(
    client: &Client,
    target: &Target,
    found: &mut Option<Arc<Deployment>>,
) -> Result<(Arc<Upstream>, Arc<UpstreamTls>), Reason> {
    let live = client.proxy.live.look();
    let live = live.as_ref().ok_or(Reason::Starting)?;
    let host = live
        .snapshot
        .hosts
        .find(&target.hostname())
        .ok_or(Reason::HostNotFound)?;
    let route = host.find(target.path()).ok_or(Reason::PathNotFound)?;
    *found = Some(route.deployment.clone());
    match &route.action {
        Action::Forward(backends) => {
            let upstream = balance::choose_backend(backends)?.clone();
            Ok((upstream, route.upstream_tls.clone()))
        }
        Action::Refuse(reason) => Err(*reason),
    }
}

/// UUIDv7: sorts by time.
pub fn request_id() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let id: &str = Uuid::now_v7().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("-"))
}
