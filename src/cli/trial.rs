//! `postern try`: everything on one machine, without a cluster. The sample app, its manifests in a fresh folder, a
//! Postern that serves them, a first HTTP exchange and a first WebSocket message through it, and then it is yours.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use http::{HeaderValue, StatusCode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};
use tokio_rustls::TlsConnector;

use super::authority::Authority;
use super::hello::converse;
use super::signals::Signals;
use super::terminal::Terminal;
use super::{client, echo};
use crate::admin::question::Question;
use crate::admin::why::explain;
use crate::api::duration::Duration as Text;
use crate::app::App;
use crate::config::{self, Flags};
use crate::live::LiveCell;
use crate::policy::Services;
use crate::telemetry::access::Mode as AccessMode;
use crate::telemetry::log::{self, LogFormat};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Exit after the exchanges, with success if all of them worked
    #[arg(long)]
    once: bool,
}

/// Every machine knows itself by this name, and so do browsers: nothing has to be set up for it.
const HOST: &str = "localhost";
const WILDCARD: &str = "*.localhost";
const START: Duration = Duration::from_secs(20);
const EXCHANGE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Starts an app and Postern before it, shows three exchanges, and serves on until a signal comes or, with `--once`,
/// ends. Fails if the start or an exchange fails.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    // Removed with all that is in it when this ends, however it ends.
    let folder = tempfile::Builder::new()
        .prefix("postern-try-")
        .tempdir()
        .context("cannot make a folder")?;
    let started = tokio::select! {
        trial = Trial::start(&folder) => trial?,
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let Trial { mut app, tour } = started;
    let outcome = tokio::select! {
        outcome = tour.run(&mut app, args.once) => outcome,
        _ = signals.next() => Ok(()),
    };
    tokio::select! {
        () = app.shutdown() => {}
        _ = signals.next() => {}
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

struct Trial {
    app: App,
    tour: Tour,
}

/// What is shown.
struct Tour {
    sample: SocketAddr,
    manifest: PathBuf,
    /// What clients over TLS are to trust.
    trusted: PathBuf,
    tls: Arc<ClientConfig>,
    http: SocketAddr,
    https: SocketAddr,
}

impl Trial {
    async fn start(folder: &TempDir) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("cannot start the sample app")?;
        let sample = listener.local_addr()?;
        tokio::spawn(echo::serve(listener));
        let manifest = folder.path().join("hello.yaml");
        let trusted = folder.path().join("ca.crt");
        let authority = Authority::new()?;
        let secret = authority.secret("demo", "hello", &[HOST, WILDCARD])?;
        std::fs::write(&manifest, manifests(sample.port())).context("cannot write the manifests")?;
        std::fs::write(folder.path().join("certificate.yaml"), secret).context("cannot write the certificate")?;
        std::fs::write(&trusted, &authority.pem).context("cannot write the authority's certificate")?;

        let flags = flags(folder.path());
        log::init(flags.log_format, log::parse(&flags.log)?)?;
        let app = App::start(config::watch(config::Args { config: None, flags })?).await?;
        timeout(START, app.ready())
            .await
            .context("the manifests were not served in time")?;
        let http = app.addresses.http.context("there is no plaintext port")?;
        let tour = Tour {
            sample,
            manifest,
            trusted,
            tls: Arc::new(authority.client()?),
            http,
            https: app.addresses.https,
        };
        Ok(Self { app, tour })
    }
}

impl Tour {
    async fn run(&self, app: &mut App, once: bool) -> anyhow::Result<()> {
        let mut out = Terminal::stdout();
        out.title("Postern on this machine")?;
        out.row("app", &format!("http://{}", self.sample))?;
        out.row("manifests", &self.manifest.display().to_string())?;
        out.row("Postern", &format!("http://{}", authority(self.http)))?;
        out.row("over TLS", &format!("https://{}", authority(self.https)))?;
        out.row("CA to trust", &self.trusted.display().to_string())?;
        timeout(EXCHANGE, self.http(&mut out))
            .await
            .context("no HTTP answer in time")??;
        timeout(EXCHANGE, self.plaintext_websocket(&mut out))
            .await
            .context("no WebSocket answer in time")??;
        timeout(EXCHANGE, self.tls_websocket(&mut out))
            .await
            .context("no WebSocket answer over TLS in time")??;
        if once {
            return Ok(());
        }
        self.guide(&mut out)?;
        let live = app.live().clone();
        tokio::select! {
            result = announce(&mut out, &live) => result,
            error = app.failed() => Err(error),
        }
    }

    async fn http(&self, out: &mut Terminal) -> anyhow::Result<()> {
        out.title("A request")?;
        out.sent(&format!("GET /hello HTTP/1.1, Host: {}", authority(self.http)))?;
        let answer = client::get(self.http, &authority(self.http), "/hello").await?;
        out.received(&format!("{:?} {}", answer.version(), answer.status()))?;
        for name in ["content-type", "x-request-id"] {
            let value = answer.headers().get(name).map(HeaderValue::to_str).transpose()?;
            out.received(&format!("{name}: {}", value.unwrap_or("(none)")))?;
        }
        ensure!(
            answer.status() == StatusCode::OK,
            "the app answered {} instead of 200",
            answer.status()
        );
        out.note("what the app saw:")?;
        for line in String::from_utf8_lossy(answer.body()).lines() {
            out.received(&format!("  {line}"))?;
        }
        Ok(())
    }

    async fn plaintext_websocket(&self, out: &mut Terminal) -> anyhow::Result<()> {
        out.title("A WebSocket")?;
        let stream = TcpStream::connect(self.http).await?;
        converse(out, &format!("ws://{}/chat", authority(self.http)), stream).await
    }

    async fn tls_websocket(&self, out: &mut Terminal) -> anyhow::Result<()> {
        out.title("A WebSocket over TLS")?;
        let stream = TcpStream::connect(self.https).await?;
        let stream = TlsConnector::from(self.tls.clone())
            .connect(ServerName::try_from(HOST)?, stream)
            .await
            .context("the TLS handshake failed")?;
        converse(out, &format!("wss://{}/chat", authority(self.https)), stream).await
    }

    fn guide(&self, out: &mut Terminal) -> io::Result<()> {
        let (trusted, manifest) = (self.trusted.display(), self.manifest.display());
        let https = authority(self.https);
        out.title("Try it yourself in another terminal")?;
        out.command(&format!("curl -i http://{}/hello", authority(self.http)))?;
        out.command(&format!("curl -i --cacert {trusted} https://{https}/hello"))?;
        out.command(&format!(
            "NODE_EXTRA_CA_CERTS={trusted} node --experimental-websocket -e \"s = new WebSocket('wss://{https}'); \
             s.onopen = () => s.send('hello'); s.onmessage = m => console.log(m.data); s.onclose = () => console.log('closed')\""
        ))?;
        out.note("Edit the manifests while that socket is open, and watch here what is served. For example:")?;
        out.command(&format!("sed -i.bak 's/state: Running/state: Stopped/' {manifest}"))?;
        out.note("Ctrl-C stops everything and removes the folder.")?;
        out.title("Served")
    }
}

/// As a person would type it.
fn authority(address: SocketAddr) -> String {
    format!("{HOST}:{}", address.port())
}

/// A line whenever something else is served than before.
async fn announce(out: &mut Terminal, live: &LiveCell) -> anyhow::Result<()> {
    let mut ticks = interval(POLL);
    let mut shown = None;
    loop {
        ticks.tick().await;
        let Some(live) = live.load().filter(|live| shown != Some(live.version)) else {
            continue;
        };
        shown = Some(live.version);
        let question = Question::new(HOST, "/").context("a question")?;
        let answer = explain(&live.snapshot, &question, &Services::default()).await;
        let says = match answer.error {
            Some(error) => format!("{} {}", error.status, error.code),
            None => "the app".to_owned(),
        };
        out.row(
            &format!("version {}", live.version),
            &format!("{HOST} is answered by: {says}"),
        )?;
    }
}

fn flags(folder: &Path) -> Flags {
    Flags {
        http_address: free(8080),
        https_address: free(8443),
        admin_address: free(9090),
        manifests: Some(folder.to_owned()),
        shutdown_delay: Text(Duration::ZERO),
        drain_deadline: Text(Duration::from_secs(1)),
        // A manifest that cannot be read should be heard of; all else would only be in the way.
        log: "error,postern::watch=warn".to_owned(),
        log_format: LogFormat::Text,
        access_log: AccessMode::Off,
        ..Flags::default()
    }
}

/// The usual port, or any if it is taken.
fn free(port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match StdListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => (Ipv4Addr::LOCALHOST, 0).into(),
    }
}

fn manifests(port: u16) -> String {
    format!(
        "\
# The hostnames of the app and its Service. This is all that you write for an app.
apiVersion: postern.dev/v1alpha1
kind: Deployment
metadata: {{name: hello, namespace: demo}}
spec:
  hostnames: [{HOST}, \"{WILDCARD}\"]
  service: {{name: hello, port: http}}
  tls: [{{secretName: hello}}]
  state: Running
---
# The app's Service, as in any cluster.
apiVersion: v1
kind: Service
metadata: {{name: hello, namespace: demo}}
spec:
  ports: [{{name: http, port: 80}}]
---
# The app's addresses. In a cluster, Kubernetes keeps this up to date.
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: hello-1
  namespace: demo
  labels: {{kubernetes.io/service-name: hello}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
}
