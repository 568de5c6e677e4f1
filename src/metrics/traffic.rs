//! The traffic of every Deployment that is configured or still has sockets, as a scrape says it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use strum::VariantArray;

use super::family::{self, Family};
use crate::live::state::State;
use crate::object::ObjectKey;
use crate::policy::mode::Mode;
use crate::policy::rule_state::{Decision, RuleKey};
use crate::reason::{CLOSED_REQUEST, Reason};
use crate::runtime::Traffic;
use crate::runtime::handshakes::{Handshakes, Outcome};
use crate::runtime::traffic::{ClosedBy, DialResult, Histogram};
use crate::telemetry::traces::Counts;

#[derive(Debug)]
pub struct ByDeployment(pub Arc<State>);

/// In the order of their names; the first is what no Deployment got.
type All<'a> = [(&'a ObjectKey, &'a Traffic)];

impl Collector for ByDeployment {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut deployments = self.0.deployments();
        deployments.sort_by(|(a, _), (b, _)| a.cmp(b));
        let unrouted = ObjectKey::new("", "");
        let all: Vec<(&ObjectKey, &Traffic)> = std::iter::once((&unrouted, &self.0.unrouted))
            .chain(deployments.iter().map(|(id, state)| (&id.key, &*state.traffic)))
            .collect();
        let encoder = &mut encoder;
        handshakes(encoder, &self.0.tls)?;
        decisions(encoder, &self.0)?;
        let errors = ConstCounter::new(self.0.store_errors.load(Relaxed));
        errors.encode(family::STORE_ERRORS.begin(encoder)?)?;
        let dropped = ConstCounter::new(self.0.access_log_dropped.load(Relaxed));
        dropped.encode(family::ACCESS_LOG_DROPPED.begin(encoder)?)?;
        spans(encoder, &self.0.spans)?;
        requests(encoder, &all)?;
        histograms(encoder, &family::REQUEST_DURATION, &all, |traffic| &traffic.duration)?;
        counters(encoder, &family::DIAL_ATTEMPTS, &all, |t| {
            DialResult::VARIANTS.iter().map(|result| result.label()).zip(&t.dials)
        })?;
        gauges(encoder, &family::UPSTREAM_CONNECTIONS, &all, |t| {
            [("active", &t.connections_active), ("idle", &t.connections_idle)]
        })?;
        websockets(encoder, &all)
    }
}

fn websockets(encoder: &mut DescriptorEncoder<'_>, all: &All<'_>) -> fmt::Result {
    let mut metric = family::WEBSOCKETS_OPEN.begin(encoder)?;
    for (key, traffic) in all {
        // Zero is worth saying where there were sockets: an autoscaler waits for it.
        if traffic.sockets_opened.load(Relaxed) > 0 {
            let open = ConstGauge::new(traffic.sockets_open.load(Relaxed));
            let labels = family::WEBSOCKETS_OPEN.labelled([&key.namespace, &key.name]);
            open.encode(metric.encode_family(&labels)?)?;
        }
    }
    let mut metric = family::WEBSOCKETS_OPENED.begin(encoder)?;
    for (key, traffic) in all {
        let labels = family::WEBSOCKETS_OPENED.labelled([&key.namespace, &key.name]);
        counter(traffic.sockets_opened.load(Relaxed), |c| {
            c.encode(metric.encode_family(&labels)?)
        })?;
    }
    counters(encoder, &family::WEBSOCKETS_CLOSED, all, |t| {
        ClosedBy::VARIANTS.iter().map(|by| by.label()).zip(&t.sockets_closed)
    })?;
    histograms(encoder, &family::WEBSOCKET_DURATION, all, |traffic| {
        &traffic.socket_duration
    })?;
    counters(encoder, &family::WEBSOCKET_BYTES, all, |t| {
        [
            ("to_app", &t.socket_bytes_to_app),
            ("to_client", &t.socket_bytes_to_client),
        ]
    })
}

