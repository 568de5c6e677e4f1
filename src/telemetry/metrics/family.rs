//! Every metric family by its name, type, labels and meaning: one table for what a scrape says and for what the
//! documentation lists. Labels are bounded: never a host, a path or a client.

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// One family. Names stand without the prefix, and those of counters without `_total`.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

pub const PREFIX: &str = "postern";

macro_rules! families {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub const $id: Family = Family {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// In the order of their names.
        pub const ALL: &[&Family] = &[$(&$id),*];
    };
}

families! {
    ACCESS_LOG_DROPPED = Counter "access_log_dropped" []
        "Lines of the access log that were dropped since stdout did not take them in time";
    BUILD_INFO = Gauge "build_info" ["version"] "The version that runs, as a label";
    CERTIFICATE_EXPIRY = Gauge "certificate_expiry_timestamp_seconds" ["namespace", "secret"]
        "When each certificate that is served expires";
    COMPILE = Histogram "compile_seconds" [] "Time to compile a change";
    DIAL_ATTEMPTS = Counter "dial_attempts" ["namespace", "deployment", "result"] "Attempts to connect to an endpoint";
    ENDPOINTS = Gauge "endpoints" ["namespace", "deployment", "state"]
        "Endpoints of each Deployment: ready or not_ready";
    LEADER = Gauge "leader" [] "1 on the replica that writes status";
    OBJECTS = Gauge "objects" ["kind", "state"]
        "Objects known, by kind and state; last_good: a broken SentinelPolicy whose last good version is in force";
    POLICY_DECISIONS = Counter "policy_decisions" ["namespace", "policy", "rule", "mode", "decision"]
        "Requests that a rule applied to, by how it decided; Shadow rules let all through";
    PROPAGATION = Histogram "propagation_seconds" [] "Time from a source's sight of a change to its being served";
    STORE_ERRORS = Counter "ratelimit_store_errors" [] "Calls to the shared store for limits that failed or came too late";
    REQUEST_DURATION = Histogram "request_duration_seconds" ["namespace", "deployment"]
        "Time to answer plain requests, sockets apart";
    REQUESTS = Counter "requests" ["namespace", "deployment", "code", "reason"]
        "Requests answered, by class of status; reason: why Postern answered, empty where the app did";
    SNAPSHOT_INFO = Gauge "snapshot_info" ["hash"]
        "What is served, by hash: equal on replicas that serve the same";
    SNAPSHOT_VERSION = Gauge "snapshot_version" [] "Swaps of this process";
    STATUS_WRITES = Counter "status_writes" ["result"] "Writes of a status to the apiserver: written, gone or failed";
    TLS_HANDSHAKES = Counter "tls_handshakes" ["result"] "TLS handshakes with clients";
    TRACE_SPANS = Counter "trace_spans" ["result"]
        "Spans of requests: exported; dropped, since too many were waiting; failed, since the collector did not take them";
    UNDECODABLE = Counter "undecodable" ["kind"] "Objects that could not be decoded";
    UPSTREAM_CONNECTIONS = Gauge "upstream_connections" ["namespace", "deployment", "state"]
        "Connections to endpoints, open sockets apart: active or idle";
    WATCH_RESTARTS = Counter "watch_restarts" ["kind"] "Lists and watches that broke and were tried again";
    WEBSOCKET_BYTES = Counter "websocket_bytes" ["namespace", "deployment", "direction"]
        "Bytes relayed in sockets: to_app or to_client";
    WEBSOCKET_DURATION = Histogram "websocket_duration_seconds" ["namespace", "deployment"]
        "From the handshake to the end of a socket";
    WEBSOCKETS_CLOSED = Counter "websockets_closed" ["namespace", "deployment", "closed_by"]
        "Sockets closed, by who ended them first: app, client or postern";
    WEBSOCKETS_OPEN = Gauge "websockets_open" ["namespace", "deployment"] "Open sockets";
    WEBSOCKETS_OPENED = Counter "websockets_opened" ["namespace", "deployment"] "Sockets opened";
}

impl Family {
    /// As queries name it.
    pub fn full_name(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{PREFIX}_{}{suffix}", self.name)
    }

    /// The values of this family's labels, in their order.
    pub fn labelled<'a, const N: usize>(&self, values: [&'a str; N]) -> [(&'static str, &'a str); N] {
        debug_assert_eq!(self.labels.len(), N, "{}", self.name);
        let mut names = self.labels.iter();
        values.map(|value| (names.next().copied().unwrap_or_default(), value))
    }

    /// Begins it in a scrape.
    pub(super) fn begin<'a>(
        &'a self,
        encoder: &'a mut DescriptorEncoder<'_>,
    ) -> Result<MetricEncoder<'a>, std::fmt::Error> {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        encoder.encode_descriptor(self.name, self.help, None, kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_in_the_order_of_their_names() {
        let names: Vec<_> = ALL.iter().map(|family| family.full_name()).collect();
        assert!(names.is_sorted(), "{names:?}");
    }
}
