//! How the client reaches a proxy: in plaintext, over TLS 1.3, or by streams of HTTP/2 over that. All TLS is alike: one
//! cipher suite, one group, one authority, so that every proxy does the same work.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::ext::Protocol;
use http::{Method, Request, Version};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::link::{Http2Stream, Link};
use super::wire::{self, Connection};

/// How many sockets share an HTTP/2 connection.
pub const STREAMS: usize = 100;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Transport {
    Plain,
    Tls {
        /// Who vouches for the proxy, as PEM.
        authority: String,
    },
    Http2 {
        authority: String,
    },
}

/// Makes connections. Each has tickets of its own, if any.
pub struct Dialer {
    target: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Dialer {
    pub fn new(target: SocketAddr, transport: &Transport, resuming: bool) -> anyhow::Result<Self> {
        let tls = match transport {
            Transport::Plain => None,
            Transport::Tls { authority } => Some(config(authority, b"http/1.1", resuming)?.into()),
            Transport::Http2 { authority } => Some(config(authority, b"h2", resuming)?.into()),
        };
        Ok(Self { target, tls })
    }

    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let tcp = self.tcp().await?;
        match &self.tls {
            None => Ok(Connection::on(Link::Tcp(tcp))),
            Some(tls) => Ok(Connection::on(Link::Tls(Box::new(handshake(tls, tcp).await?.into())))),
        }
    }

    /// The next connection shows whether the last one's tickets were any good.
    pub async fn connect_expecting(&self, kind: HandshakeKind) -> anyhow::Result<Connection> {
        let tls = self.tls.as_ref().context("a handshake without TLS")?;
        let stream = handshake(tls, self.tcp().await?).await?;
        let was = stream.get_ref().1.handshake_kind();
        ensure!(was == Some(kind), "expected a handshake of kind {kind:?}, got {was:?}");
        Ok(Connection::on(Link::Tls(Box::new(stream.into()))))
    }

    /// One HTTP/2 connection, and so many sockets on it (RFC 8441).
    pub async fn sockets(&self, count: usize) -> anyhow::Result<Vec<Connection>> {
        let tls = self.tls.as_ref().context("HTTP/2 without TLS")?;
        let stream = handshake(tls, self.tcp().await?).await?;
        let (mut send, connection) = client::handshake(stream).await?;
        tokio::spawn(connection);
        // The answer comes after the settings, and these say whether sockets are offered.
        get(&mut send).await?;
        ensure!(send.is_extended_connect_protocol_enabled(), "no sockets over HTTP/2");
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            sockets.push(Connection::on(Link::Http2(socket(&mut send).await?)));
        }
        Ok(sockets)
    }

    async fn tcp(&self) -> anyhow::Result<TcpStream> {
        let tcp = TcpStream::connect(self.target).await.context("connect")?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }
}

fn config(authority: &str, protocol: &[u8], resuming: bool) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let provider = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = if resuming {
        Resumption::in_memory_sessions(8)
    } else {
        Resumption::disabled()
    };
    Ok(config.into())
}

async fn handshake(tls: &TlsConnector, tcp: TcpStream) -> anyhow::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(wire::HOST)?;
    tls.connect(name, tcp).await.context("TLS handshake")
}

async fn get(send: &mut SendRequest<Bytes>) -> anyhow::Result<()> {
    let request = Request::get(format!("https://{}/", wire::HOST)).version(Version::HTTP_2);
    *send = send.clone().ready().await?;
    let answer = send.send_request(request.body(())?, true)?.0.await?;
    ensure!(answer.status() == 200, "expected 200, got {}", answer.status());
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    Ok(())
}

async fn socket(send: &mut SendRequest<Bytes>) -> anyhow::Result<Http2Stream> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(format!("https://{}/socket", wire::HOST))
        .header("user-agent", "bench")
        .header("sec-websocket-version", "13")
        .body(())?;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    *send = send.clone().ready().await?;
    let (answer, stream) = send.send_request(request, false)?;
    let answer = answer.await?;
    ensure!(answer.status() == 200, "expected 200, got {}", answer.status());
    Ok(Http2Stream::new(stream, answer.into_body()))
}
