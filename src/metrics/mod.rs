//! What a scrape of this process says. Traffic is counted in `state`, without labels, and read at scrape time by `traffic`;
//! the series of a Deployment go with it.

mod capacity;
pub mod family;
mod traffic;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Labelled;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Metric, Registry};

pub use crate::compile::policy::report::State as PolicyState;
use crate::compile::report::Report;
use crate::live::state::State;
use crate::object::{ObjectId, ObjectKey};
use crate::runtime::traffic::Histogram;
use crate::tls::Certificate;
use family::Family;

type Label = [(&'static str, String); 1];

/// All families of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub published: Arc<Published>,
    /// By the label `kind`.
    pub watch_restarts: Labelled<Label, Counter>,
    /// By the label `kind`.
    pub undecodable: Labelled<Label, Counter>,
    /// By the label `result`.
    pub state_saves: Labelled<Label, Counter>,
    /// By the label `result`.
    pub status_writes: Labelled<Label, Counter>,
    pub leader: Gauge,
}

/// What `publish` tells of its work.
#[derive(Debug, Default)]
pub struct Published {
    pub compile: Histogram,
    /// From the source's sight of a change to its being served.
    pub propagation: Histogram,
    pub version: AtomicU64,
    pub hash: AtomicU64,
    pub services: AtomicU64,
    pub slices: AtomicU64,
    pub secrets: AtomicU64,
    pub config_maps: AtomicU64,
    /// All that is found out about the objects that ask for routes.
    pub deployments: Mutex<BTreeMap<ObjectId, Arc<Report>>>,
    pub policies: Mutex<BTreeMap<ObjectId, PolicyState>>,
    /// By namespace, in bytes.
    pub policy_memory: Mutex<BTreeMap<Arc<str>, usize>>,
    pub default_certificates: Mutex<Arc<[Arc<Certificate>]>>,
    /// When the state was saved that is served instead of what the apiserver says. None: none is.
    pub stale_since: Mutex<Option<Timestamp>>,
}

impl Metrics {
    /// `state` is read at each scrape.
    pub fn new(state: Arc<State>, max_memory: u64) -> Self {
        let mut registry = Registry::with_prefix(family::PREFIX);
        let published = Arc::<Published>::default();
        registry.register_collector(Box::new(published.clone()));
        registry.register_collector(Box::new(capacity::Capacity {
            state: state.clone(),
            max_memory,
        }));
        registry.register_collector(Box::new(traffic::ByDeployment(state)));
        let metrics = Self {
            published,
            watch_restarts: Labelled::default(),
            undecodable: Labelled::default(),
            state_saves: Labelled::default(),
            status_writes: Labelled::default(),
            leader: Gauge::default(),
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        register(&mut self.registry, &family::WATCH_RESTARTS, self.watch_restarts.clone());
        register(&mut self.registry, &family::UNDECODABLE, self.undecodable.clone());
        register(&mut self.registry, &family::STATE_SAVES, self.state_saves.clone());
        register(&mut self.registry, &family::STATUS_WRITES, self.status_writes.clone());
        register(&mut self.registry, &family::LEADER, self.leader.clone());
        let build = Labelled::<Label, Gauge>::default();
        build
            .get_or_create(&[("version", env!("CARGO_PKG_VERSION").to_owned())])
            .set(1);
        register(&mut self.registry, &family::BUILD_INFO, build);
        self
    }

    /// The OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

fn register(registry: &mut Registry, family: &Family, metric: impl Metric) {
    registry.register(family.name, family.help, metric);
}

impl Collector for Published {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        histogram(encoder, &family::COMPILE, &self.compile)?;
        histogram(encoder, &family::PROPAGATION, &self.propagation)?;
        let version = ConstGauge::new(self.version.load(Relaxed) as i64);
        version.encode(family::SNAPSHOT_VERSION.begin(encoder)?)?;
        let hash = format!("{:016x}", self.hash.load(Relaxed));
        let mut metric = family::SNAPSHOT_INFO.begin(encoder)?;
        ConstGauge::new(1i64).encode(metric.encode_family(&family::SNAPSHOT_INFO.labelled([&hash]))?)?;
        let is_stale = ConstGauge::new(i64::from(self.stale_since.lock().is_some()));
        is_stale.encode(family::STATE_STALE.begin(encoder)?)?;
        self.objects(encoder)?;
        let mut metric = family::POLICY_MEMORY.begin(encoder)?;
        for (namespace, bytes) in &*self.policy_memory.lock() {
            let labels = family::POLICY_MEMORY.labelled([namespace]);
            ConstGauge::new(*bytes as i64).encode(metric.encode_family(&labels)?)?;
        }
        self.endpoints(encoder)?;
        self.certificates(encoder)
    }
}

impl Published {
    fn objects(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (accepted, rejected) = {
            let deployments = self.deployments.lock();
            let accepted = deployments.values().filter(|report| report.is_accepted()).count();
            (accepted as u64, (deployments.len() - accepted) as u64)
        };
        let policies = self.policies.lock().clone();
        let policies = |state| policies.values().filter(|found| **found == state).count() as u64;
        let mut metric = family::OBJECTS.begin(encoder)?;
        for (kind, state, count) in [
            ("ConfigMap", "known", self.config_maps.load(Relaxed)),
            ("Deployment", "accepted", accepted),
            ("Deployment", "rejected", rejected),
            ("EndpointSlice", "known", self.slices.load(Relaxed)),
            ("Secret", "known", self.secrets.load(Relaxed)),
            ("SentinelPolicy", "accepted", policies(PolicyState::Accepted)),
            ("SentinelPolicy", "last_good", policies(PolicyState::LastGood)),
            ("SentinelPolicy", "rejected", policies(PolicyState::Rejected)),
            ("Service", "known", self.services.load(Relaxed)),
        ] {
            let labels = family::OBJECTS.labelled([kind, state]);
            ConstGauge::new(count as i64).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn endpoints(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let deployments = self.deployments.lock();
        let mut metric = family::ENDPOINTS.begin(encoder)?;
        for (ObjectId { key, .. }, report) in deployments.iter() {
            let counts = report.routes().map(|details| details.endpoints).unwrap_or_default();
            for (state, count) in [
                ("ready", counts.ready),
                ("not_ready", counts.total.saturating_sub(counts.ready)),
            ] {
                let labels = family::ENDPOINTS.labelled([&key.namespace, &key.name, state]);
                ConstGauge::new(i64::from(count)).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn certificates(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let deployments = self.deployments.lock();
        let own = deployments.values().filter_map(|report| report.routes());
        let own = own.flat_map(|details| &details.certificates);
        let mut expiry: BTreeMap<&ObjectKey, i64> = own.map(|own| (&own.secret, own.not_after)).collect();
        let defaults = self.default_certificates.lock().clone();
        expiry.extend(defaults.iter().map(|default| (&default.secret, default.not_after)));
        let mut metric = family::CERTIFICATE_EXPIRY.begin(encoder)?;
        for (secret, not_after) in expiry {
            let labels = family::CERTIFICATE_EXPIRY.labelled([&secret.namespace, &secret.name]);
            ConstGauge::new(not_after).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn histogram(encoder: &mut DescriptorEncoder<'_>, family: &Family, histogram: &Histogram) -> fmt::Result {
    let (buckets, sum) = histogram.read();
    let count = buckets.iter().map(|(_, count)| count).sum();
    family
        .begin(encoder)?
        .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}
