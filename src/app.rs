//! The only file that knows all parts: read a folder if there is one, bind, then spawn; returns the bound addresses and a
//! handle to stop it. Two runtimes: this one watches and reports, the data plane's carries traffic, so that a slow scrape delays
//! no request. A big compile delays neither: the publisher has a thread of its own.

mod capacity;
mod data_plane;
mod listening;
mod source;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::acme::{self, Orders};
use crate::admin::{self, Readiness, View};
use crate::config::{DrainMode, Settings, own_listeners};
use crate::egress::Egress;
use crate::live::LiveCell;
use crate::live::state::State;
use crate::metrics::Metrics;
use crate::proxy::{Proxy, listener, tls};
use crate::publish::{Leader, Publisher};
use crate::runtime::memory;
use crate::saved_state::{self, Saver, StateFile};
use crate::snapshot::ListenerKey;
use crate::status::lease::{self, Candidate};
use crate::status::{self, Failures, Mailbox};
use crate::store::{Batch, Kind};
use crate::telemetry::traces::export::Exporter;
use crate::watch::cluster;
use data_plane::{DataPlane, telemetry};
pub use listening::Addresses;
use listening::Listening;
use source::{Opened, Saved};

/// Batches that a source may be ahead of the compiler; one that is further ahead waits.
const BATCHES: usize = 1024;
/// After the last FIN, for the tunnels to read to the end.
const LAST_BYTES: Duration = Duration::from_secs(3);
/// For the collector to take what it has not yet.
const LAST_SPANS: Duration = Duration::from_secs(1);
/// For the last state to be saved.
const LAST_STATE: Duration = Duration::from_secs(3);
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
    /// Answers when the last state is saved. None: none is.
    last_state: Option<oneshot::Receiver<()>>,
    data_plane: DataPlane,
}

impl App {
    /// Binds, spawns and returns. `settings` changes when the settings file does; hot keys take effect then.
    pub async fn start(settings: watch::Receiver<Arc<Settings>>) -> anyhow::Result<Self> {
        let now = settings.borrow().clone();
        // Before anything is bound: a process that refuses its files must not take a client from another.
        let source = Opened::of(&now).await?;
        let division = capacity::divide(now.max_connections)?;
        let Listening {
            http,
            https,
            admin,
            addresses,
        } = Listening::bind(&now.listen)?;
        let told = addresses.http.map(tracing::field::display);
        info!(http = told, https = %addresses.https, admin = %addresses.admin, "listening");

        let data_plane = DataPlane::start(now.workers)?;
        let state = Arc::new(State::new(division));
        let live = Arc::<LiveCell>::default();
        let tls = tls::server::Server::new(live.clone())?;
        let own = own_listeners(&addresses.all().map(|(_, address)| address).collect::<Vec<_>>());
        let egress = Arc::new(Egress::within(
            state.app_connections.clone(),
            own.clone(),
            now.allow_egress.clone(),
        ));
        let services = data_plane.services(&now, egress.clone(), &state).await?;
        let (telemetry, exporter) = telemetry(&now, &egress, &state)?;
        let mut app = Self {
            addresses,
            settings,
            readiness: Arc::default(),
            proxy: Arc::new(Proxy::new(live, state, tls, services, telemetry)),
            accepting: CancellationToken::new(),
            parts: JoinSet::new(),
            status: None,
            last_state: None,
            data_plane,
        };
        app.accept(http, https)?;
        let watching = capacity::watch_memory(now.max_memory, app.proxy.clone());
        app.spawn("the watch on memory", watching);
        let metrics = Arc::new(Metrics::new(app.proxy.state.clone(), memory::limit(now.max_memory)));
        app.spawn_publisher(&now, source, &metrics, own, egress)?;
        app.spawn_telemetry(exporter);
        app.spawn_admin(admin, metrics)?;
        Ok(app)
    }

    /// Starts to accept clients, on the data plane.
    fn accept(&self, http: Option<StdListener>, https: StdListener) -> anyhow::Result<()> {
        for (listener, key) in [(http, ListenerKey::Http), (Some(https), ListenerKey::Https)] {
            let _its_reactor = self.data_plane.handle.enter();
            if let Some(listener) = listener.map(TcpListener::from_std).transpose()? {
                let accepting = self.accepting.clone();
                tokio::spawn(listener::serve(listener, key, self.proxy.clone(), accepting));
            }
        }
        Ok(())
    }

