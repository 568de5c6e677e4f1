//! How the client reaches a proxy: in plaintext, over TLS 1.3, or as streams of HTTP/2 over it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::ext::Protocol;
use http::{Method, Request};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::link::{Http2Stream, Link};
use super::wire::{self, Connection};

/// Sockets on one HTTP/2 connection.
pub const STREAMS: usize = 100;
/// So that the client never holds a proxy up.
const WINDOW: u32 = 1 << 24;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Over {
    Plain,
    /// Every handshake is a full one.
    Tls,
    /// Every handshake but a worker's first resumes a session.
    Resumed,
    Http2,
}

/// Has sessions of its own.
pub struct Dialler {
    target: SocketAddr,
    over: Over,
    tls: TlsConnector,
}

impl Dialler {
    /// `authority`: its PEM file.
    pub fn new(target: SocketAddr, over: Over, authority: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).context("the authority")?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![if over == Over::Http2 { "h2" } else { "http/1.1" }.into()];
        if over != Over::Resumed {
            config.resumption = Resumption::disabled();
        }
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { target, over, tls })
    }

    /// A connection of HTTP/1.1.
    pub async fn connect(&self, first: bool) -> anyhow::Result<Connection> {
        let tcp = TcpStream::connect(self.target).await.context("connect")?;
        if self.over == Over::Plain {
            return Ok(Connection::new(tcp)?);
        }
        let tls = self.handshake(tcp).await?;
        let resumed = tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        ensure!(
            resumed == (self.over == Over::Resumed && !first),
            "a handshake was of the other kind"
        );
        Ok(Connection::on(Link::Tls(Box::new(tls.into()))))
    }

    /// A connection of HTTP/2 that takes sockets.
    pub async fn http2(&self) -> anyhow::Result<SendRequest<Bytes>> {
        let tcp = TcpStream::connect(self.target).await.context("connect")?;
        let stream = self.handshake(tcp).await?;
        let mut builder = Builder::new();
        builder
            .initial_connection_window_size(WINDOW)
            .initial_window_size(WINDOW);
        let (send, connection) = builder.handshake(stream).await?;
        tokio::spawn(connection);
        let mut send = send.ready().await?;
        // The proxy's settings, which say that it takes sockets, are here with its first answer.
        let get = Request::get(format!("https://{}/", wire::HOST)).body(())?;
        let answer = send.send_request(get, true)?.0.await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        ensure!(send.is_extended_connect_protocol_enabled(), "no sockets over HTTP/2");
        Ok(send)
    }

    async fn handshake(&self, tcp: TcpStream) -> anyhow::Result<TlsStream<TcpStream>> {
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(wire::HOST)?;
        self.tls.connect(name, tcp).await.context("handshake")
    }
}

/// A WebSocket on a stream (RFC 8441).
pub async fn socket(on: &SendRequest<Bytes>) -> anyhow::Result<Connection> {
    let mut send = on.clone().ready().await?;
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://{}/socket", wire::HOST))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13");
    let (response, stream) = send.send_request(request.body(())?, false)?;
    let response = response.await?;
    ensure!(response.status() == 200, "{}", response.status());
    Ok(Connection::on(Link::Http2(Http2Stream::new(
        stream,
        response.into_body(),
    ))))
}
