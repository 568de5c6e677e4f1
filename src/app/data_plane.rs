//! The runtime that carries traffic, and what its requests share.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, timeout_at};

use crate::config::{Settings, Traces};
use crate::egress::Egress;
use crate::limits::shared::Shared;
use crate::live::state::State;
use crate::policy::{Services, Signer};
use crate::status::lease;
use crate::telemetry::Telemetry;
use crate::telemetry::access::AccessLog;
use crate::telemetry::traces::Tracer;
use crate::telemetry::traces::export::Exporter;

/// How long the shared store is waited for before the first request.
const STORE: Duration = Duration::from_secs(1);

/// A runtime may not be dropped, which waits, inside another: this one is told to end and left alone.
pub struct DataPlane {
    pub handle: Handle,
    runtime: Option<Runtime>,
}

impl DataPlane {
    pub fn start(workers: NonZeroUsize) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers.get())
            .thread_name("data-plane")
            .enable_all()
            .build()
            .context("cannot start the data plane's threads")?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// What rules ask of others. The shared store's connection is the data plane's.
    pub async fn services(
        &self,
        settings: &Settings,
        egress: Arc<Egress>,
        state: &State,
    ) -> anyhow::Result<Arc<Services>> {
        let signer = settings
            .principal_signing_key
            .as_deref()
            .map(Signer::open)
            .transpose()?;
        let errors = state.store_errors.clone();
        let shared = match settings.store.clone() {
            Some(store) => {
                let _its_reactor = self.handle.enter();
                Shared::start(store, errors)
            }
            None => Shared::none(errors),
        };
        // The first request should not find it away; if it is, that has been logged.
        let _ = timeout_at(Instant::now() + STORE, shared.connected()).await;
        Ok(Arc::new(Services { egress, signer, shared }))
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What is said of requests, and what sends traces on; where there is a collector.
pub fn telemetry(
    settings: &Settings,
    egress: &Arc<Egress>,
    state: &State,
) -> anyhow::Result<(Arc<Telemetry>, Option<Exporter>)> {
    let dropped = state.access_log_dropped.clone();
    let access = AccessLog::start(settings.access_log, std::io::stdout(), dropped)
        .context("cannot start the access log's thread")?;
    let (tracer, exporter) = tracing_to(&settings.traces, egress, state).unzip();
    Ok((Arc::new(Telemetry { access, tracer }), exporter))
}

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
