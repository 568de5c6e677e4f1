//! One request, from its head to its answer: its phases in the order of the contract, on one screen.

use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use futures_util::FutureExt;
use http::{Request, Response, StatusCode, header};
use http_body::Body as _;

use super::authorize::{self, Authorized};
use super::body::Body;
use super::challenge;
use super::client::Client;
use super::client_origin::ClientOrigin;
use super::context::{RequestContext, request_id};
use super::error::{self, ErrorContext};
use super::forward::Forward;
use super::request_log::{Answered, RequestInfo, RequestLog, SocketLog};
use super::route::Routed;
use super::target::Target;
use crate::body::incoming::Incoming;
use crate::fields::X_REQUEST_ID;
use crate::fields::hop::remove_nominated;
use crate::live::Live;
use crate::policy::connection_limit::Lease;
use crate::policy::{Passed, Refusal};
use crate::reason::{CLOSED_REQUEST, Reason};
use crate::runtime::Traffic;
use crate::snapshot::{Deployment, Snapshot};
use crate::websocket::deployment_state::OnClose;
use crate::websocket::handshake::Handshake;

/// That no answer was sent; as nginx says it.
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::REQUEST_TIMEOUT,
};

/// Always an answer: the app's, or one of ours that says why not.
pub async fn answer(client: &Arc<Client>, request: Request<Incoming>) -> Response<Body> {
    let started = Instant::now();
    let (mut head, incoming) = request.into_parts();
    remove_nominated(&mut head.headers);
    let live = client.proxy.live.look();
    let listener = live.as_ref().map(|live| &*live.snapshot.listener);
    let hsts = listener.and_then(|listener| listener.hsts.clone());
    let origin = ClientOrigin::of(&client.peer, &head.headers, listener);
    let request_id = origin.request_id.cloned().unwrap_or_else(request_id);
    let scope = client
        .proxy
        .telemetry
        .tracer
        .as_ref()
        .map(|tracer| tracer.begin(origin.trace(&head.headers)));
    let context = RequestContext {
        client,
        head: &head,
        origin: &origin,
        request_id: &request_id,
        scope: scope.as_ref(),
        started,
    };
    let mut account = RequestGuard {
        context,
        info: RequestInfo::default(),
        answered: false,
    };
    let answered = AssertUnwindSafe(context.run(live, incoming, &mut account.info))
        .catch_unwind()
        .await;
    account.answered = true;
    let refused = match &answered {
        Ok(Ok(_)) => None,
        Ok(Err(refusal)) => Some(refusal.reason),
        Err(_panic) => Some(Reason::InternalError),
    };
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => account.refuse(*refusal),
        // The panic hook has logged it; it costs this request alone.
        Err(_panic) => account.refuse(Reason::InternalError.into()),
    };
    let mut leases = Vec::new();
    if let Some(passed) = &mut account.info.passed {
        leases = passed.take_leases();
        let status = response.status();
        passed.finish(status, response.headers_mut(), refused.is_some());
    }
    if let Some(hsts) = hsts.filter(|_| origin.https) {
        // The app's own, if it sends one, is for its name; ours is for all.
        let headers = response.headers_mut();
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(hsts);
    }
    account.tell(&mut response, refused, leases);
    response
}

/// What is known of the request so far. Dropped before `answered` is set, it counts the request as abandoned by its client.
struct RequestGuard<'a> {
    context: RequestContext<'a>,
    info: RequestInfo,
    answered: bool,
}

impl RequestGuard<'_> {
    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        let context = &self.context;
        self.traffic().count_refusal(refusal.reason, context.started.elapsed());
        context.client.clock.idle();
        let asker = ErrorContext {
            accept: &context.head.headers,
            request_id: context.request_id,
            detail: refusal.detail.as_deref(),
        };
        let mut response = match refusal.answer {
            Some(answer) => error::passed_on(*answer, refusal.reason, asker),
            None => error::answer(refusal.reason, asker),
        };
        response.headers_mut().extend(*refusal.headers);
        response
    }

    fn traffic(&self) -> &Traffic {
        match &self.info.deployment {
            Some(deployment) => &deployment.runtime.get().traffic,
            None => &self.context.client.proxy.state.unrouted,
        }
    }

    /// Hands the log entry to what outlives this future: the answer's body or the socket. For an answer of Postern's own it
    /// is written now.
    fn tell(&self, response: &mut Response<Body>, refused: Option<Reason>, leases: Vec<Lease>) {
        let outcome = Answered {
            status: response.status(),
            code: refused.map(Reason::code),
            headers: Some(response.headers()),
        };
        let log = RequestLog::of(&self.context, &self.info, outcome);
        let RequestContext { client, head, .. } = self.context;
        let telemetry = &client.proxy.telemetry;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            client.with_socket(|socket| {
                let socket_log = log.map(|log| log.opened(telemetry));
                if let Some(action) = on_close(leases, socket_log) {
                    socket.on_close(action);
                }
            });
            return;
        }
        match (response.body_mut(), log) {
            (Body::App(body), Some(log)) => body.tell(log),
            (body, Some(log)) => log.own(telemetry, &head.method, body.size_hint().exact()),
            (_, None) => {}
        }
    }
}

