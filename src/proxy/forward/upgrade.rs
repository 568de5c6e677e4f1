//! A WebSocket handshake with the app, on a connection of its own.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::{Response, Version};
use http_body_util::Full;
use tokio::time::{Instant, timeout_at};

use super::Forward;
use super::attempts::Attempt;
use crate::body::request::ClientBody;
use crate::policy::Refusal;
use crate::proxy::body::Body;
use crate::proxy::headers;
use crate::proxy::permit::UpgradePermit;
use crate::proxy::request_log::Attempted;
use crate::reason::Reason;
use crate::upstream::connection::Upgraded;
use crate::upstream::dial::KERNEL_LIMIT;
use crate::upstream::error::SendError;
use crate::websocket::handshake::Handshake;
use crate::websocket::tunnel::Opening;

impl Forward<'_> {
    /// Has an upgrade answered, always on a connection of its own: a 101 consumes it.
    pub async fn upgrade(
        self,
        handshake: Handshake,
        permit: Option<UpgradePermit>,
        attempted: &mut Attempted,
    ) -> Result<Response<Body>, Box<Refusal>> {
        let runtime = self.deployment.runtime.get();
        let permit = match permit.filter(|permit| permit.is_of(self.deployment)) {
            Some(permit) => Some(permit),
            None => UpgradePermit::of(self.deployment, &self.client.proxy.state).await,
        };
        let permit = permit.ok_or(Reason::Overloaded)?;
        // Time in line is not the app's.
        let deadline = Instant::now() + self.deployment.timeouts.handshake.unwrap_or(KERNEL_LIMIT);
        let dialer = self.dialer();
        let dial = |attempt: Attempt| {
            dialer.open_for_upgrade(attempt.open, attempt.address, attempt.limit, attempt.descriptor)
        };
        let connection = self.dial(&mut self.attempts(deadline, attempted), dial).await?;
        let request = self.request(ClientBody::none(), Some(&handshake), false);
        let answering = connection.upgrade(request, |fields| handshake.is_accepted_by(fields), &runtime.traffic);
        let answered = timeout_at(deadline, answering).await;
        let upgraded = answered.map_err(|_elapsed| self.late())?.map_err(|error| match error {
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
        let (app, held) = app.into_parts();
        self.client.open_socket(Opening {
            app,
            early,
            socket: runtime.open_socket(open, held),
            permit: Box::new(permit),
        });
        headers::to_client(&mut head, self.request_id);
        head.version = Version::HTTP_11;
        runtime.traffic.answered[0].fetch_add(1, Relaxed);
        Ok(Response::from_parts(head, Body::Own(Full::new(Bytes::new()))))
    }

    fn late(&self) -> Box<Refusal> {
        let limit = self.deployment.timeouts.handshake.unwrap_or(KERNEL_LIMIT).as_secs_f32();
        Box::new(Refusal {
            detail: Some(format!(
                "The app did not answer the WebSocket handshake within {limit} s (webSocket.handshakeTimeout)."
            )),
            ..Reason::UpstreamTimeout.into()
        })
    }
}
