//! Attempts to have a request answered by the app. The next endpoint is tried only while no byte of the request has left;
//! with one exception, on a reused connection that ended without a byte of an answer.

pub mod errand;
mod h2c;
pub mod upgrade;

use http::{Response, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use super::body::Body;
use super::telling::Trail;
use crate::body::incoming::Incoming;
use crate::body::request::ClientBody;
use crate::reason::Reason;
use crate::upstream::Protocol;
use crate::upstream::dial::KERNEL_LIMIT;
use errand::{Errand, Failed, hold, open_on_continue};

/// A plain request.
pub async fn plain(errand: Errand<'_>, incoming: Incoming, trail: &mut Trail) -> Result<Response<Body>, Reason> {
    if errand.upstream.protocol == Protocol::H2c {
        // Boxed: requests in HTTP/1.1 are not to pay for its size.
        return Box::pin(h2c::plain(errand, incoming, trail)).await;
    }
    let timeouts = &errand.deployment.timeouts;
    let end = timeouts.total.map(|total| Instant::from_std(errand.started) + total);
    let (opener, hold) = hold(errand.head, &incoming);
    let body = ClientBody::new(incoming, timeouts.idle, end, hold);
    trail.sent = Some(body.sent());
    // RFC 9110 section 9.2.2.
    let repeatable = errand.head.method.is_idempotent() && body.is_end_stream();
    let mut request = errand.request(body, None, opener.is_some());
    if let Some(opener) = opener {
        open_on_continue(&mut request, opener);
    }
    let mut attempts = errand.attempts(Instant::now() + KERNEL_LIMIT, trail);
    let mut lease = errand.lease(&mut attempts, true).await?;
    let response = loop {
        match errand.send(&mut lease, request, end).await {
            Ok(response) => break response,
            Err(Failed::Unsent(unsent)) => request = *unsent,
            Err(Failed::Unanswered) if lease.reused && repeatable => {
                request = errand.request(ClientBody::none(), None, false);
            }
            Err(Failed::Unanswered) => return Err(Reason::BadGateway),
            Err(Failed::Refused(reason)) => return Err(reason),
        }
        lease = errand.lease(&mut attempts, false).await?;
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Reason::BadUpstreamUpgrade);
    }
    errand.pass(response, lease, end)
}
