//! The apiserver as a source: one list and watch per kind (and namespace), forever. What arrives together is sent
//! together; a list is sent whole, so that nobody ever sees half a world.

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

use super::trim;
use crate::api::deployment::Deployment;
use crate::store::{Batch, Event, Kind, Object, ObjectKey};

/// What a watch counts.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// How often a list or watch broke and was tried again.
    pub restarts: Counter,
    /// Objects that could not be understood.
    pub undecodable: Counter,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("neither a kubeconfig nor a ServiceAccount can be used: {0}")]
    Infer(#[from] InferConfigError),
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("no client for the apiserver: {0}")]
    Client(#[from] kube::Error),
}

/// A client by the given kubeconfig, else by the environment's: KUBECONFIG, ~/.kube/config, the ServiceAccount.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
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
    Ok(Client::try_from(config)?)
}

/// Watches all kinds in the given namespaces, or in all of them if none is given, until the receiver is gone.
pub async fn watch(
    client: &Client,
    namespaces: &[String],
    sender: &Sender<Batch>,
    counters: impl Fn(Kind) -> Counters,
) {
    tokio::join!(
        watch_kind(
            apis::<DynamicObject>(client, namespaces, &ApiResource::erase::<Deployment>(&())),
            Kind::Deployment,
            |object| Ok(trim::deployment(object).map(Object::Deployment)),
            sender,
            counters(Kind::Deployment),
        ),
        watch_kind(
            apis::<DeserializeGuard<core::Service>>(client, namespaces, &()),
            Kind::Service,
            |DeserializeGuard(object)| Ok(trim::service(object.map_err(|e| e.error)?).map(Object::Service)),
            sender,
            counters(Kind::Service),
        ),
        watch_kind(
            apis::<DeserializeGuard<discovery::EndpointSlice>>(client, namespaces, &()),
            Kind::EndpointSlice,
            |DeserializeGuard(object)| Ok(trim::endpoint_slice(object.map_err(|e| e.error)?).map(Object::EndpointSlice)),
            sender,
            counters(Kind::EndpointSlice),
        ),
    );
}

fn apis<K>(client: &Client, namespaces: &[String], kind: &K::DynamicType) -> Vec<Api<K>>
where
    K: Resource<Scope: NamespaceScope>,
{
    let everywhere = || Api::all_with(client.clone(), kind);
    let namespaces: BTreeSet<&String> = namespaces.iter().collect();
    if namespaces.is_empty() {
        return vec![everywhere()];
    }
    namespaces
        .into_iter()
        .map(|namespace| everywhere().constrain(namespace))
        .collect()
}

/// One kind: one stream per API (a namespace, or all of them), merged.
///
/// `trim` says what to keep of an object: None if it does not concern us, an error if it cannot be understood, which
/// costs that version of that object alone.
async fn watch_kind<K>(
    apis: Vec<Api<K>>,
    kind: Kind,
    trim: impl Fn(K) -> Result<Option<Object>, String>,
    sender: &Sender<Batch>,
    counters: Counters,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut merge = Merge {
        scopes: apis.iter().map(|_| Scope::default()).collect(),
        kind,
        trim,
        counters,
    };
    let streams = apis.into_iter().enumerate().map(|(scope, api)| {
        let config = watcher::Config::default()
            .timeout(WATCH.as_secs() as u32)
            .page_size(PAGE);
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
                Err(error) => merge.failed(&error),
            }
        }
        if !events.is_empty() && sender.send(Batch { events, seen }).await.is_err() {
            return;
        }
    }
}

/// What is known of one kind, by scope: keys alone, for `Event::Listed` speaks of all scopes together.
struct Merge<F> {
    scopes: Vec<Scope>,
    kind: Kind,
    trim: F,
    counters: Counters,
}

#[derive(Default)]
struct Scope {
    keys: BTreeSet<ObjectKey>,
    listed: bool,
    /// A list that is arriving. It may break off and start again.
    arriving: Option<Arriving>,
}

