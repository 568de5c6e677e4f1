//! The apiserver as a source: one list and watch per kind (and namespace), forever. What arrives together is sent
//! together; a list is sent whole, so that nobody ever sees half a world.

mod merge;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::api::ApiResource;
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::{DeserializeGuard, DynamicObject, NamespaceScope};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, Resource};
use prometheus_client::metrics::counter::Counter;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;
use tracing::{debug, error, warn};

use self::merge::Merge;
use super::{deployment, trim};
use crate::api::deployment::Deployment;
use crate::api::policy::SentinelPolicy;
use crate::store::{Batch, Kind, Object};
use crate::tls::Fingerprint;

/// What a watch counts.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// How often a list or watch broke and was tried again.
    pub restarts: Counter,
    /// Objects that could not be understood.
    pub undecodable: Counter,
}

/// Why the apiserver cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("neither a kubeconfig nor a ServiceAccount is usable: {0}")]
    Infer(#[from] InferConfigError),
    #[error("the kubeconfig is not usable: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("cannot create a client for the apiserver: {0}")]
    Client(#[from] kube::Error),
}

/// An apiserver that can be asked.
pub struct Apiserver {
    pub client: Client,
    /// Of its URL, and of the authorities by which it is recognized: another cluster's may have the same URL.
    pub identity: Fingerprint,
}

/// A client by the given kubeconfig, else by the environment's: KUBECONFIG, ~/.kube/config, the ServiceAccount.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Apiserver, ConnectError> {
    let mut config = match kubeconfig {
        Some(path) => {
            Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await?,
    };
    // A list has no bound of its own; a watch stays silent for at most WATCH.
    config.read_timeout = Some(WATCH + Duration::from_secs(30));
    config.reset_reader_on_write = true;
    config.connect_timeout = Some(Duration::from_secs(5));
    let url = config.cluster_url.to_string();
    let authorities = config.root_cert.iter().flatten().map(Vec::as_slice);
    Ok(Apiserver {
        identity: Fingerprint::of([url.as_bytes()].into_iter().chain(authorities)),
        client: Client::try_from(config)?,
    })
}

/// Watches all kinds in the given namespaces, or in all of them if none is given, until the receiver is gone.
pub async fn watch(
    client: &Client,
    namespaces: &[String],
    sender: &Sender<Batch>,
    counters: impl Fn(Kind) -> Counters,
) {
    let all = [Select::default()];
    tokio::join!(
        watch_kind(
            scopes::<DynamicObject>(client, namespaces, &ApiResource::erase::<Deployment>(&()), &all),
            Kind::Deployment,
            |object| Ok(deployment::trim(object).map(Object::Deployment)),
            sender,
            counters(Kind::Deployment),
        ),
        watch_kind(
            scopes::<DynamicObject>(client, namespaces, &ApiResource::erase::<SentinelPolicy>(&()), &all),
            Kind::SentinelPolicy,
            |object| Ok(trim::policy(object).map(Object::SentinelPolicy)),
            sender,
            counters(Kind::SentinelPolicy),
        ),
        watch_kind(
            scopes::<DeserializeGuard<core::Service>>(client, namespaces, &(), &all),
            Kind::Service,
            |DeserializeGuard(object)| Ok(trim::service(object.map_err(|e| e.error)?).map(Object::Service)),
            sender,
            counters(Kind::Service),
        ),
        watch_kind(
            scopes::<DeserializeGuard<discovery::EndpointSlice>>(client, namespaces, &(), &all),
            Kind::EndpointSlice,
            |DeserializeGuard(object)| Ok(trim::endpoint_slice(object.map_err(|e| e.error)?).map(Object::EndpointSlice)),
            sender,
            counters(Kind::EndpointSlice),
        ),
        watch_kind(
            scopes::<DeserializeGuard<core::Secret>>(client, namespaces, &(), &Select::secrets()),
            Kind::Secret,
            // The error could quote what must not be seen.
            |DeserializeGuard(object)| {
                let object = object.map_err(|_| "cannot be decoded".to_owned())?;
                Ok(trim::secret(object).map(Object::Secret))
            },
            sender,
            counters(Kind::Secret),
        ),
        watch_kind(
            scopes::<DeserializeGuard<core::ConfigMap>>(client, namespaces, &(), &Select::config_maps()),
            Kind::ConfigMap,
            |DeserializeGuard(object)| Ok(trim::config_map(object.map_err(|e| e.error)?).map(Object::ConfigMap)),
            sender,
            counters(Kind::ConfigMap),
        ),
    );
}

/// Which objects of a kind are asked for; by default all of them.
#[derive(Default)]
struct Select {
    labels: Option<&'static str>,
    fields: Option<String>,
}

impl Select {
    /// Certificates are known by their type, other Secrets by their label.
    fn secrets() -> [Self; 2] {
        let certificates = Self {
            labels: None,
            fields: Some(format!("type={}", trim::TLS)),
        };
        let labelled_others = Self {
            labels: Some(trim::USE),
            fields: Some(format!("type!={}", trim::TLS)),
        };
        [certificates, labelled_others]
    }

    fn config_maps() -> [Self; 1] {
        [Self {
            labels: Some(trim::USE),
            fields: None,
        }]
    }

    fn config(&self) -> watcher::Config {
        let config = watcher::Config::default()
            .timeout(WATCH.as_secs() as u32)
            .page_size(PAGE);
        watcher::Config {
            label_selector: self.labels.map(str::to_owned),
            field_selector: self.fields.clone(),
            ..config
        }
    }
}

/// One watch per namespace (or one for all of them) and selection. No object may be in two selections.
fn scopes<K>(
    client: &Client,
    namespaces: &[String],
    kind: &K::DynamicType,
    selections: &[Select],
) -> Vec<(Api<K>, watcher::Config)>
where
    K: Resource<Scope: NamespaceScope> + Clone,
{
    let everywhere = || Api::all_with(client.clone(), kind);
    let namespaces: BTreeSet<&String> = namespaces.iter().collect();
    let apis: Vec<Api<K>> = if namespaces.is_empty() {
        vec![everywhere()]
    } else {
        let constrained = namespaces
            .into_iter()
            .map(|namespace| everywhere().constrain(namespace));
        constrained.collect()
    };
    let selected = |api: Api<K>| selections.iter().map(move |select| (api.clone(), select.config()));
    apis.into_iter().flat_map(selected).collect()
}

/// One kind: one stream per scope, merged.
///
/// `trim` says what to keep of an object: None if it does not concern us, an error if it cannot be understood, which
/// costs that version of that object alone.
async fn watch_kind<K>(
    scopes: Vec<(Api<K>, watcher::Config)>,
    kind: Kind,
    trim: impl Fn(K) -> Result<Option<Object>, String>,
    sender: &Sender<Batch>,
    counters: Counters,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut merge = Merge::new(scopes.len(), kind, trim, counters);
    let streams = scopes.into_iter().enumerate().map(|(scope, (api, config))| {
        watcher(api, config)
            .backoff(Delay::default())
            .map(move |event| (scope, event))
            .boxed()
    });
    let mut arrivals = stream::select_all(streams).ready_chunks(BATCH);
    loop {
        let arrived = tokio::select! {
            arrived = arrivals.next() => arrived,
            () = sender.closed() => None,
        };
        // A watcher never ends by itself.
        let Some(arrived) = arrived else { return };
        let seen = Instant::now();
        let mut events = Vec::new();
        for (scope, event) in arrived {
            match event {
                Ok(event) => merge.take(scope, event, &mut events),
                Err(error) => {
                    merge.counters.restarts.inc();
                    log_failure(kind, &error);
                }
            }
        }
        if !events.is_empty() && sender.send(Batch { events, seen }).await.is_err() {
            return;
        }
    }
}

/// Says what a person can do about it, if anything.
fn log_failure(kind: Kind, failure: &watcher::Error) {
    let status = match failure {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    };
    match status {
        Some(status) if status.code == 404 && matches!(kind, Kind::Deployment | Kind::SentinelPolicy) => error!(
            ?kind,
            "a CRD of postern.dev is not installed: run `postern crds | kubectl apply --server-side -f -`"
        ),
        Some(status) if status.code == 403 || status.code == 401 => {
            error!(
                ?kind,
                reason = status.message,
                "listing and watching is forbidden: check the ClusterRole"
            );
        }
        // The apiserver keeps some minutes of history; a watch that was away for longer lists again.
        Some(status) if status.code == 410 => debug!(?kind, "watch is too old, listing again"),
        _ => warn!(?kind, error = %failure, "watch failed: trying again"),
    }
}

/// The apiserver's usual backoff, but what a short outage leaves stale is noticed soon after it.
///
/// It is not reset by an event: a watcher announces each list that it is about to try. It resets by itself when there
/// was no failure for two minutes.
#[derive(Default)]
struct Delay(watcher::DefaultBackoff);

impl Iterator for Delay {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|delay| delay.min(MAX_DELAY))
    }
}

impl Backoff for Delay {
    fn reset(&mut self) {}
}

/// The server ends a watch after this time, and the client resumes it: so long a dead connection can go unnoticed.
const WATCH: Duration = Duration::from_secs(60);
const MAX_DELAY: Duration = Duration::from_secs(10);
const PAGE: u32 = 500;
const BATCH: usize = 512;
