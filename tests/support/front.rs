//! Postern as clients of one transport meet it: the same facts hold in plaintext, over TLS and over HTTP/2, so that a test
//! is written once.

use std::net::SocketAddr;

use http::Method;
use tokio::net::TcpStream;

use super::certs::Authority;
use super::head::Head;
use super::http2::Http2;
use super::postern::Postern;
use super::site::Site;
use super::tls::Client;
use super::wire::{Answer, Wire, narrow};
use super::within;
use super::ws::{ACCEPT, handshake};

/// How clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP/1.1 on the plaintext port.
    Plain,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS, each socket on a connection of its own.
    Http2,
}

/// A running Postern, with a certificate for each of its sites where it is met over TLS.
pub struct Front {
    pub postern: Postern,
    pub authority: Authority,
    over: Transport,
    client: Client,
}

impl Front {
    pub async fn start(over: Transport, sites: &[Site]) -> Self {
        Self::start_with(over, sites, &[]).await
    }

    /// With more flags of `run`.
    pub async fn start_with(over: Transport, sites: &[Site], flags: &[&str]) -> Self {
        let authority = Authority::new("the test's authority");
        let sites: Vec<_> = sites
            .iter()
            .map(|site| match over {
                Transport::Plain => site.clone(),
                Transport::Tls | Transport::Http2 => site.clone().tls(&authority.server(&site.hostnames())),
            })
            .collect();
        let client = Client::of(&authority).offering(match over {
            Transport::Plain | Transport::Tls => &["http/1.1"],
            Transport::Http2 => &["h2", "http/1.1"],
        });
        let postern = Postern::start_with(&sites, flags).await;
        Self {
            postern,
            authority,
            over,
            client,
        }
    }

    /// What X-Forwarded-Proto says of such clients.
    pub fn scheme(&self) -> &'static str {
        match self.over {
            Transport::Plain => "http",
            Transport::Tls | Transport::Http2 => "https",
        }
    }

    /// Where such clients connect.
    pub fn address(&self) -> SocketAddr {
        match self.over {
            Transport::Plain => self.postern.http,
            Transport::Tls | Transport::Http2 => self.postern.https,
        }
    }

    /// A connection that speaks HTTP/1.1 to that host.
    pub async fn wire(&self, host: &str) -> Wire {
        let tcp = within("connect", TcpStream::connect(self.address())).await;
        self.wire_on(tcp.expect("connects"), host).await
    }

    async fn wire_on(&self, tcp: TcpStream, host: &str) -> Wire {
        match self.over {
            Transport::Plain => Wire::new(tcp),
            Transport::Tls => {
                tcp.set_nodelay(true).expect("sets TCP_NODELAY");
                Wire::tls(self.client.handshake(tcp, name(host)).await.expect("a handshake"))
            }
            Transport::Http2 => panic!("speaks HTTP/2"),
        }
    }

    pub async fn get(&self, host: &str, target: &str) -> Answer {
        self.ask(Method::GET, host, target, "", b"").await
    }

    /// A request with more header lines (each with its CRLF) and a body.
    pub async fn ask(&self, method: Method, host: &str, target: &str, more: &str, body: &[u8]) -> Answer {
        if self.over == Transport::Http2 {
            let connection = Http2::connect(&self.client, self.address(), name(host)).await;
            return connection
                .ask(connection.request(method, host, target, more), body)
                .await;
        }
        let mut wire = self.wire(host).await;
        let length = match body {
            [] => String::new(),
            body => format!("Content-Length: {}\r\n", body.len()),
        };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}{more}\r\n");
        wire.try_send([head.as_bytes(), body].concat()).await;
        wire.answer().await
    }

    /// A WebSocket handshake with more header lines (each with its CRLF): the socket, or the refusal.
    pub async fn upgrade(&self, host: &str, target: &str, more: &str) -> Result<(Head, Wire), Answer> {
        let tcp = within("connect", TcpStream::connect(self.address())).await;
        self.upgrade_on(tcp.expect("connects"), host, target, more).await
    }

    async fn upgrade_on(&self, tcp: TcpStream, host: &str, target: &str, more: &str) -> Result<(Head, Wire), Answer> {
        if self.over == Transport::Http2 {
            let connection = Http2::over(&self.client, tcp, name(host)).await;
            return connection.upgrade(host, target, more).await;
        }
        let mut wire = self.wire_on(tcp, host).await;
        wire.try_send(handshake(host, target, more)).await;
        let head = wire.head().await;
        if head.status() == 101 {
            assert_eq!(head.get("sec-websocket-accept"), Some(ACCEPT));
            return Ok((head, wire));
        }
        let (body, trailers) = wire.body(&head).await;
        Err(Answer { head, body, trailers })
    }

    /// Opens a socket by hand: what goes over it is the test's.
    pub async fn open(&self, host: &str, target: &str) -> Wire {
        match self.upgrade(host, target, "").await {
            Ok((_, wire)) => wire,
            Err(refused) => panic!("{refused:?}"),
        }
    }

    /// With a receive buffer so small that backpressure shows at once.
    pub async fn open_narrow(&self, host: &str, target: &str) -> Wire {
        let tcp = narrow(self.address()).await;
        match self.upgrade_on(tcp, host, target, "").await {
            Ok((_, wire)) => wire,
            Err(refused) => panic!("{refused:?}"),
        }
    }
}

/// A host without its port and trailing dot, as SNI has it.
fn name(host: &str) -> &str {
    host.split(':').next().unwrap_or(host).trim_end_matches('.')
}
