//! Every metric family, in one place. Labels are bounded: never a host, a path or a client; the series of a Deployment go
//! with it. Traffic is counted in `state`, without labels, and read here at scrape time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::compile::report::{PolicyState, Report};
use crate::reason::Reason;
use crate::snapshot::Certificate;
use crate::state::rule::{Decision, MODES};
use crate::state::tls::{Handshakes, Outcome};
use crate::state::traffic::{ClosedBy, DialResult, Histogram};
use crate::state::{RuleKey, State, Traffic};
use crate::store::ObjectKey;

type Label = [(&'static str, String); 1];

/// All families of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub published: Arc<Published>,
    /// By the label `kind`.
    pub watch_restarts: Family<Label, Counter>,
    /// By the label `kind`.
    pub undecodable: Family<Label, Counter>,
    /// By the label `result`.
    pub status_writes: Family<Label, Counter>,
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
    /// Whether it is accepted, and all else that is found out about it.
    pub deployments: Mutex<BTreeMap<ObjectKey, (bool, Arc<Report>)>>,
    pub policies: Mutex<BTreeMap<ObjectKey, PolicyState>>,
    pub default_certificates: Mutex<Arc<[Arc<Certificate>]>>,
}

impl Metrics {
    pub fn new(state: Arc<State>) -> Self {
        let mut registry = Registry::with_prefix("postern");
        let published = Arc::<Published>::default();
        registry.register_collector(Box::new(published.clone()));
        registry.register_collector(Box::new(ByDeployment(state)));
        let metrics = Self {
            published,
            watch_restarts: Family::default(),
            undecodable: Family::default(),
            status_writes: Family::default(),
            leader: Gauge::default(),
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "watch_restarts",
            "Lists and watches that broke and were tried again",
            self.watch_restarts.clone(),
        );
        registry.register(
            "undecodable",
            "Objects that could not be decoded",
            self.undecodable.clone(),
        );
        registry.register(
            "status_writes",
            "Writes of a status to the apiserver",
            self.status_writes.clone(),
        );
        registry.register("leader", "1 on the replica that writes status", self.leader.clone());
        let build = Family::<Label, Gauge>::default();
        build
            .get_or_create(&[("version", env!("CARGO_PKG_VERSION").to_owned())])
            .set(1);
        registry.register("build_info", "The version that runs, as a label", build);
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

impl Collector for Published {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        histogram(encoder, "compile_seconds", "Time to compile a change", &self.compile)?;
        let help = "Time from a source's sight of a change to its being served";
        histogram(encoder, "propagation_seconds", help, &self.propagation)?;
        let version = ConstGauge::new(self.version.load(Relaxed) as i64);
        let metric = encoder.encode_descriptor("snapshot_version", "Swaps of this process", None, MetricType::Gauge)?;
        version.encode(metric)?;
        let hash = format!("{:016x}", self.hash.load(Relaxed));
        let mut metric = encoder.encode_descriptor(
            "snapshot_info",
            "What is served, by hash: equal on replicas that serve the same",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(1i64).encode(metric.encode_family(&[("hash", hash)])?)?;

        let deployments = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = deployments.values().filter(|(accepted, _)| *accepted).count() as u64;
        let policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let policies = |state| policies.values().filter(|found| **found == state).count() as u64;
        let objects = [
            ("ConfigMap", "known", self.config_maps.load(Relaxed)),
            ("Deployment", "accepted", accepted),
            ("Deployment", "rejected", deployments.len() as u64 - accepted),
            ("EndpointSlice", "known", self.slices.load(Relaxed)),
            ("Secret", "known", self.secrets.load(Relaxed)),
            ("SentinelPolicy", "accepted", policies(PolicyState::Accepted)),
            ("SentinelPolicy", "last_good", policies(PolicyState::LastGood)),
            ("SentinelPolicy", "rejected", policies(PolicyState::Rejected)),
            ("Service", "known", self.services.load(Relaxed)),
        ];
        let mut metric =
            encoder.encode_descriptor("objects", "Objects known, by kind and state", None, MetricType::Gauge)?;
        for (kind, state, count) in objects {
            ConstGauge::new(count as i64).encode(metric.encode_family(&[("kind", kind), ("state", state)])?)?;
        }
        let mut metric =
            encoder.encode_descriptor("endpoints", "Endpoints of each Deployment", None, MetricType::Gauge)?;
        for (key, (_, report)) in deployments.iter() {
            let counts = report.endpoints;
            for (state, count) in [
                ("ready", counts.ready),
                ("not_ready", counts.total.saturating_sub(counts.ready)),
            ] {
                ConstGauge::new(i64::from(count)).encode(metric.encode_family(&of(key, "state", state))?)?;
            }
        }
        let own = deployments.values().flat_map(|(_, report)| &report.certificates);
        let mut expiry: BTreeMap<&ObjectKey, i64> = own.map(|own| (&own.secret, own.not_after)).collect();
        let defaults = self
            .default_certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        expiry.extend(defaults.iter().map(|default| (&default.secret, default.not_after)));
        let mut metric = encoder.encode_descriptor(
            "certificate_expiry_timestamp_seconds",
            "When each certificate that is served expires",
            None,
            MetricType::Gauge,
        )?;
        for (secret, not_after) in expiry {
            let labels = [("namespace", &*secret.namespace), ("secret", &*secret.name)];
            ConstGauge::new(not_after).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// The traffic of every Deployment that is configured or still has sockets.
#[derive(Debug)]
struct ByDeployment(Arc<State>);

impl Collector for ByDeployment {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut deployments = self.0.deployments();
        deployments.sort_by(|(a, _), (b, _)| a.cmp(b));
        let unrouted = ObjectKey::new("", "");
        let all: Vec<(&ObjectKey, &Traffic)> = std::iter::once((&unrouted, &self.0.unrouted))
            .chain(deployments.iter().map(|(key, state)| (key, &state.traffic)))
            .collect();
        let encoder = &mut encoder;
        handshakes(encoder, &self.0.tls)?;
        decisions(encoder, &self.0)?;
        let help = "Calls to the shared store for limits that failed or came too late";
        let metric = encoder.encode_descriptor("ratelimit_store_errors", help, None, MetricType::Counter)?;
        ConstCounter::new(self.0.store_errors.load(Relaxed)).encode(metric)?;
        requests(encoder, &all)?;
        let help = "Time to answer plain requests, sockets apart";
        histograms(encoder, "request_duration_seconds", help, &all, |traffic| {
            &traffic.duration
        })?;
        let help = "Attempts to connect to an endpoint";
        counters(encoder, "dial_attempts", help, &all, "result", |t| {
            DialResult::ALL.map(|result| (result.label(), &t.dials[result as usize]))
        })?;
        let help = "Connections to endpoints, open sockets apart";
        gauges(encoder, "upstream_connections", help, &all, "state", |t| {
            [("active", &t.connections_active), ("idle", &t.connections_idle)]
        })?;
        websockets(encoder, &all)
    }
}

fn websockets(encoder: &mut DescriptorEncoder<'_>, all: &[(&ObjectKey, &Traffic)]) -> fmt::Result {
    let mut metric = encoder.encode_descriptor("websockets_open", "Open sockets", None, MetricType::Gauge)?;
    for (key, traffic) in all {
        // Zero is worth saying where there were sockets: an autoscaler waits for it.
        if traffic.sockets_opened.load(Relaxed) > 0 {
            let open = ConstGauge::new(traffic.sockets_open.load(Relaxed));
            open.encode(metric.encode_family(&deployment(key))?)?;
        }
    }
    let mut metric = encoder.encode_descriptor("websockets_opened", "Sockets opened", None, MetricType::Counter)?;
    for (key, traffic) in all {
        counter(traffic.sockets_opened.load(Relaxed), |c| {
            c.encode(metric.encode_family(&deployment(key))?)
        })?;
    }
    counters(
        encoder,
        "websockets_closed",
        "Sockets closed, by who ended them first",
        all,
        "closed_by",
        |t| ClosedBy::ALL.map(|by| (by.label(), &t.sockets_closed[by as usize])),
    )?;
    let help = "From the handshake to the end of a socket";
    histograms(encoder, "websocket_duration_seconds", help, all, |traffic| {
        &traffic.socket_duration
    })?;
    counters(
        encoder,
        "websocket_bytes",
        "Bytes relayed in sockets",
        all,
        "direction",
        |t| {
            [
                ("to_app", &t.socket_bytes_to_app),
                ("to_client", &t.socket_bytes_to_client),
            ]
        },
    )
}

fn handshakes(encoder: &mut DescriptorEncoder<'_>, handshakes: &Handshakes) -> fmt::Result {
    let help = "TLS handshakes with clients";
    let mut metric = encoder.encode_descriptor("tls_handshakes", help, None, MetricType::Counter)?;
    for outcome in Outcome::ALL {
        let count = ConstCounter::new(handshakes.get(outcome));
        count.encode(metric.encode_family(&[("result", outcome.label())])?)?;
    }
    Ok(())
}

fn decisions(encoder: &mut DescriptorEncoder<'_>, state: &State) -> fmt::Result {
    let mut rules = state.rules();
    rules.sort_by(|(a, _), (b, _)| a.cmp(b));
    let help = "Requests that a rule applied to, by how it decided; Shadow rules let all through";
    let mut metric = encoder.encode_descriptor("policy_decisions", help, None, MetricType::Counter)?;
    for (RuleKey { policy, name }, rule) in &rules {
        for (mode, decision) in MODES
            .into_iter()
            .flat_map(|mode| Decision::ALL.map(|decision| (mode, decision)))
        {
            let labels = [
                ("namespace", &*policy.namespace),
                ("policy", &*policy.name),
                ("rule", &**name),
                ("mode", mode.label()),
                ("decision", decision.label()),
            ];
            counter(rule.decisions(mode, decision), |c| {
                c.encode(metric.encode_family(&labels)?)
            })?;
        }
    }
    Ok(())
}

fn requests(encoder: &mut DescriptorEncoder<'_>, all: &[(&ObjectKey, &Traffic)]) -> fmt::Result {
    let help = "Requests answered, by class of status; reason: why Postern answered, empty where the app did";
    let mut metric = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
    let labels = |key: &ObjectKey, class: u16, reason: &'static str| {
        let [namespace, deployment] = deployment(key);
        [
            namespace,
            deployment,
            ("code", format!("{class}xx")),
            ("reason", reason.to_owned()),
        ]
    };
    for (key, traffic) in all {
        for (class, count) in (1..).zip(&traffic.answered) {
            counter(count.load(Relaxed), |c| {
                c.encode(metric.encode_family(&labels(key, class, ""))?)
            })?;
        }
        let abandoned = traffic.abandoned.load(Relaxed);
        counter(abandoned, |c| {
            c.encode(metric.encode_family(&labels(key, 4, "client:closed_request"))?)
        })?;
        for reason in Reason::ALL {
            let class = reason.status().as_u16() / 100;
            let count = traffic.refused.get(reason);
            counter(count, |c| {
                c.encode(metric.encode_family(&labels(key, class, reason.code()))?)
            })?;
        }
    }
    Ok(())
}

fn counters<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: &[(&ObjectKey, &Traffic)],
    label: &'static str,
    read: impl Fn(&Traffic) -> [(&'static str, &AtomicU64); N],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (key, traffic) in all {
        for (value, count) in read(traffic) {
            counter(count.load(Relaxed), |c| {
                c.encode(metric.encode_family(&of(key, label, value))?)
            })?;
        }
    }
    Ok(())
}

fn gauges<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: &[(&ObjectKey, &Traffic)],
    label: &'static str,
    read: impl Fn(&Traffic) -> [(&'static str, &AtomicI64); N],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (key, traffic) in all {
        for (value, count) in read(traffic) {
            let count = count.load(Relaxed);
            if count != 0 {
                ConstGauge::new(count).encode(metric.encode_family(&of(key, label, value))?)?;
            }
        }
    }
    Ok(())
}

fn histograms(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: &[(&ObjectKey, &Traffic)],
    read: impl Fn(&Traffic) -> &Histogram,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (key, traffic) in all {
        let (buckets, sum) = read(traffic).read();
        let count: u64 = buckets.iter().map(|(_, count)| count).sum();
        if count > 0 {
            metric
                .encode_family(&deployment(key))?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
    }
    Ok(())
}

fn histogram(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    let (buckets, sum) = histogram.read();
    let count = buckets.iter().map(|(_, count)| count).sum();
    metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

/// A series begins with its first event: ten thousand Deployments at rest are not a scrape of a million zeros.
fn counter(count: u64, encode: impl FnOnce(ConstCounter<u64>) -> fmt::Result) -> fmt::Result {
    if count == 0 {
        Ok(())
    } else {
        encode(ConstCounter::new(count))
    }
}

fn deployment(key: &ObjectKey) -> [(&'static str, String); 2] {
    [
        ("namespace", key.namespace.to_string()),
        ("deployment", key.name.to_string()),
    ]
}

fn of(key: &ObjectKey, label: &'static str, value: &str) -> [(&'static str, String); 3] {
    let [namespace, deployment] = deployment(key);
    [namespace, deployment, (label, value.to_owned())]
}
