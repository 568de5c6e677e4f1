//! The only file that knows all parts: bind first, then spawn; returns the bound addresses and a handle to stop it.
//! Two runtimes: this one watches, compiles and reports, the data plane's carries traffic, so that a big compile or a slow
//! scrape delays no request.

use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use kube::Client;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::acme::{self, Clerk};
use crate::admin::{self, Readiness, View};
use crate::config::{DrainMode, Settings, Source, Traces, own_listeners};
use crate::egress::Egress;
use crate::limits::shared::Shared;
use crate::live::LiveCell;
use crate::live::state::State;
use crate::metrics::Metrics;
use crate::net::socket;
use crate::policy::{Services, Signer};
use crate::proxy::peer::Transport;
use crate::proxy::{Proxy, listener, tls};
use crate::publish::{Leader, Publisher};
use crate::status::lease::{self, Candidate};
use crate::status::{self, Failures, Mailbox};
use crate::store::{Batch, Kind};
use crate::telemetry::Telemetry;
use crate::telemetry::access::AccessLog;
use crate::telemetry::traces::Tracer;
use crate::telemetry::traces::export::Exporter;
use crate::watch::cluster;
use crate::watch::folder::Folder;

/// Batches that a source may be ahead of the compiler; one that is further ahead waits.
const BATCHES: usize = 1024;
/// How long the shared store is waited for before the first request.
const STORE: Duration = Duration::from_secs(1);
/// After the last FIN, for the tunnels to read to the end.
const LAST_BYTES: Duration = Duration::from_secs(3);
/// For the collector to take what it has not yet.
const LAST_SPANS: Duration = Duration::from_secs(1);
/// For the access log to be written to its end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A running Postern. Dropping it stops it at once; `shutdown` stops it in order.
pub struct App {
    pub addresses: Addresses,
    settings: watch::Receiver<Arc<Settings>>,
    readiness: Arc<Readiness>,
    proxy: Arc<Proxy>,
    accepting: CancellationToken,
    /// Parts that must not end, each with its name.
    parts: JoinSet<(&'static str, anyhow::Result<()>)>,
    status: Option<CancellationToken>,
    data_plane: Option<Runtime>,
}

/// What was bound: port 0 picks a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub http: Option<SocketAddr>,
    pub https: SocketAddr,
    pub admin: SocketAddr,
}

impl Addresses {
    fn all(self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let http = self.http.map(|address| ("http", address));
        http.into_iter().chain([("https", self.https), ("admin", self.admin)])
    }
}

fn bind(name: &str, address: SocketAddr) -> anyhow::Result<StdListener> {
    socket::bind(address).with_context(|| format!("cannot listen on {address} ({name})"))
}