/// What a socket's end brings about: its places under connection limits are given back, then it is logged.
fn on_close(leases: Vec<Lease>, socket_log: Option<SocketLog>) -> Option<OnClose> {
    match socket_log {
        Some(socket_log) if leases.is_empty() => Some(Box::new(move |closed| socket_log.closed(closed))),
        Some(socket_log) => Some(Box::new(move |closed| {
            drop(leases);
            socket_log.closed(closed);
        })),
        None if leases.is_empty() => None,
        None => Some(Box::new(move |_| drop(leases))),
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.traffic().abandoned.fetch_add(1, Relaxed);
            let outcome = Answered {
                status: CLIENT_CLOSED_REQUEST,
                code: Some(CLOSED_REQUEST),
                headers: None,
            };
            if let Some(log) = RequestLog::of(&self.context, &self.info, outcome) {
                log.end(&self.context.client.proxy.telemetry, 0, false);
            }
        }
    }
}

impl RequestContext<'_> {
    /// `live` is the one look at the configuration that this request takes; it ends before anything is waited for.
    async fn run(
        &self,
        live: impl Deref<Target = Option<Arc<Live>>>,
        mut incoming: Incoming,
        info: &mut RequestInfo,
    ) -> Result<Response<Body>, Box<Refusal>> {
        let Self { client, head, .. } = *self;
        let target = Target::of(head)?;
        let snapshot = live.as_ref().map(|live| &live.snapshot);
        if let Some(response) = snapshot.and_then(|snapshot| self.challenge(snapshot, &target)) {
            return Ok(response);
        }
        // Taken by the first request, whatever it turns out to be; kept by an upgrade alone.
        let permit = client.take_permit();
        let upgrade = Handshake::parse(head)?;
        let mut permit = permit.filter(|_| upgrade.is_some());
        let snapshot = snapshot.ok_or(Reason::Starting)?;
        let way = match self.route(snapshot, &target, upgrade.is_some(), info)? {
            Routed::App(way) => way,
            Routed::Redirect => return Ok(self.redirect(&target, info.deployment.as_deref())),
        };
        drop(live);
        if client.proxy.state.is_overloaded.load(Relaxed) {
            return Err(Reason::Overloaded.into());
        }
        let RequestInfo {
            deployment,
            policies,
            passed,
            attempted,
        } = info;
        let verified_here = way.asks_clients.then(|| self.origin.verified_here(&client.peer));
        let deployment = deployment.as_ref().ok_or(Reason::InternalError)?;
        if let Some(policies) = policies {
            // Rules may take their time, which is not the app's: others may go first.
            permit = None;
            let passed = passed.insert(Box::default());
            // Boxed: most requests have none before them.
            let guarded = authorize::run(self, &target, deployment, policies, upgrade.is_some(), incoming, passed);
            match Box::pin(guarded).await? {
                Authorized::Passed(body) => incoming = body,
                Authorized::Answered(response) => return Ok(response),
            }
        }
        self.name_principal(deployment, way.asks_clients, passed);
        let (upstream, upstream_tls) = way.choose_upstream()?;
        let forward = Forward {
            client,
            deployment,
            upstream,
            upstream_tls,
            head,
            target: &target,
            origin: verified_here.as_ref().unwrap_or(self.origin),
            request_id: self.request_id,
            scope: self.scope,
            passed: passed.as_deref(),
            started: self.started,
        };
        Ok(match upgrade {
            // Boxed: it is the larger one, and every plain request's future would have its size.
            Some(handshake) => Box::pin(forward.upgrade(handshake, permit, attempted)).await?,
            None => forward.plain(incoming, attempted).await?,
        })
    }

    /// A client certificate names whom no rule has named, and the principal is signed for the app.
    fn name_principal(&self, deployment: &Deployment, asks_clients: bool, passed: &mut Option<Box<Passed>>) {
        let shown = self.client.peer.client_certificate().filter(|_| asks_clients);
        if let Some(principal) = shown.and_then(|shown| shown.principal.as_ref()) {
            passed.get_or_insert_default().fall_back(principal);
        }
        if let (Some(passed), Some(signer)) = (passed.as_mut(), &self.client.proxy.services.signer)
            && let Ok(id) = deployment.deployment_id.to_str()
        {
            passed.sign(signer, &format!("{}/{id}", deployment.id.namespace()));
        }
    }

    /// The answer to an ACME server, on whichever port it asks.
    fn challenge(&self, snapshot: &Snapshot, target: &Target) -> Option<Response<Body>> {
        let mut response = challenge::answer(snapshot, self.head, target)?;
        response.headers_mut().insert(X_REQUEST_ID, self.request_id.clone());
        self.client
            .proxy
            .state
            .unrouted
            .count_answer(response.status(), self.started.elapsed());
        self.client.clock.idle();
        Some(response)
    }
}
