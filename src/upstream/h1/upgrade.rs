//! A connection that one upgrade has to itself: a 101 consumes it.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, response};
use hyper::body::Incoming as H1Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::pool::Lease;
use crate::body::incoming::Incoming;
use crate::body::request::ClientBody;
use crate::net::stream::Stream;
use crate::reason::Reason;
use crate::runtime::Traffic;
use crate::runtime::traffic::DialResult;
use crate::upstream::descriptor::Descriptor;
use crate::upstream::endpoint::Open;
use crate::upstream::error::SendError;
use crate::upstream::tls;

/// A fresh connection, driven by the request that uses it instead of a task of its own.
pub struct UpgradeConnection {
    sender: http1::SendRequest<ClientBody>,
    connection: http1::Connection<TokioIo<Stream>, ClientBody>,
    done: bool,
    open: Open,
}

/// The app's answer to an upgrade.
pub enum Upgraded {
    /// A 101 that the handshake agrees with: the connection is the app's half of a socket.
    Accepted {
        head: response::Parts,
        app: Stream,
        /// What the app sent right behind its 101.
        early: Bytes,
        open: Open,
    },
    /// Any other answer, body and all; its connection serves no other request.
    Refused(Response<Incoming>, Lease),
}

impl UpgradeConnection {
    /// Dials a connection of its own, with TLS where `tls` is given. `limit` bounds all of it; fails as the dial does,
    /// which `traffic` counts.
    pub async fn open(
        open: Open,
        address: SocketAddr,
        tls: Option<tls::Upstream<'_>>,
        limit: Duration,
        traffic: &Traffic,
        descriptor: Descriptor,
    ) -> Result<Self, DialResult> {
        let (sender, connection) = super::connect(address, tls, limit, traffic, descriptor).await?;
        Ok(Self {
            sender,
            connection,
            done: false,
            open,
        })
    }

    /// Sends an upgrade. A 101 is accepted only if `matches` says so of its header fields.
    pub async fn upgrade(
        mut self,
        request: Request<ClientBody>,
        matches: impl FnOnce(&HeaderMap) -> bool,
        traffic: &Arc<Traffic>,
    ) -> Result<Upgraded, SendError> {
        let response = self.answer(request).await.map_err(super::broken)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // Never put into the pool, so no matter how its TLS was set up.
            let mut lease = Lease::of(self.sender, self.connection, self.open, None, traffic);
            super::check(&response, &mut lease)?;
            lease.forbid_reuse();
            return Ok(Upgraded::Refused(response.map(Incoming::H1), lease));
        }
        if !matches(response.headers()) {
            return Err(SendError::Refused(Reason::BadUpstreamUpgrade));
        }
        self.finish().await;
        let parts = self.connection.into_parts();
        Ok(Upgraded::Accepted {
            head: response.into_parts().0,
            app: parts.io.into_inner(),
            early: parts.read_buf,
            open: self.open,
        })
    }

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
