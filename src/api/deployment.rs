//! The Deployment CRD: which hosts reach which app. The comments on the fields are what `kubectl explain` prints.

mod tls;

pub use tls::{Acme, CaRef, ClientTls, ClientTlsMode, HolderKind, SecretRef, Tls, UpstreamTls};

use std::time::Duration as StdDuration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::duration::Duration;

/// The hostnames and paths of an app and the Services that they lead to. Only hostnames and a service are needed; HTTP
/// and WebSockets both work.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "Deployment",
    namespaced,
    status = "DeploymentStatus",
    shortname = "pdeploy",
    category = "postern",
    doc = "A Deployment leads hostnames and paths to Services; Postern serves them over HTTP and WebSockets. Not to be confused with deployments.apps: write deployments.postern.dev, or pdeploy.",
    printcolumn(
        name = "Hosts",
        type_ = "string",
        json_path = ".status.hostnames",
        description = "Hostnames that are served."
    ),
    printcolumn(
        name = "Service",
        type_ = "string",
        json_path = ".spec.service.name",
        description = "The Service; empty if backends are used instead."
    ),
    printcolumn(
        name = "Endpoints",
        type_ = "integer",
        json_path = ".status.endpoints.ready",
        description = "Number of ready endpoints of all backends."
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Programmed")].status"#,
        description = "Whether this generation is served."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.status=="False")].reason"#,
        description = "Why a condition is False.",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.service) && has(self.backends) && size(self.backends) > 0)")
        .message("service and backends are mutually exclusive: keep one of them"),
    validation = Rule::new(
        "has(self.service) || (has(self.backends) && size(self.backends) > 0) || \
         (has(self.paths) && size(self.paths) > 0 && \
         self.paths.all(p, has(p.service) || (has(p.backends) && size(p.backends) > 0)))"
    )
    .message("set service or backends, or list paths that each set their own"),
    validation = Rule::new(
        "!has(self.tls) || self.tls.all(t, !has(t.hostnames) || \
         t.hostnames.all(h, has(self.hostnames) && self.hostnames.exists(own, own == h)))"
    )
    .message("every hostname in tls must also be listed in spec.hostnames, in the same spelling"),
    validation = Rule::new(
        "!has(self.tls) || !has(self.hostnames) || self.tls.all(t, !has(t.acme) || \
         (has(t.hostnames) && size(t.hostnames) > 0) || self.hostnames.all(h, !h.startsWith('*')))"
    )
    .message("acme cannot issue wildcard certificates: list the other hostnames in the acme entry, and use secretName for the wildcard")
)]
pub struct DeploymentSpec {
    /// The class (--class) of the Postern installation that serves this object and writes its status. Immutable.
    /// Default: postern.
    #[serde(default = "default_class")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("className is immutable"))]
    pub class_name: String,
    /// The hostnames to serve, at most 16, such as app.example.com or *.preview.example.com, where "*." stands for
    /// exactly one label. No port; internationalized names as A-labels (xn--...). A name belongs to the namespace of
    /// the oldest Deployment that lists it. If the installation has an apex domain, <name>-<namespace>.<apex domain> is
    /// served in addition, and this list may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(
            "self.all(h, h.matches('^([*][.])?([a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?[.])*\
             [a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?[.]?$'))"
        )
        .message("a hostname consists of labels of letters, digits and inner hyphens, at most 63 characters each; a wildcard is one leading \"*.\"; port, scheme and path are not allowed")
    )]
    pub hostnames: Vec<String>,
    /// The Service that receives all requests. Exactly one of service and backends is required, unless every path names
    /// its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceRef")]
    pub service: Option<ServiceRef>,
    /// Services that share the requests by weight, at most 16. A Service without a ready endpoint is skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub backends: Vec<BackendRef>,
    /// The paths to serve, at most 32. If empty, every path is served. An exact match wins over a prefix, a longer
    /// prefix over a shorter one. Deployments of the same namespace may share a hostname if their paths differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into(), "type".into()]))]
    pub paths: Vec<PathRule>,
    /// The certificates of the hostnames, at most 16 entries. A hostname without one uses a default certificate of the
    /// installation that covers it, or else a self-signed one. If a hostname has several, such as ECDSA and RSA, the
    /// client's handshake decides between them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tls: Vec<Tls>,
    /// Client certificates (mutual TLS). Requests over plaintext or over a connection to another hostname are refused.
    /// Default: no client certificate is requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClientTls")]
    pub client_tls: Option<ClientTls>,
    /// TLS to apps whose Service port has the appProtocol https or kubernetes.io/wss. Default: the system's certificate
    /// authorities, and the server name <service>.<namespace>.svc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UpstreamTls")]
    pub upstream_tls: Option<UpstreamTls>,
    /// Names of SentinelPolicies that must apply to this Deployment, at most 16. They apply even if their targets do
    /// not include it; while one is missing or not accepted, requests are answered 503 policy_invalid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub policies: Vec<String>,
    /// What happens to a path that the app may interpret differently (%2F, %5C, %00, a backslash, encoded dot segments,
    /// empty segments) when a policy depends on the path. Reject: the answer is 400 ambiguous_path; the same applies
    /// where Deployments on the hostname have different policies. Pass: Deny matches if any interpretation does, Allow
    /// only if all do; a path that the app could interpret as one of another Deployment with other policies is still
    /// refused. Default: Reject.
    #[serde(default)]
    pub ambiguous_paths: AmbiguousPaths,
    /// The value that the app receives as X-Deployment-Id, in printable ASCII. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 253),
        regex(pattern = "^[!-~]([ -~]*[!-~])?$")
    )]
    pub deployment_id: Option<String>,
    /// Running or Stopped. While Stopped, requests are answered 503 and open WebSockets are closed. Default: Running.
    #[serde(default)]
    pub state: State,
    /// Timeouts toward the app. Durations are written like 250ms, 15m or 1h30m; 0s turns a timeout off. None of them
    /// applies to an open WebSocket.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Load balancing over a Service's endpoints.
    #[serde(default)]
    pub balancing: Balancing,
    /// Settings for WebSockets only.
    #[serde(default)]
    pub web_socket: WebSocket,
}

