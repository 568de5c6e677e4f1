//! The HTTP client for servers that are not apps: those that policies name, for keys (JWKS) and decisions (forwardAuth), and the
//! operator's OTLP collector. Policies are written by tenants, so the addresses that they may reach are checked here: `address`.

pub mod address;
mod connector;
mod lookup;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use tokio::time::{Instant, timeout_at};

use address::Rules;
use connector::Connector;

/// Below the keep-alive timeout of the servers at large: see `upstream::pool`.
const IDLE_LIMIT: Duration = Duration::from_secs(4);
const MAX_IDLE_PER_HOST: usize = 32;
/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

/// An HTTP/1.1 client that keeps connections for the next request and follows no redirect.
#[derive(Debug)]
pub struct Egress {
    rules: Arc<ArcSwap<Rules>>,
    checked: Client<Connector, Full<Bytes>>,
    unchecked: Client<Connector, Full<Bytes>>,
}

/// Who says where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The author of a policy: addresses that are not public are refused, unless the operator allows them.
    Tenant,
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

/// Why there is no answer. Told in logs and statuses, never to clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the URL is neither http:// nor https://")]
    Url,
    #[error("the hostname cannot be resolved")]
    Unresolved,
    #[error(
        "the hostname resolves to {0}, which is not public or is Postern's own: list it in --allow-egress to permit it"
    )]
    Refused(SocketAddr),
    #[error("cannot connect: {0}")]
    Unreachable(String),
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    #[error("no answer in time")]
    TimedOut,
    #[error("the response is longer than {0} bytes")]
    TooLong(usize),
    #[error("the connection broke: {0}")]
    Broken(String),
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
        let rules = Arc::new(ArcSwap::from_pointee(Rules { own, allowed }));
        Self {
            checked: client(Connector::new(Some(rules.clone()))),
            unchecked: client(Connector::new(None)),
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
        reach: Reach,
        request: Request<Full<Bytes>>,
        limits: Limits,
    ) -> Result<Response<Result<Bytes, Failure>>, Failure> {
        let client = match reach {
            Reach::Tenant => &self.checked,
            Reach::Operator => &self.unchecked,
        };
        exchange(client, request, limits).await
    }
}

fn client(connector: Connector) -> Client<Connector, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .http1_max_buf_size(MAX_HEAD)
        .http1_max_headers(MAX_HEADERS)
        .build(connector)
}

async fn exchange(
    client: &Client<Connector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
    limits: Limits,
) -> Result<Response<Result<Bytes, Failure>>, Failure> {
    let end = Instant::now() + limits.time;
    let answer = timeout_at(end, client.request(request)).await;
    let (head, body) = answer
        .map_err(|_elapsed| Failure::TimedOut)?
        .map_err(failure)?
        .into_parts();
    let body = match timeout_at(end, Limited::new(body, limits.body).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::TooLong(limits.body)),
        Ok(Err(error)) => Err(Failure::Broken(error.to_string())),
        Err(_elapsed) => Err(Failure::TimedOut),
    };
    Ok(Response::from_parts(head, body))
}

/// The connector's own word for it, where it was the connector's.
fn failure(error: hyper_util::client::legacy::Error) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut last = String::new();
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.clone();
        }
        last = error.to_string();
        cause = error.source();
    }
    Failure::Broken(last)
}

#[cfg(test)]
mod tests;
