//! Attempts to have a request answered by the app, over whatever it speaks. The next connection or endpoint is tried only
//! where the app is known not to have acted on the request; with one exception, on a reused connection that ended without a
//! byte of an answer.

mod attempts;
mod message;
mod upgrade;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Response, header};
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::body::Body;
use super::client::Client;
use super::client_origin::ClientOrigin;
use super::request_log::Attempted;
use super::target::Target;
use crate::body::clock::COARSE;
use crate::body::incoming::Incoming;
use crate::body::replayable::ReplayableBody;
use crate::body::request::{ClientBody, Hold, Sent};
use crate::fields::list::has_token;
use crate::policy::Passed;
use crate::reason::Reason;
use crate::snapshot::Deployment;
use crate::telemetry::traces::Scope;
use crate::upstream::Upstream;
use crate::upstream::dial::KERNEL_LIMIT;
use crate::upstream::error::SendError;
use crate::upstream::tls::UpstreamTls;

/// How long an app's 100 is waited for before a client's body is sent all the same (RFC 9110 section 10.1.1).
const EXPECT_LIMIT: Duration = Duration::from_secs(1);

/// One request on its way to the app.
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    /// Who is to be answered.
    pub client: &'a Arc<Client>,
    /// Whose timeouts and counters hold.
    pub deployment: &'a Arc<Deployment>,
    /// Where endpoints are chosen from.
    pub upstream: &'a Arc<Upstream>,
    /// Where the upstream speaks TLS.
    pub upstream_tls: Option<&'a Arc<UpstreamTls>>,
    /// The client's, as it came.
    pub head: &'a Parts,
    /// Checked host and path.
    pub target: &'a Target,
    /// What the app is told of the client.
    pub origin: &'a ClientOrigin<'a>,
    /// What the app and the logs are told.
    pub request_id: &'a HeaderValue,
    /// The request's place in a trace; None: there is no collector.
    pub scope: Option<&'a Scope>,
    /// What the rules before the app say to it.
    pub passed: Option<&'a Passed>,
    /// When the head had come; the total timeout runs from here.
    pub started: std::time::Instant,
}

impl Forward<'_> {
    /// Has a plain request answered: every request but an upgrade.
    pub async fn plain(self, incoming: Incoming, attempted: &mut Attempted) -> Result<Response<Body>, Reason> {
        let timeouts = &self.deployment.timeouts;
        let end = timeouts.total.map(|total| Instant::from_std(self.started) + total);
        let (opener, hold) = hold(self.head, &incoming);
        let body = ClientBody::new(incoming, timeouts.idle, end, hold);
        attempted.sent = Some(body.sent());
        // RFC 9110 section 9.2.2.
        let mut repeatable = self.head.method.is_idempotent() && body.is_end_stream();
        let mut body = ReplayableBody::new(body, opener);
        let mut attempts = self.attempts(Instant::now() + KERNEL_LIMIT, attempted);
        loop {
            let mut connection = self.connect(&mut attempts).await?;
            let (sent, expect) = (body.sent(), body.opener.is_some());
            let request = self.request(body, None, expect);
            let answered = self.in_time(connection.send(request), &sent, end).await;
            body = match answered.ok_or(Reason::UpstreamTimeout)? {
                Ok(response) => return Ok(self.respond(response, connection, end)),
                Err(error) => {
                    let repeatable = connection.is_reused() && std::mem::take(&mut repeatable);
                    self.blame(error, &sent, repeatable)?
                }
            };
            attempts.again(connection.is_shared())?;
        }
    }

    /// What may be sent once more after a failure, else whose fault it is.
    fn blame(&self, error: SendError, sent: &Sent, repeatable: bool) -> Result<ReplayableBody, Reason> {
        if let SendError::Refused(reason) = error {
            return Err(reason);
        }
        if let Some(fault) = sent.fault() {
            return Err(fault.reason());
        }
        tracing::debug!(deployment = %self.deployment.id.key, %error, "no answer from the app");
        match error {
            SendError::Unsent { body, .. } => Ok(*body),
            SendError::Unanswered(_) if repeatable => Ok(ReplayableBody::none()),
            SendError::Unanswered(_) | SendError::Malformed(_) => Err(Reason::BadGateway),
            SendError::Refused(reason) => Err(reason),
        }
    }

    /// Waits for an answer's head as long as `timeouts` allow.
    async fn in_time<F: Future>(&self, answer: F, sent: &Sent, end: Option<Instant>) -> Option<F::Output> {
        let mut answer = pin!(answer);
        let limit = self.deployment.timeouts.response;
        let mut frames = sent.frames.load(Relaxed);
        loop {
            let due = [limit.map(|limit| Instant::now() + limit), end]
                .into_iter()
                .flatten()
                .min();
            let answered = match due {
                Some(due) if due < Instant::now() + COARSE => timeout_at(due, answer.as_mut()).await.ok(),
                Some(due) => self.client.clock.until(due.into_std(), answer.as_mut()).await,
                None => Some(answer.as_mut().await),
            };
            // The answer is due once the whole request is there; an upload that moves may go on.
            let moves = end.is_none_or(|end| end > Instant::now()) && sent.frames.load(Relaxed) > frames;
            if answered.is_some() || !moves {
                return answered;
            }
            frames = sent.frames.load(Relaxed);
        }
    }
}

/// With `Expect: 100-continue`, what lets the client's body go and what holds it back.
fn hold(head: &Parts, incoming: &Incoming) -> (Option<oneshot::Sender<()>>, Hold) {
    if incoming.is_end_stream() || !has_token(&head.headers, header::EXPECT, "100-continue") {
        return (None, Hold::Free);
    }
    let (opener, gate) = oneshot::channel();
    (Some(opener), Hold::Waiting(Box::pin(timeout(EXPECT_LIMIT, gate))))
}