/// A Service in the Deployment's namespace and one of its ports.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ServiceRef {
    /// Name of a Service in this namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A port of the Service: its number (1 to 65535) or its name.
    #[schemars(schema_with = "port_schema")]
    pub port: IntOrString,
}

/// A Service and its share of the requests.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct BackendRef {
    /// The Service that receives the share.
    pub service: ServiceRef,
    /// The Service's share of the requests, 0 to 1000, relative to the sum of all weights. 0 means no requests.
    /// Default: 1.
    #[serde(default = "default_weight")]
    #[schemars(range(max = 1000))]
    pub weight: u32,
}

/// A path, and its Service if that differs from the Deployment's.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("!(has(self.service) && has(self.backends) && size(self.backends) > 0)")
        .message("service and backends are mutually exclusive: keep one of them")
)]
pub struct PathRule {
    /// The path as clients send it: it begins with a slash, is percent-encoded where needed, and has no query and no
    /// fragment.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.startsWith('/')").message("a path must begin with /"),
        validation = Rule::new("self.matches('^[!\"$->@-~]*$')")
            .message("a path must be printable ASCII without spaces, \"?\" and \"#\": percent-encode anything else")
    )]
    pub path: String,
    /// Prefix matches whole segments: /a matches /a and /a/b, not /ab. Exact matches only the path itself. Default:
    /// Prefix.
    #[serde(default)]
    pub r#type: PathType,
    /// The Service for this path. Default: the Deployment's service or backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceRef")]
    pub service: Option<ServiceRef>,
    /// Services that share the requests for this path by weight, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub backends: Vec<BackendRef>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum PathType {
    #[default]
    Prefix,
    Exact,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum State {
    #[default]
    Running,
    Stopped,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum AmbiguousPaths {
    #[default]
    Reject,
    Pass,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// Timeout of one attempt to connect to an endpoint. Default: 2s.
    pub connect: Duration,
    /// Timeout of all attempts to connect together; then the answer is 503. Default: 5s.
    pub dial_budget: Duration,
    /// Timeout from sending the request head until the response head arrives; then the answer is 504. Default: 15m.
    pub response: Duration,
    /// Timeout between two pieces of a body, in either direction. Default: 5m.
    pub idle: Duration,
    /// Timeout of the whole exchange. Default: 0s (off).
    pub total: Duration,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Balancing {
    /// LeastConnections (fewest open requests and WebSockets), RoundRobin or Random. Default: LeastConnections.
    pub strategy: Strategy,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Strategy {
    #[default]
    LeastConnections,
    RoundRobin,
    Random,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebSocket {
    /// Timeout from connecting to the app until it answers the upgrade request; then the answer is 504. Default: 60s.
    pub handshake_timeout: Duration,
}

/// The observed state. Only the elected leader writes it.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    /// Accepted, ResolvedRefs and Programmed; also PartiallyInvalid while a part of the object is not served, and
    /// CertificateExpiring from 14 days before one of its certificates expires.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Number of endpoints of all backends, each counted once. Updated at most every 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EndpointCounts")]
    pub endpoints: Option<EndpointCounts>,
    /// The hostnames that are served, including the one under the apex domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub hostnames: Vec<String>,
    /// The addresses where clients reach Postern (--publish-address).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub addresses: Vec<String>,
}

/// Numbers of endpoints.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub struct EndpointCounts {
    /// Endpoints that are ready for new requests.
    pub ready: u32,
    /// All endpoints in the EndpointSlices.
    pub total: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration(StdDuration::from_secs(2)),
            dial_budget: Duration(StdDuration::from_secs(5)),
            response: Duration(StdDuration::from_secs(15 * 60)),
            idle: Duration(StdDuration::from_secs(5 * 60)),
            total: Duration(StdDuration::ZERO),
        }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration(StdDuration::from_secs(60)),
        }
    }
}

fn default_class() -> String {
    "postern".to_owned()
}

fn default_weight() -> u32 {
    1
}

/// A structural schema knows "integer or string" only by its extension. The bounds of the one type do not apply to the
/// other; the pattern is that of a DNS label (RFC 1123), which Service ports are named by, with at least one letter: "80" is a
/// number in quotes.
pub(super) fn port_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 1,
        "maximum": 65535,
        "minLength": 1,
        "maxLength": 63,
        "pattern": "^([0-9][-0-9]*)?[a-z]([-a-z0-9]*[a-z0-9])?$",
    })
}
