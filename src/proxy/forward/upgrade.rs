//! A WebSocket handshake with the app, on a connection of its own.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming as H1Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::errand::Errand;
use crate::body::request::ClientBody;
use crate::net::stream::Stream;
use crate::proxy::body::Body;
use crate::proxy::headers;
use crate::proxy::telling::Trail;
use crate::proxy::turn::Turn;
use crate::reason::Reason;
use crate::upstream::pool::Lease;
use crate::websocket::handshake::Handshake;
use crate::websocket::tunnel::Opening;

/// A WebSocket handshake, always on a connection of its own: a 101 consumes it.
pub async fn upgrade(
    errand: Errand<'_>,
    handshake: Handshake,
    turn: Option<Turn>,
    trail: &mut Trail,
) -> Result<Response<Body>, Reason> {
    let runtime = errand.deployment.runtime.get();
    // Not its own: another's place, should the first look at the head have found another Deployment.
    let turn = turn.filter(|turn| turn.is_in_line_of(&runtime.upgrades));
    // Past the bound they wait; what is left of the time is then for the app.
    let turn = match turn {
        Some(turn) => turn,
        None => Turn::of(errand.deployment).await,
    };
    let (deadline, waited) = (turn.deadline, turn.waited);
    let permit = turn.permit.ok_or(Reason::Overloaded)?;
    let (stream, open) = match errand.dial(&mut errand.attempts(deadline, trail)).await {
        // It was the wait that left no time to reach anyone.
        Err(Reason::Unreachable) if waited && deadline <= Instant::now() => return Err(Reason::Overloaded),
        dialled => dialled?,
    };
    let mut connection = match http1::handshake(TokioIo::new(stream)).await {
        Ok((sender, connection)) => Halves {
            sender,
            connection,
            done: false,
        },
        Err(_) => return Err(Reason::BadGateway),
    };
    let request = errand.request(ClientBody::none(), Some(&handshake), false);
    let answered = timeout_at(deadline, connection.answer(request)).await;
    let response = answered
        .map_err(|_elapsed| Reason::UpstreamTimeout)?
        .map_err(|_| Reason::BadGateway)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // The app's refusal passes as it is, body and all.
        let mut lease = Lease::of(
            connection.sender,
            connection.connection,
            open,
            errand.upstream_tls,
            &runtime.traffic,
        );
        lease.forbid_reuse();
        return errand.pass(response, lease, None);
    }
    if !handshake.is_accepted_by(response.headers()) {
        return Err(Reason::BadUpstreamUpgrade);
    }
    timeout_at(deadline, connection.finish())
        .await
        .map_err(|_elapsed| Reason::UpstreamTimeout)?;
    let parts = connection.connection.into_parts();
    // The 101 has to be taken by the client in good time too.
    errand.client.clock.switching();
    errand.client.open_socket(Opening {
        app: parts.io.into_inner(),
        early: parts.read_buf,
        socket: runtime.open_socket(open),
        permit,
    });
    let (mut head, _) = response.into_parts();
    headers::to_client(&mut head, errand.request_id);
    head.version = Version::HTTP_11;
    runtime.traffic.answered[0].fetch_add(1, Relaxed);
    Ok(Response::from_parts(head, Body::Own(Full::new(Bytes::new()))))
}

/// A connection that is driven by the request that uses it.
struct Halves {
    sender: http1::SendRequest<ClientBody>,
    connection: http1::Connection<TokioIo<Stream>, ClientBody>,
    done: bool,
}

impl Halves {
    async fn answer(&mut self, request: Request<ClientBody>) -> hyper::Result<Response<H1Incoming>> {
        let mut answer = pin!(self.sender.send_request(request));
        poll_fn(|cx| {
            if !self.done {
                // What ends it reaches the answer, as an error or as the 101.
                self.done = self.connection.poll_without_shutdown(cx).is_ready();
            }
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Until hyper lets go of the socket after a 101.
    async fn finish(&mut self) {
        poll_fn(|cx| {
            if !self.done {
                self.done = self.connection.poll_without_shutdown(cx).is_ready();
            }
            if self.done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
