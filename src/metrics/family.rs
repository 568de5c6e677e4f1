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

/// What every family's name begins with.
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
        "Access log lines that were dropped because stdout did not accept them in time";
    BUILD_INFO = Gauge "build_info" ["version"] "Running version, as a label";
    CERTIFICATE_EXPIRY = Gauge "certificate_expiry_timestamp_seconds" ["namespace", "secret"]
        "Expiry time of each certificate that is served";
    CLIENT_CONNECTIONS = Gauge "client_connections" [] "Open client connections, WebSockets over HTTP/1.1 included";
    CLIENT_CONNECTIONS_DISPLACED = Counter "client_connections_displaced" []
        "Idle or stalled client connections that were closed to make room for others";
    CLIENT_CONNECTIONS_REFUSED = Counter "client_connections_refused" []
        "Client connections that were refused because the limit, or their address's share of it, was reached";
    COMPILE = Histogram "compile_seconds" [] "Time to compile a change";
    DESCRIPTORS_FREE = Gauge "descriptors_free_ratio" [] "File descriptors that are free, from 0 to 1";
    DIAL_ATTEMPTS = Counter "dial_attempts" ["namespace", "deployment", "result"] "Attempts to connect to an endpoint, by result";
    ENDPOINTS = Gauge "endpoints" ["namespace", "deployment", "state"]
        "Endpoints of each Deployment, by state: ready or not_ready";
    LEADER = Gauge "leader" [] "1 on the leader, which writes status; 0 on the other replicas";
    MEMORY_FREE = Gauge "memory_free_ratio" [] "Memory that is free, of --max-memory, from 0 to 1";
    OBJECTS = Gauge "objects" ["kind", "state"]
        "Known objects, by kind and state; last_good: an invalid SentinelPolicy whose last good version is in force";
    POLICY_DECISIONS = Counter "policy_decisions" ["namespace", "policy", "rule", "mode", "decision"]
        "Requests that a rule applied to, by its decision; Shadow rules let all of them pass";
    POLICY_MEMORY = Gauge "policy_memory_bytes" ["namespace"]
        "Memory that the compiled SentinelPolicies of a namespace take: regexes, OpenAPI documents, keys and users";
    PORTS_FREE = Gauge "ports_free_ratio" []
        "Local ports that are free toward the endpoint with the fewest, from 0 to 1";
    PROPAGATION = Histogram "propagation_seconds" [] "Time from the arrival of a change until it is served";
    STORE_ERRORS = Counter "ratelimit_store_errors" [] "Calls to the Redis of shared limits that failed or timed out";
    REQUEST_DURATION = Histogram "request_duration_seconds" ["namespace", "deployment"]
        "Duration of requests, without WebSockets";
    REQUESTS = Counter "requests" ["namespace", "deployment", "code", "reason"]
        "Answered requests, by status class; reason: the error code if Postern answered, empty if the app did";
    SNAPSHOT_INFO = Gauge "snapshot_info" ["hash"]
        "Hash of the snapshot that is served: equal on replicas that serve the same configuration";
    SNAPSHOT_VERSION = Gauge "snapshot_version" [] "Number of snapshots that this process has published";
    STATE_SAVES = Counter "state_saves" ["result"] "Attempts to save the state to --state-dir, by result: saved or failed";
    STATE_STALE = Gauge "state_stale" []
        "1 while the state that was saved before a restart is served, because the apiserver has not been listed since; else 0";
    STATUS_WRITES = Counter "status_writes" ["result"] "Status writes to the apiserver, by result: written, gone or failed";
    TLS_HANDSHAKES = Counter "tls_handshakes" ["result"] "TLS handshakes with clients, by result";
    TRACE_SPANS = Counter "trace_spans" ["result"]
        "Spans of requests, by result: exported; dropped, because too many were waiting; failed, because the collector did not accept them";
    UNDECODABLE = Counter "undecodable" ["kind"] "Objects that could not be decoded, by kind";
    UPSTREAM_CONNECTIONS = Gauge "upstream_connections" ["namespace", "deployment", "state"]
        "Connections to endpoints without WebSockets, by state: active or idle";
    WATCH_RESTARTS = Counter "watch_restarts" ["kind"] "Lists and watches that failed and were retried, by kind";
    WEBSOCKET_BYTES = Counter "websocket_bytes" ["namespace", "deployment", "direction"]
        "Bytes relayed in WebSockets, by direction: to_app or to_client";
    WEBSOCKET_DURATION = Histogram "websocket_duration_seconds" ["namespace", "deployment"]
        "Duration of WebSockets, from the handshake to the end";
    WEBSOCKETS_CLOSED = Counter "websockets_closed" ["namespace", "deployment", "closed_by"]
        "Closed WebSockets, by who closed them first: app, client or postern";
    WEBSOCKETS_OPEN = Gauge "websockets_open" ["namespace", "deployment"] "Open WebSockets";
    WEBSOCKETS_OPENED = Counter "websockets_opened" ["namespace", "deployment"] "WebSockets opened";
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
