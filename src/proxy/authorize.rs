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
use crate::runtime::shares::Share;
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
    let run = Run::begin(policies, &request, deployment.ambiguous_paths, services, passed).await;
    let mut run = run.map_err(Box::new)?;
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
                let reading = Reading {
                    limit,
                    idle: timeouts.idle,
                    end,
                    room: client.proxy.state.bodies.none_of(deployment.id.namespace().clone()),
                };
                run.give(reading.read(&mut body).await?);
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

/// How a rule has a body read.
struct Reading {
    limit: usize,
    /// The longest pause.
    idle: Option<Duration>,
    /// Until when all of it must be there, and what it is otherwise.
    end: Option<(Instant, Reason)>,
    room: Share<Arc<str>>,
}

impl Reading {
    /// The whole body, if it is no longer than the limit and comes in time. What has been read of it is there in any case, and
    /// the rest follows; of one that is broken nobody gets a part as if that were all.
    async fn read(mut self, body: &mut ReadBody) -> Result<Result<Bytes, Reason>, Reason> {
        let mut data = BytesMut::from(std::mem::take(&mut body.data));
        let mut slow = Instant::now() + PATIENCE;
        let read = loop {
            if body.rest.size_hint().lower().saturating_add(data.len() as u64) > self.limit as u64 {
                break Err(Reason::BodyTooLarge);
            }
            let idle = Instant::now() + self.idle.unwrap_or(KERNEL_LIMIT);
            let until = idle.min(slow);
            let (until, late) = match self.end {
                Some((end, late)) if end < until => (end, late),
                _ => (until, Reason::RequestTimeout),
            };
            match timeout_at(until, body.rest.frame()).await {
                Err(_elapsed) => break Err(late),
                Ok(Some(frame)) => match frame.map_err(|_broken| Reason::BadRequest)?.into_data() {
                    Ok(piece) => {
                        if !self.room.grow(piece.len()) {
                            break Err(Reason::Overloaded);
                        }
                        data.extend_from_slice(&piece);
                        let earned = Duration::from_secs_f64(piece.len() as f64 / LEAST_SPEED as f64);
                        slow = (slow + earned).min(Instant::now() + PATIENCE);
                    }
                    Err(frame) => body.trailers = frame.into_trailers().ok(),
                },
                Ok(None) => {
                    body.rest = Incoming::Empty;
                    break Ok(());
                }
            }
        };
        body.data = Bytes::from_owner(Kept {
            data: data.freeze(),
            _room: self.room,
        });
        Ok(read.map(|()| body.data.clone()))
    }
}

/// What was read, with the room that it takes up: given back when the last of it has left.
struct Kept {
    data: Bytes,
    _room: Share<Arc<str>>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Bytes per second of a body that a rule waits for, once it has been slower for `PATIENCE`: it takes room from others.
const LEAST_SPEED: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(10);