impl App {
    /// Binds, spawns and returns. `settings` changes when the settings file does; hot keys take effect then.
    pub async fn start(settings: watch::Receiver<Arc<Settings>>) -> anyhow::Result<Self> {
        let now = settings.borrow().clone();
        let listen = &now.listen;
        let http = listen.http.map(|address| bind("http", address)).transpose()?;
        let https = bind("https", listen.https)?;
        let admin = bind("admin", listen.admin)?;
        let addresses = Addresses {
            http: http.as_ref().map(StdListener::local_addr).transpose()?,
            https: https.local_addr()?,
            admin: admin.local_addr()?,
        };
        let told = addresses.http.map(tracing::field::display);
        info!(http = told, https = %addresses.https, admin = %addresses.admin, "listening");

        let data_plane = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(now.workers.get())
            .thread_name("data-plane")
            .enable_all()
            .build()
            .context("cannot start the data plane's threads")?;
        let state = Arc::<State>::default();
        let live = Arc::<LiveCell>::default();
        let tls = tls::server::Server::new(live.clone())?;
        let own = own_listeners(&addresses.all().map(|(_, address)| address).collect::<Vec<_>>());
        let egress = Arc::new(Egress::new(own.clone(), now.allow_egress.clone()));
        let signer = now.principal_signing_key.as_deref().map(Signer::open).transpose()?;
        let services = Arc::new(Services {
            egress: egress.clone(),
            signer,
            shared: match now.store.clone() {
                Some(store) => {
                    let _its_reactor = data_plane.enter();
                    Shared::start(store, state.store_errors.clone())
                }
                None => Shared::none(state.store_errors.clone()),
            },
        });
        // The first request should not find it away; if it is, that has been logged.
        let _ = timeout_at(Instant::now() + STORE, services.shared.connected()).await;
        let dropped = state.access_log_dropped.clone();
        let access = AccessLog::start(now.access_log, std::io::stdout(), dropped)
            .context("cannot start the access log's thread")?;
        let (tracer, exporter) = tracing_to(&now.traces, &egress, &state).unzip();
        let telemetry = Arc::new(Telemetry { access, tracer });
        let proxy = Arc::new(Proxy::new(live, state.clone(), tls, services, telemetry.clone()));
        let accepting = CancellationToken::new();
        for (listener, transport) in [(http, Transport::Plain), (Some(https), Transport::Tls)] {
            let _its_reactor = data_plane.enter();
            if let Some(listener) = listener.map(TcpListener::from_std).transpose()? {
                data_plane.spawn(listener::serve(listener, transport, proxy.clone(), accepting.clone()));
            }
        }

        let metrics = Arc::new(Metrics::new(state.clone()));
        let readiness = Arc::<Readiness>::default();
        let mut app = Self {
            addresses,
            settings: settings.clone(),
            readiness: readiness.clone(),
            proxy: proxy.clone(),
            accepting,
            parts: JoinSet::new(),
            status: None,
            data_plane: Some(data_plane),
        };
        let (sender, batches) = mpsc::channel(BATCHES);
        let leader = app.spawn_source(&now, sender, &metrics).await?;
        let publisher = Publisher {
            live: proxy.live.clone(),
            state,
            figures: metrics.published.clone(),
            own,
            egress,
            leader,
        };
        let published = publisher.run(batches, settings.clone(), readiness.clone());
        app.spawn("the publisher", async move {
            published.await;
            Ok(())
        });
        let mut changes = settings.clone();
        app.spawn("the settings of access log and traces", async move {
            while changes.changed().await.is_ok() {
                let settings = changes.borrow_and_update();
                telemetry.access.set(settings.access_log);
                if let Some(tracer) = &telemetry.tracer {
                    tracer.set(settings.traces.sample);
                }
            }
            Ok(())
        });
        if let Some(exporter) = exporter {
            app.spawn("the exporter of traces", async move {
                exporter.run().await;
                Ok(())
            });
        }
        let view = View {
            metrics,
            live: proxy.live.clone(),
            services: proxy.services.clone(),
            settings,
            addresses: addresses.all().collect(),
            readiness,
        };
        let admin = TcpListener::from_std(admin)?;
        app.spawn("the admin port", async move {
            match admin::serve(admin, Arc::new(view)).await {}
        });
        Ok(app)
    }

    /// What is served.
    pub fn live(&self) -> &Arc<LiveCell> {
        &self.proxy.live
    }

    /// Resolves once the first full compile is served.
    pub async fn ready(&self) {
        self.readiness.started().await;
    }