fn handshakes(encoder: &mut DescriptorEncoder<'_>, handshakes: &Handshakes) -> fmt::Result {
    let mut metric = family::TLS_HANDSHAKES.begin(encoder)?;
    for &outcome in Outcome::VARIANTS {
        let labels = family::TLS_HANDSHAKES.labelled([outcome.label()]);
        ConstCounter::new(handshakes.get(outcome)).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn spans(encoder: &mut DescriptorEncoder<'_>, counts: &Counts) -> fmt::Result {
    let mut metric = family::TRACE_SPANS.begin(encoder)?;
    for (result, count) in [
        ("dropped", &counts.dropped),
        ("exported", &counts.exported),
        ("failed", &counts.failed),
    ] {
        let labels = family::TRACE_SPANS.labelled([result]);
        ConstCounter::new(count.load(Relaxed)).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn decisions(encoder: &mut DescriptorEncoder<'_>, state: &State) -> fmt::Result {
    let mut rules = state.rules();
    rules.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut metric = family::POLICY_DECISIONS.begin(encoder)?;
    for (RuleKey { policy, name }, rule) in &rules {
        for (mode, decision) in Mode::VARIANTS
            .iter()
            .flat_map(|&mode| Decision::VARIANTS.iter().map(move |&decision| (mode, decision)))
        {
            let values = [&policy.namespace, &policy.name, name, mode.label(), decision.label()];
            let labels = family::POLICY_DECISIONS.labelled(values);
            counter(rule.decisions(mode, decision), |c| {
                c.encode(metric.encode_family(&labels)?)
            })?;
        }
    }
    Ok(())
}

fn requests(encoder: &mut DescriptorEncoder<'_>, all: &All<'_>) -> fmt::Result {
    const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let mut metric = family::REQUESTS.begin(encoder)?;
    for (key, traffic) in all {
        let answered = CLASSES
            .into_iter()
            .zip(&traffic.answered)
            .map(|(class, count)| (class, "", count.load(Relaxed)));
        let abandoned = ("4xx", CLOSED_REQUEST, traffic.abandoned.load(Relaxed));
        let refused = Reason::VARIANTS.iter().map(|&reason| {
            let class = usize::from(reason.status().as_u16() / 100) - 1;
            (CLASSES[class], reason.code(), traffic.refused.get(reason))
        });
        for (class, reason, count) in answered.chain([abandoned]).chain(refused) {
            let labels = family::REQUESTS.labelled([&key.namespace, &key.name, class, reason]);
            counter(count, |c| c.encode(metric.encode_family(&labels)?))?;
        }
    }
    Ok(())
}

/// By namespace, deployment and one label more.
fn counters<'a, I: IntoIterator<Item = (&'static str, &'a AtomicU64)>>(
    encoder: &mut DescriptorEncoder<'_>,
    family: &Family,
    all: &All<'a>,
    read: impl Fn(&'a Traffic) -> I,
) -> fmt::Result {
    let mut metric = family.begin(encoder)?;
    for (key, traffic) in all {
        for (value, count) in read(traffic) {
            let labels = family.labelled([&key.namespace, &key.name, value]);
            counter(count.load(Relaxed), |c| c.encode(metric.encode_family(&labels)?))?;
        }
    }
    Ok(())
}

/// By namespace, deployment and one label more.
fn gauges<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    family: &Family,
    all: &All<'_>,
    read: impl Fn(&Traffic) -> [(&'static str, &AtomicI64); N],
) -> fmt::Result {
    let mut metric = family.begin(encoder)?;
    for (key, traffic) in all {
        for (value, count) in read(traffic) {
            let count = count.load(Relaxed);
            if count != 0 {
                let labels = family.labelled([&key.namespace, &key.name, value]);
                ConstGauge::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

/// By namespace and deployment.
fn histograms(
    encoder: &mut DescriptorEncoder<'_>,
    family: &Family,
    all: &All<'_>,
    read: impl Fn(&Traffic) -> &Histogram,
) -> fmt::Result {
    let mut metric = family.begin(encoder)?;
    for (key, traffic) in all {
        let (buckets, sum) = read(traffic).read();
        let count: u64 = buckets.iter().map(|(_, count)| count).sum();
        if count > 0 {
            let labels = family.labelled([&key.namespace, &key.name]);
            metric
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
    }
    Ok(())
}

/// A series begins with its first event: ten thousand Deployments at rest are not a scrape of a million zeros.
fn counter(count: u64, encode: impl FnOnce(ConstCounter<u64>) -> fmt::Result) -> fmt::Result {
    if count == 0 {
        Ok(())
    } else {
        encode(ConstCounter::new(count))
    }
}