#[derive(Default)]
struct Arriving {
    keys: BTreeSet<ObjectKey>,
    events: Vec<Event>,
}

impl<F> Merge<F> {
    fn take<K: Resource>(&mut self, scope: usize, event: watcher::Event<K>, events: &mut Vec<Event>)
    where
        F: Fn(K) -> Result<Option<Object>, String>,
    {
        let kind = self.kind;
        match event {
            watcher::Event::Init => self.scopes[scope].arriving = Some(Arriving::default()),
            watcher::Event::InitApply(object) => {
                let Some((key, object)) = self.trimmed(object) else {
                    return;
                };
                let Some(arriving) = &mut self.scopes[scope].arriving else {
                    return;
                };
                match object {
                    Trimmed::Object(object) => arriving.events.push(Event::Apply(object)),
                    // Its last good version, if there is one, stays.
                    Trimmed::Undecodable => {}
                    Trimmed::Irrelevant => return,
                }
                arriving.keys.insert(key);
            }
            watcher::Event::InitDone => {
                let scope = &mut self.scopes[scope];
                let Some(arrived) = scope.arriving.take() else { return };
                scope.keys = arrived.keys;
                scope.listed = true;
                events.extend(arrived.events);
                if self.scopes.iter().all(|scope| scope.listed) {
                    let keys = self
                        .scopes
                        .iter()
                        .flat_map(|scope| scope.keys.iter().cloned())
                        .collect();
                    events.push(Event::Listed(kind, keys));
                }
            }
            watcher::Event::Apply(object) => {
                let Some((key, object)) = self.trimmed(object) else {
                    return;
                };
                let keys = &mut self.scopes[scope].keys;
                match object {
                    Trimmed::Object(object) => {
                        keys.insert(key);
                        events.push(Event::Apply(object));
                    }
                    Trimmed::Undecodable => {}
                    // It may have concerned us until now.
                    Trimmed::Irrelevant => {
                        if keys.remove(&key) {
                            events.push(Event::Delete(kind, key));
                        }
                    }
                }
            }
            watcher::Event::Delete(object) => {
                let Some(key) = trim::key(object.meta()) else { return };
                if self.scopes[scope].keys.remove(&key) {
                    events.push(Event::Delete(kind, key));
                }
            }
        }
    }

    fn trimmed<K: Resource>(&self, object: K) -> Option<(ObjectKey, Trimmed)>
    where
        F: Fn(K) -> Result<Option<Object>, String>,
    {
        let key = trim::key(object.meta())?;
        let trimmed = match (self.trim)(object) {
            Ok(Some(object)) => Trimmed::Object(object),
            Ok(None) => Trimmed::Irrelevant,
            Err(reason) => {
                self.counters.undecodable.inc();
                warn!(kind = ?self.kind, object = %key, reason, "object not understood, its last good version stays");
                Trimmed::Undecodable
            }
        };
        Some((key, trimmed))
    }

    fn failed(&self, failure: &watcher::Error) {
        self.counters.restarts.inc();
        let kind = self.kind;
        let status = match failure {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status) => Some(status),
            _ => None,
        };
        match status {
            Some(status) if status.code == 404 && kind == Kind::Deployment => error!(
                "the CRD deployments.postern.dev is not installed: run `postern crds | kubectl apply --server-side -f -`"
            ),
            Some(status) if status.code == 403 || status.code == 401 => {
                error!(
                    ?kind,
                    reason = status.message,
                    "not allowed to list and watch: check the ClusterRole"
                );
            }
            // The apiserver keeps some minutes of history; a watch that was away for longer lists again.
            Some(status) if status.code == 410 => debug!(?kind, "watch is too old, listing again"),
            _ => warn!(?kind, error = %failure, "watch broke, trying again"),
        }
    }
}

enum Trimmed {
    Object(Object),
    Irrelevant,
    Undecodable,
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

#[cfg(test)]
mod tests;
