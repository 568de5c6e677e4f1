//! The phase in which rules decide: what they look at is gathered, and a body is read where one of them must
//! see it. What they say is `policy`'s.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, timeout_at};

use super::body::Body;
use super::context::RequestContext;
use super::target::Target;
use crate::body::incoming::{Incoming, ReadBody};
use crate::fields::X_REQUEST_ID;
use crate::policy::engine::{Progress, Run};
use crate::policy::mode::Mode;
use crate::policy::{Passed, Policy, Refusal, Request};
use crate::reason::Reason;
use crate::snapshot::Deployment;
use crate::upstream::dial::KERNEL_LIMIT;

/// How long a rule in the shadow waits for a body.
const SHADOW_BODY: Duration = Duration::from_secs(5);

/// How the rules ended, where none refused.
pub enum Authorized {
    /// With the body, whether it was looked at or not.
    Passed(Incoming),
    /// A rule has answered by itself, as `cors` answers a preflight.
    Answered(Response<Body>),
}

/// Runs all rules over the request; what they say is in `passed`, also of one that is refused. The body is read where a
/// rule asks for it.
pub async fn run(
    context: &RequestContext<'_>,
    target: &Target,
    deployment: &Deployment,
    policies: &[Arc<Policy>],
    upgrade: bool,
    mut incoming: Incoming,
    passed: &mut Passed,
) -> Result<Authorized, Box<Refusal>> {
    let RequestContext {
        client, head, origin, ..
    } = *context;
    let host = target.hostname();
    let request = Request {
        // An upgrade in HTTP/2 is a CONNECT (RFC 8441 section 5), to the app a GET.
        method: if upgrade { &Method::GET } else { &head.method },
        headers: &head.headers,
        authority: &target.host,
        host: &host,
        uri: &target.uri,
        client: origin.ip,
        trusted: origin.trusted,
        https: origin.https,
        web_socket: upgrade,
        certificate: client
            .peer
            .client_certificate()
            .and_then(|shown| shown.principal.as_ref()),
        readings: OnceLock::new(),
    };
    let services = &client.proxy.services;
    let mut run = Run::new(policies, &request, deployment.ambiguous_paths, services, passed).map_err(Box::new)?;
    loop {
        match run.advance().await.map_err(Box::new)? {
            Progress::Passed => return Ok(Authorized::Passed(incoming)),
            Progress::Answered(response) => return Ok(Authorized::Answered(own_answer(context, deployment, response))),
            Progress::WantsBody { limit, mode } => {
                let mut body = ReadBody::of(incoming);
                let timeouts = &deployment.timeouts;
                let end = match mode {
                    Mode::Enforce => timeouts.total.map(|total| {
                        let end = Instant::from_std(context.started) + total;
                        (end, Reason::RequestTimeout)
                    }),
                    Mode::Shadow => Some((Instant::now() + SHADOW_BODY, Reason::PolicyTimeout)),
                };
                run.give(read(&mut body, limit, timeouts.idle, end).await?);
                incoming = Incoming::Read(body);
            }
        }
    }
}

fn own_answer(context: &RequestContext<'_>, deployment: &Deployment, response: Response<Bytes>) -> Response<Body> {
    let mut response = response.map(|bytes| Body::Own(Full::new(bytes)));
    response.headers_mut().insert(X_REQUEST_ID, context.request_id.clone());
    let traffic = &deployment.runtime.get().traffic;
    traffic.count_answer(response.status(), context.started.elapsed());
    context.client.clock.idle();
    response
}

/// The whole body, if it is no longer than `limit` and comes in time. What has been read of it is there in any case, and
/// the rest follows; of one that is broken nobody gets a part as if that were all.
async fn read(
    body: &mut ReadBody,
    limit: usize,
    idle: Option<Duration>,
    end: Option<(Instant, Reason)>,
) -> Result<Result<Bytes, Reason>, Reason> {
    let mut data = BytesMut::from(std::mem::take(&mut body.data));
    let read = loop {
        if body.rest.size_hint().lower().saturating_add(data.len() as u64) > limit as u64 {
            break Err(Reason::BodyTooLarge);
        }
        let idle = Instant::now() + idle.unwrap_or(KERNEL_LIMIT);
        let (until, late) = match end {
            Some((end, late)) if end < idle => (end, late),
            _ => (idle, Reason::RequestTimeout),
        };
        match timeout_at(until, body.rest.frame()).await {
            Err(_elapsed) => break Err(late),
            Ok(Some(frame)) => match frame.map_err(|_broken| Reason::BadRequest)?.into_data() {
                Ok(piece) => {
                    data.extend_from_slice(&piece);
                    if !body.held.grow(piece.len()) {
                        break Err(Reason::Overloaded);
                    }
                }
                Err(frame) => body.trailers = frame.into_trailers().ok(),
            },
            Ok(None) => {
                body.rest = Incoming::Empty;
                break Ok(());
            }
        }
    };
    body.data = data.freeze();
    Ok(read.map(|()| body.data.clone()))
}
