//! A WebSocket handshake with the app, on a connection of its own.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::{Response, Version};
use http_body_util::Full;
use tokio::time::{Instant, timeout_at};

use super::Forward;
use super::attempts::Attempt;
use crate::body::request::ClientBody;
use crate::proxy::body::Body;
use crate::proxy::headers;
use crate::proxy::permit::UpgradePermit;
use crate::proxy::request_log::Attempted;
use crate::reason::Reason;
use crate::upstream::connection::Upgraded;
use crate::upstream::error::SendError;
use crate::websocket::handshake::Handshake;
use crate::websocket::tunnel::Opening;

impl Forward<'_> {
    /// Has an upgrade answered, always on a connection of its own: a 101 consumes it.
    pub async fn upgrade(
        self,
        handshake: Handshake,
        turn: Option<UpgradePermit>,
        attempted: &mut Attempted,
    ) -> Result<Response<Body>, Reason> {
        let runtime = self.deployment.runtime.get();
        // A permit of another Deployment is of no use: the routes may have changed since the head was peeked at.
        let turn = turn.filter(|turn| turn.is_in_line_of(&runtime.upgrades));
        // Past the bound they wait; what is left of the time is then for the app.
        let turn = match turn {
            Some(turn) => turn,
            None => UpgradePermit::of(self.deployment).await,
        };
        let (deadline, waited) = (turn.deadline, turn.waited);
        let permit = turn.permit.ok_or(Reason::Overloaded)?;
        let dialer = self.dialer();
        let dial = |Attempt { address, open, limit }| dialer.open_for_upgrade(open, address, limit);
        let connection = match self.dial(&mut self.attempts(deadline, attempted), dial).await {
            // It was the wait that left no time to reach anyone.
            Err(Reason::Unreachable) if waited && deadline <= Instant::now() => return Err(Reason::Overloaded),
            dialled => dialled?,
        };
        let request = self.request(ClientBody::none(), Some(&handshake), false);
        let answering = connection.upgrade(request, |fields| handshake.is_accepted_by(fields), &runtime.traffic);
        let answered = timeout_at(deadline, answering).await;
        let upgraded = answered
            .map_err(|_elapsed| Reason::UpstreamTimeout)?
            .map_err(|error| match error {
                SendError::Refused(reason) => reason,
                _ => Reason::BadGateway,
            })?;
        let (mut head, app, early, open) = match upgraded {
            Upgraded::Accepted { head, app, early, open } => (head, app, early, open),
            // The app's refusal passes as it is, body and all.
            Upgraded::Refused(response, lease) => return Ok(self.respond(response, lease.into(), None)),
        };
        // The 101 has to be taken by the client in good time too.
        self.client.clock.switching();
        self.client.open_socket(Opening {
            app,
            early,
            socket: runtime.open_socket(open),
            permit,
        });
        headers::to_client(&mut head, self.request_id);
        head.version = Version::HTTP_11;
        runtime.traffic.answered[0].fetch_add(1, Relaxed);
        Ok(Response::from_parts(head, Body::Own(Full::new(Bytes::new()))))
    }
}
