//! A connection to an app as one request has it, in HTTP/1.1 or HTTP/2: where it comes from, and how a request is sent.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use http::{Request, Response};

use super::descriptor::Descriptor;
use super::endpoint::Open;
use super::error::SendError;
use super::h1::pool::Lease;
use super::h2::shared::StreamSlot;
use super::tls::{self, UpstreamTls};
use super::{Protocol, Upstream, h1, h2};
use crate::body::incoming::Incoming;
use crate::body::replayable::ReplayableBody;
use crate::runtime::Traffic;
use crate::runtime::traffic::DialResult;

pub use super::h1::upgrade::{UpgradeConnection, Upgraded};

/// What an answer holds of a connection until it ends. Dropping it gives the request up: the connection closes, or its stream
/// is reset.
#[derive(Debug)]
pub enum Connection {
    /// A whole HTTP/1.1 connection.
    H1(Lease),
    /// One stream of an HTTP/2 connection.
    H2(StreamSlot),
}

/// How the endpoints of one upstream are reached.
#[derive(Clone, Copy)]
pub struct Dialer<'a> {
    /// Whose endpoints they are.
    pub upstream: &'a Upstream,
    /// None in plaintext.
    pub tls: Option<&'a Arc<UpstreamTls>>,
    /// Counts dials and connections.
    pub traffic: &'a Arc<Traffic>,
}

impl<'a> Dialer<'a> {
    /// An open connection that can take a request at once.
    pub fn reuse(self, open: Open) -> Result<Connection, Open> {
        match self.upstream.protocol {
            Protocol::Http1 | Protocol::Https => Lease::reuse(open, self.tls, self.traffic).map(Connection::H1),
            Protocol::H2c => StreamSlot::reuse(open, self.traffic).map(Connection::H2),
        }
    }

    /// A new connection, within `limit`; or a slot on one in HTTP/2 that was opened meanwhile.
    pub async fn open(
        self,
        open: Open,
        address: SocketAddr,
        limit: Duration,
        descriptor: Descriptor,
    ) -> Result<Connection, DialResult> {
        match self.upstream.protocol {
            Protocol::Http1 | Protocol::Https => {
                let (sender, connection) = h1::connect(address, self.tls(), limit, self.traffic, descriptor).await?;
                let lease = Lease::of(sender, connection, open, self.tls, self.traffic);
                Ok(Connection::H1(lease))
            }
            Protocol::H2c => {
                let slot = StreamSlot::open(open, address, limit, self.traffic, descriptor).await?;
                Ok(Connection::H2(slot))
            }
        }
    }

    /// A new connection for an upgrade, within `limit`: always in HTTP/1.1.
    pub async fn open_for_upgrade(
        self,
        open: Open,
        address: SocketAddr,
        limit: Duration,
        descriptor: Descriptor,
    ) -> Result<UpgradeConnection, DialResult> {
        UpgradeConnection::open(open, address, self.tls(), limit, self.traffic, descriptor).await
    }

    fn tls(self) -> Option<tls::Upstream<'a>> {
        self.tls.map(|tls| tls::Upstream {
            tls,
            service: &self.upstream.key,
        })
    }
}

impl Connection {
    /// Whether it has served a request before: then it may have been on its way out.
    pub fn is_reused(&self) -> bool {
        match self {
            Self::H1(lease) => lease.reused,
            Self::H2(slot) => slot.reused,
        }
    }

    /// Whether other requests use it at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::H2(_))
    }

    /// Sends one request, and waits for the head of its answer. The body goes on its way while the answer comes.
    pub fn send(
        &mut self,
        request: Request<ReplayableBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, SendError>> {
        match self {
            Self::H1(lease) => Either::Left(h1::send(lease, request)),
            // Boxed: requests in HTTP/1.1 are not to pay for its size.
            Self::H2(slot) => Either::Right(Box::pin(h2::send(slot, request))),
        }
    }

    /// The answer has ended: the connection, or its stream's room, is free for another request.
    pub fn release(self) {
        match self {
            Self::H1(lease) => lease.release(),
            Self::H2(slot) => drop(slot),
        }
    }
}

impl From<Lease> for Connection {
    fn from(lease: Lease) -> Self {
        Self::H1(lease)
    }
}