    /// Resolves when a part that must not end has ended, with the reason: the process should exit then.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.parts.join_next().await {
            Some(Ok((part, Ok(())))) => anyhow!("{part} has ended"),
            Some(Ok((part, Err(error)))) => error.context(format!("{part} has ended")),
            Some(Err(panic)) => anyhow!(panic).context("a part of the control plane has failed"),
            None => anyhow!("nothing runs"),
        }
    }

    /// Unready, serve on for the delay, stop accepting, finish requests, linger for sockets if so set, end what is left at the
    /// deadline.
    pub async fn shutdown(mut self) {
        let settings = self.settings.borrow().clone();
        let (delay, deadline) = (settings.shutdown_delay, settings.drain_deadline);
        let linger = match settings.drain_mode {
            DrainMode::Close => Duration::ZERO,
            DrainMode::Linger => settings.linger,
        };
        self.readiness.drain();
        self.proxy.leave();
        info!(?delay, "shutting down: unready, still serving");
        if let Some(status) = &self.status {
            status.cancel();
        }
        sleep(delay).await;
        self.accepting.cancel();
        self.proxy.drain();
        info!(
            ?linger,
            ?deadline,
            requests = self.proxy.connections.len(),
            sockets = self.sockets(),
            "draining"
        );
        if timeout(linger.saturating_add(deadline), self.drained()).await.is_err() {
            warn!(
                requests = self.proxy.connections.len(),
                sockets = self.sockets(),
                "drain deadline reached: ending what is still open"
            );
            for (_, deployment) in self.proxy.state.deployments() {
                deployment.close().iter().for_each(|socket| socket.end());
            }
            let _ = timeout_at(Instant::now() + LAST_BYTES, self.drained()).await;
        }
        if let Some(tracer) = &self.proxy.telemetry.tracer {
            let _ = timeout_at(Instant::now() + LAST_SPANS, tracer.flush()).await;
        }
        self.parts.shutdown().await;
        let telemetry = self.proxy.telemetry.clone();
        let _ = tokio::task::spawn_blocking(move || telemetry.access.flush(LAST_LINES)).await;
        info!("stopped");
    }

    /// Starts what feeds the store; in a cluster also what the leader does, and where that receives its work.
    async fn spawn_source(
        &mut self,
        settings: &Settings,
        sender: mpsc::Sender<Batch>,
        metrics: &Metrics,
    ) -> anyhow::Result<Option<Leader>> {
        match &settings.source {
            Source::Manifests(root) => {
                let folder = Folder::open(root)?;
                self.spawn("the watch on the manifests", async move {
                    folder.watch(&sender).await.map_err(Into::into)
                });
                Ok(None)
            }
            Source::Cluster { kubeconfig } => {
                let client = cluster::connect(kubeconfig.as_deref()).await?;
                let namespaces = settings.watch_namespaces.clone();
                let (restarts, undecodable) = (metrics.watch_restarts.clone(), metrics.undecodable.clone());
                let counters = move |kind: Kind| cluster::Counters {
                    restarts: restarts.get_or_create_owned(&[("kind", format!("{kind:?}"))]),
                    undecodable: undecodable.get_or_create_owned(&[("kind", format!("{kind:?}"))]),
                };
                let leader = self.spawn_leader(&client, settings, metrics);
                self.spawn("the watch on the apiserver", async move {
                    cluster::watch(&client, &namespaces, &sender, counters).await;
                    Ok(())
                });
                Ok(Some(leader))
            }
        }
    }

    /// Starts the campaign for the lease, and what writes status and orders certificates while it is ours.
    fn spawn_leader(&mut self, client: &Client, settings: &Settings, metrics: &Metrics) -> Leader {
        let namespace = settings
            .lease_namespace
            .as_deref()
            .unwrap_or(client.default_namespace());
        let identity = lease::identity();
        let candidate = Candidate::new(client.clone(), namespace, &settings.routing.class, identity.clone());
        let (leading, leadership) = watch::channel(false);
        let stop = CancellationToken::new();
        self.status = Some(stop.clone());
        self.spawn("the leader election", async move {
            candidate.campaign(leading, stop).await;
            Ok(())
        });
        let (gauge, mut told) = (metrics.leader.clone(), leadership.clone());
        self.spawn("the metric of leadership", async move {
            while told.changed().await.is_ok() {
                gauge.set(i64::from(*told.borrow_and_update()));
            }
            Ok(())
        });
        let result = |result: &str| {
            metrics
                .status_writes
                .get_or_create_owned(&[("result", result.to_owned())])
        };
        let counters = status::Counters {
            written: result("written"),
            gone: result("gone"),
            failed: result("failed"),
        };
        let mailbox = Arc::<Mailbox<_, _>>::default();
        let failures = Arc::<Failures>::default();
        let status = status::run(
            client.clone(),
            identity,
            mailbox.clone(),
            failures.clone(),
            leadership.clone(),
            self.settings.clone(),
            counters,
        );
        self.spawn("the status writer", async move {
            status.await;
            Ok(())
        });
        let acme = Arc::<acme::Mailbox>::default();
        let clerk = Clerk::new(client.clone(), self.live().clone(), settings, namespace);
        let orders = acme::run(clerk, acme.clone(), leadership, failures);
        self.spawn("the ACME client", async move {
            orders.await;
            Ok(())
        });
        Leader { status: mailbox, acme }
    }

    fn spawn(&mut self, name: &'static str, part: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.parts.spawn(async move { (name, part.await) });
    }

    async fn drained(&self) {
        self.proxy.connections.close();
        // A connection may leave a socket behind; a socket's connection may take requests again.
        while !self.proxy.connections.is_empty() || self.sockets() > 0 {
            self.proxy.connections.wait().await;
            for (_, deployment) in self.proxy.state.deployments() {
                deployment.emptied().await;
            }
        }
    }

    fn sockets(&self) -> usize {
        self.proxy
            .state
            .deployments()
            .iter()
            .map(|(_, deployment)| deployment.socket_count())
            .sum()
    }
}

/// What follows requests, and what sends that on; where there is a collector.
fn tracing_to(traces: &Traces, egress: &Arc<Egress>, state: &State) -> Option<(Tracer, Exporter)> {
    let endpoint = traces.endpoint.clone()?;
    let (tracer, spans) = Tracer::new(traces.sample, state.spans.clone());
    let exporter = Exporter {
        spans,
        egress: egress.clone(),
        endpoint,
        instance: lease::identity(),
        counts: state.spans.clone(),
    };
    Some((tracer, exporter))
}

impl Drop for App {
    fn drop(&mut self) {
        // A runtime may not be dropped, which waits, inside another.
        if let Some(data_plane) = self.data_plane.take() {
            data_plane.shutdown_background();
        }
    }
}
