//! The HTTP client for servers that are not apps: those that policies name, for keys (JWKS) and decisions (forwardAuth), and the
//! operator's OTLP collector. Policies are written by tenants, so the addresses that they may reach are checked here: `address`;
//! and what they may hold up is their own: `tenants`.

pub mod address;
mod connector;
mod failure;
mod lookup;
mod tenants;

pub use failure::Failure;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use tokio::time::{Instant, timeout_at};

use crate::runtime::shares::Shares;
use crate::runtime::turns::Turns;
use address::Rules;
use connector::{Connector, Shared};
use tenants::Tenants;

/// Below the keep-alive timeout of the servers at large: see `upstream::pool`.
const IDLE_LIMIT: Duration = Duration::from_secs(4);
const MAX_IDLE_PER_HOST: usize = 32;
/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;
/// Answers that are fetched ahead of need at once, and for one namespace. One that hangs takes its place until its deadline.
const FETCHES: usize = 128;
const FETCHES_OF_NAMESPACE: usize = 4;

/// An HTTP/1.1 client that keeps connections for the next request and follows no redirect.
#[derive(Debug)]
pub struct Egress {
    rules: Arc<ArcSwap<Rules>>,
    tenants: Tenants,
    operator: Client,
    /// For what is fetched ahead of need, which nobody's request bounds: JWKS.
    pub fetches: Turns,
}

type Client = legacy::Client<Connector, Full<Bytes>>;

/// Who says where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// The author of a policy in this namespace: addresses that are not public are refused, unless the operator allows them.
    Tenant(&'a Arc<str>),
    /// The operator's settings, or compile, which gives addresses of endpoints alone: any address.
    Operator,
}

/// What an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the name's resolution to the body's last byte.
    pub time: Duration,
    /// Bytes of the body.
    pub body: usize,
}

/// To nowhere but the world outside.
impl Default for Egress {
    fn default() -> Self {
        Self::new(BTreeSet::new(), Box::default())
    }
}

impl Egress {
    /// `own`: our own listeners.
    pub fn new(own: BTreeSet<SocketAddr>, allowed: Box<[IpNet]>) -> Self {
        Self::within(Shares::default(), own, allowed)
    }

    /// The same, where namespaces have shares of the descriptors.
    pub fn within(descriptors: Shares<Arc<str>>, own: BTreeSet<SocketAddr>, allowed: Box<[IpNet]>) -> Self {
        let rules = Arc::new(ArcSwap::from_pointee(Rules { own, allowed }));
        Self {
            tenants: Tenants::new(rules.clone(), descriptors),
            operator: client(Connector::new(None, Arc::default(), Shared::new(Shares::default()))),
            fetches: Turns::with_share(FETCHES, FETCHES_OF_NAMESPACE),
            rules,
        }
    }

    /// From the next connection on.
    pub fn allow(&self, networks: &[IpNet]) {
        let rules = self.rules.load();
        if *rules.allowed != *networks {
            self.rules.store(Arc::new(Rules {
                own: rules.own.clone(),
                allowed: networks.into(),
            }));
        }
    }

    /// An answer whose body fails is an answer still: its status was said.
    pub async fn send(
        &self,
        reach: Reach<'_>,
        request: Request<Full<Bytes>>,
        limits: Limits,
    ) -> Result<Response<Result<Bytes, Failure>>, Failure> {
        match reach {
            Reach::Tenant(namespace) => exchange(&self.tenants.client(namespace), request, limits).await,
            Reach::Operator => exchange(&self.operator, request, limits).await,
        }
    }
}

fn client(connector: Connector) -> Client {
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .http1_max_buf_size(MAX_HEAD)
        .http1_max_headers(MAX_HEADERS)
        .build(connector)
}

async fn exchange(
    client: &Client,
    request: Request<Full<Bytes>>,
    limits: Limits,
) -> Result<Response<Result<Bytes, Failure>>, Failure> {
    let end = Instant::now() + limits.time;
    let answer = timeout_at(end, client.request(request)).await;
    let (head, body) = answer
        .map_err(|_elapsed| Failure::TimedOut)?
        .map_err(Failure::of)?
        .into_parts();
    let body = match timeout_at(end, Limited::new(body, limits.body).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::TooLong(limits.body)),
        Ok(Err(error)) => Err(Failure::Broken(error.to_string())),
        Err(_elapsed) => Err(Failure::TimedOut),
    };
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests;
