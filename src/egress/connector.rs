//! From a URL to a connection: resolve, check, connect to what was checked, and speak TLS where the URL says so.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::address::Rules;
use super::failure::Failure;
use super::lookup::{self, Lookups};
use crate::net::socket;
use crate::net::stream::Stream;
use crate::runtime::shares::Shares;
use crate::runtime::turns::Turns;
use crate::tls::client_config;
use crate::tls::roots::system_roots;

/// The most addresses of one name that are tried. An unreachable one must not take the time of the next.
const MAX_ADDRESSES: usize = 8;
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(1);
/// For all of it. Who asked may have gone by then: the client lets a connection be made, for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Resolves, checks, dials and encrypts, for the HTTP client.
#[derive(Clone, Debug)]
pub struct Connector {
    /// None: the URL's host is an address that was allowed before, or the operator's own.
    rules: Option<Arc<ArcSwap<Rules>>>,
    namespace: Arc<str>,
    lookups: Lookups,
    shared: Shared,
}

/// What the connectors of all namespaces have in common.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Those that look names up.
    threads: Turns,
    /// For connections, by namespace: the same that those to apps have.
    descriptors: Shares<Arc<str>>,
    /// Made when it is first needed: it holds all of the system's authorities.
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

/// What the client asks of a connection.
#[derive(Debug)]
pub struct Link(TokioIo<Stream>);

impl Connector {
    /// `rules` are those of tenants; None: every address may be dialled.
    pub fn new(rules: Option<Arc<ArcSwap<Rules>>>, namespace: Arc<str>, shared: Shared) -> Self {
        Self {
            rules,
            lookups: Lookups::new(namespace.clone(), shared.threads.clone()),
            namespace,
            shared,
        }
    }

    async fn connect(self, url: Uri) -> Result<Link, Failure> {
        let secure = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(Failure::Url),
        };
        let host = url.host().ok_or(Failure::Url)?;
        // An IPv6 address stands in brackets (RFC 3986 section 3.2.2).
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = self.allowed(host, port).await?;
        let descriptor = self.shared.descriptors.take(self.namespace.clone(), 1);
        let descriptor = descriptor.ok_or(Failure::NoDescriptors)?;
        let stream = tcp(&addresses).await?;
        let mut stream = if secure {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| Failure::Url)?;
            let connector = TlsConnector::from(self.tls_config()?);
            let secured = connector.connect(name, stream).await;
            Stream::tls(secured.map_err(|error| Failure::Tls(error.to_string()))?.into())
        } else {
            Stream::plain(stream)
        };
        stream.hold(descriptor);
        Ok(Link(TokioIo::new(stream)))
    }

    /// Where the host is, as far as it may be gone to; at least one address.
    async fn allowed(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let found = self.lookups.find(host).await;
        let rules = self.rules.as_ref().map(|rules| rules.load_full());
        let may = |address: &SocketAddr| rules.as_ref().is_none_or(|rules| rules.allow(*address));
        let found = found.iter().map(|found| {
            let mut address = *found;
            address.set_port(port);
            address
        });
        let (allowed, refused): (Vec<_>, Vec<_>) = found.partition(may);
        match (allowed.is_empty(), refused.first()) {
            (false, _) => Ok(allowed),
            (true, Some(refused)) => Err(Failure::Refused(*refused)),
            (true, None) => Err(Failure::Unresolved),
        }
    }

    fn tls_config(&self) -> Result<Arc<ClientConfig>, Failure> {
        let tls = &self.shared.tls;
        if let Some(config) = tls.get() {
            return Ok(config.clone());
        }
        let made = client_config(system_roots(), None).map_err(|error| Failure::Tls(error.to_string()))?;
        Ok(tls.get_or_init(|| Arc::new(made)).clone())
    }
}

impl Shared {
    /// Nothing is taken yet.
    pub fn new(descriptors: Shares<Arc<str>>) -> Self {
        Self {
            descriptors,
            threads: lookup::threads(),
            tls: Arc::default(),
        }
    }
}

async fn tcp(addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let mut last = Failure::Unresolved;
    for address in addresses.iter().take(MAX_ADDRESSES) {
        let connected = async { socket::dialing_socket(*address)?.connect(*address).await };
        match timeout(ADDRESS_TIMEOUT, connected).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Failure::Unreachable(error.to_string()),
            Err(_elapsed) => last = Failure::Unreachable("no answer in time".to_owned()),
        }
    }
    Err(last)
}

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Link, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connecting = timeout(CONNECT_TIMEOUT, self.clone().connect(url));
        Box::pin(async { connecting.await.unwrap_or(Err(Failure::TimedOut)) })
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