    /// Starts what feeds the store, and what compiles and publishes it.
    fn spawn_publisher(
        &mut self,
        settings: &Settings,
        mut source: Opened,
        metrics: &Metrics,
        own: BTreeSet<SocketAddr>,
        egress: Arc<Egress>,
    ) -> anyhow::Result<()> {
        let (sender, batches) = mpsc::channel(BATCHES);
        let (saved, saver) = match source.take_state() {
            Some(Saved { file, saved }) => (saved, Some(self.start_saver(file, metrics)?)),
            None => (None, None),
        };
        let publisher = Publisher {
            live: self.proxy.live.clone(),
            state: self.proxy.state.clone(),
            figures: metrics.published.clone(),
            own,
            egress,
            leader: self.spawn_source(source, settings, sender, metrics),
            saved,
            saver,
        };
        let ended = publisher
            .start(batches, self.settings.clone(), self.readiness.clone())
            .context("cannot start the publisher's thread")?;
        self.spawn("the publisher", async move {
            ended.await.context("its thread has panicked")
        });
        Ok(())
    }

    fn start_saver(&mut self, file: StateFile, metrics: &Metrics) -> anyhow::Result<Saver> {
        let result = |result: &str| {
            metrics
                .state_saves
                .get_or_create_owned(&[("result", result.to_owned())])
        };
        let counters = saved_state::Counters {
            saved: result("saved"),
            failed: result("failed"),
        };
        let (saver, end) = Saver::start(file, counters).context("cannot start the saver's thread")?;
        self.last_state = Some(end);
        Ok(saver)
    }

    /// Starts what carries the settings of access log and traces to them, and what sends traces on.
    fn spawn_telemetry(&mut self, exporter: Option<Exporter>) {
        let (telemetry, mut changes) = (self.proxy.telemetry.clone(), self.settings.clone());
        self.spawn("the settings of access log and traces", async move {
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
            self.spawn("the exporter of traces", async move {
                exporter.run().await;
                Ok(())
            });
        }
    }

    fn spawn_admin(&mut self, listener: StdListener, metrics: Arc<Metrics>) -> anyhow::Result<()> {
        let view = View {
            metrics,
            live: self.proxy.live.clone(),
            services: self.proxy.services.clone(),
            settings: self.settings.clone(),
            addresses: self.addresses.all().collect(),
            readiness: self.readiness.clone(),
        };
        let listener = TcpListener::from_std(listener)?;
        self.spawn("the admin port", async move {
            match admin::serve(listener, Arc::new(view)).await {}
        });
        Ok(())
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
            requests = self.proxy.unfinished.len(),
            sockets = self.sockets(),
            "draining"
        );
        if timeout(linger.saturating_add(deadline), self.drained()).await.is_err() {
            warn!(
                requests = self.proxy.unfinished.len(),
                sockets = self.sockets(),
                "drain deadline reached: ending what is still open"
            );
            for (_, deployment) in self.proxy.state.deployments() {
                deployment.refuse_new_sockets().iter().for_each(|socket| socket.end());
            }
            let _ = timeout_at(Instant::now() + LAST_BYTES, self.drained()).await;
        }
        if let Some(tracer) = &self.proxy.telemetry.tracer {
            let _ = timeout_at(Instant::now() + LAST_SPANS, tracer.flush()).await;
        }
        self.parts.shutdown().await;
        if let Some(saved) = self.last_state {
            let _ = timeout(LAST_STATE, saved).await;
        }
        let telemetry = self.proxy.telemetry.clone();
        let _ = tokio::task::spawn_blocking(move || telemetry.access.flush(LAST_LINES)).await;
        info!("stopped");
    }

    /// Starts what feeds the store; in a cluster also what the leader does, and where that receives its work.
    fn spawn_source(
        &mut self,
        source: Opened,
        settings: &Settings,
        sender: mpsc::Sender<Batch>,
        metrics: &Metrics,
    ) -> Option<Leader> {
        match source {
            Opened::Folder(folder) => {
                self.spawn("the watch on the manifests", async move {
                    folder.watch(&sender).await;
                    Ok(())
                });
                None
            }
            Opened::Cluster { client, .. } => {
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
                Some(leader)
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
        let clerk = Orders::new(client.clone(), self.live().clone(), settings, namespace);
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
        self.proxy.unfinished.close();
        // A connection may leave a socket behind; a socket's connection may take requests again.
        while !self.proxy.unfinished.is_empty() || self.sockets() > 0 {
            self.proxy.unfinished.wait().await;
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
