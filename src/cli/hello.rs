//! `postern hello URL`: one WebSocket message to an app that echoes, and its answer back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use http::Uri;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::terminal::Terminal;
use crate::api::duration::Duration as Text;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The ws:// or wss:// URL of an app that answers a message with `echo: <message>`, as `postern echo` does
    url: Uri,
    /// Connect to this HOST:PORT instead of the URL's host
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// Trust the certificate authorities in this file (PEM) [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Retry for this long until it works (a duration)
    #[arg(long, value_name = "TIME", default_value = "0s")]
    wait: Text,
}

const GREETING: &str = "hello, socket";
const EXCHANGE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);

/// Succeeds with the first exchange that works. Fails with the last error once `--wait` is over; one attempt takes at
/// most 10 s.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut out = Terminal::stdout();
    let end = Instant::now() + args.wait.0;
    loop {
        let result = timeout(EXCHANGE, greet(&mut out, &args)).await;
        match result.context("no answer in time").flatten() {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(error) => out.note(&format!("{error:#}; trying again"))?,
        }
        sleep(PAUSE).await;
    }
}

async fn greet(out: &mut Terminal, args: &Args) -> anyhow::Result<()> {
    let host = args.url.host().context("the URL has no host")?;
    let (is_secure, port) = match args.url.scheme_str() {
        Some("ws") => (false, 80),
        Some("wss") => (true, 443),
        _ => bail!("the URL must begin with ws:// or wss://"),
    };
    let address = args.to.clone().unwrap_or_else(|| {
        let port = args.url.port_u16().unwrap_or(port);
        format!("{host}:{port}")
    });
    let stream = TcpStream::connect(&address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    if !is_secure {
        return converse(out, &args.url.to_string(), stream).await;
    }
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
    let stream = TlsConnector::from(trusting(args.ca.as_deref())?)
        .connect(name, stream)
        .await
        .context("the TLS handshake failed")?;
    converse(out, &args.url.to_string(), stream).await
}

fn trusting(authorities: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).with_context(|| path.display().to_string())? {
                roots.add(certificate.with_context(|| path.display().to_string())?)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// One message there and back, and an end in order.
pub async fn converse<S>(out: &mut Terminal, url: &str, stream: S) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    out.sent(&format!("GET {url}, Upgrade: websocket"))?;
    let (mut socket, answer) = client_async(url, stream).await?;
    out.received(&format!("{:?} {}", answer.version(), answer.status()))?;
    out.sent(GREETING)?;
    socket.send(GREETING.into()).await?;
    let message = socket
        .next()
        .await
        .context("the socket was closed without an answer")??;
    out.received(&message.to_string())?;
    ensure!(
        message == Message::from(format!("echo: {GREETING}")),
        "the app did not echo the message"
    );
    // The Close handshake: both sides are done in order.
    socket.close(None).await?;
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}
