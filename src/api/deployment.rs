//! The Deployment CRD: which hosts reach which app. The comments on the fields are what `kubectl explain` prints.

use std::time::Duration as StdDuration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::duration::Duration;

/// Which hosts and paths reach which Services. A complete object needs hostnames and a service, nothing else: HTTP and
/// WebSockets both work.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "Deployment",
    namespaced,
    status = "DeploymentStatus",
    shortname = "pdeploy",
    category = "postern",
    doc = "Which hosts and paths reach which Services. Served by Postern, over HTTP and WebSockets alike. Not to be confused with deployments.apps: write deployments.postern.dev, or pdeploy.",
    printcolumn(
        name = "Hosts",
        type_ = "string",
        json_path = ".status.hostnames",
        description = "The hostnames that are served."
    ),
    printcolumn(
        name = "Service",
        type_ = "string",
        json_path = ".spec.service.name",
        description = "The Service; empty where backends are listed."
    ),
    printcolumn(
        name = "Endpoints",
        type_ = "integer",
        json_path = ".status.endpoints.ready",
        description = "Ready endpoints of all backends."
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
        .message("service and backends exclude each other: keep one of them"),
    validation = Rule::new(
        "has(self.service) || (has(self.backends) && size(self.backends) > 0) || \
         (has(self.paths) && size(self.paths) > 0 && \
         self.paths.all(p, has(p.service) || (has(p.backends) && size(p.backends) > 0)))"
    )
    .message("needs a service, or backends, or paths of which each names its own"),
    validation = Rule::new(
        "!has(self.tls) || self.tls.all(t, !has(t.hostnames) || \
         t.hostnames.all(h, has(self.hostnames) && self.hostnames.exists(own, own == h)))"
    )
    .message("every hostname of tls also stands in hostnames, written the same"),
    validation = Rule::new(
        "!has(self.tls) || !has(self.hostnames) || self.tls.all(t, !has(t.acme) || \
         (has(t.hostnames) && size(t.hostnames) > 0) || self.hostnames.all(h, !h.startsWith('*')))"
    )
    .message("acme cannot get certificates for wildcards: give it the other hostnames, and the wildcard a Secret")
)]
pub struct DeploymentSpec {
    /// The installation of Postern (its --class) that serves this object and writes its status. Immutable. Default:
    /// postern.
    #[serde(default = "default_class")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("className is immutable"))]
    pub class_name: String,
    /// The hostnames to serve, at most 16, such as app.example.com or *.preview.example.com, where "*." stands for
    /// exactly one label. Without port; internationalized names as A-labels (xn--...). The oldest Deployment that lists
    /// a name decides which namespace owns it. May be empty where the installation has an apex domain: it then serves
    /// <name>-<namespace>.<apex domain>, besides the names listed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(
            "self.all(h, h.matches('^([*][.])?([a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?[.])*\
             [a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?[.]?$'))"
        )
        .message("every hostname is made of labels of letters, digits and inner hyphens, at most 63 characters each; a wildcard is one \"*.\" in front; no port, no scheme, no path")
    )]
    pub hostnames: Vec<String>,
    /// The Service that gets all requests. Exactly one of service and backends, unless every path names its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceRef")]
    pub service: Option<ServiceRef>,
    /// Several Services that share the requests by weight, at most 16. One without a ready endpoint is skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub backends: Vec<BackendRef>,
    /// The paths to serve, at most 32. None: every path. An exact path is tried first, then the longest prefix.
    /// Deployments of one namespace may share a hostname by different paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into(), "type".into()]))]
    pub paths: Vec<PathRule>,
    /// The certificates of the hostnames, at most 16 entries. A hostname with none is served with a default certificate
    /// of the installation that covers it, else with a self-signed one. Several for one hostname stand side by side:
    /// the client's handshake decides, as between ECDSA and RSA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tls: Vec<Tls>,
    /// Client certificates (mutual TLS). Requests that come another way, over plaintext or another hostname's
    /// connection, are refused. Default: none are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClientTls")]
    pub client_tls: Option<ClientTls>,
    /// How apps are met whose Service port has the appProtocol https or kubernetes.io/wss. Default: by the system's
    /// authorities, as <service>.<namespace>.svc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UpstreamTls")]
    pub upstream_tls: Option<UpstreamTls>,
    /// The SentinelPolicies that have to stand before it, at most 16, by name. They are attached whatever their targets
    /// say; while one is missing or not accepted, requests are answered 503 policy_invalid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub policies: Vec<String>,
    /// Where a policy looks at the path: Reject answers 400 ambiguous_path to one that the app could read otherwise
    /// (%2F, %5C, %00, a backslash, encoded dot segments, empty segments). Pass: Deny matches if either reading does,
    /// Allow and not only if both do. Reject also answers so to a path under which the app could read one of another
    /// Deployment on the hostname, with other policies. Default: Reject.
    #[serde(default)]
    pub ambiguous_paths: AmbiguousPaths,
    /// What the app receives as X-Deployment-Id: printable ASCII. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 253),
        regex(pattern = "^[!-~]([ -~]*[!-~])?$")
    )]
    pub deployment_id: Option<String>,
    /// Running, or Stopped: requests are answered 503 and open sockets end. Default: Running.
    #[serde(default)]
    pub state: State,
    /// How long to wait for the app. Durations are written like 250ms, 15m or 1h30m; 0s turns a timeout off. None of
    /// them applies to a WebSocket once it is open.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How a Service's endpoints share the requests.
    #[serde(default)]
    pub balancing: Balancing,
    /// What holds for WebSockets alone.
    #[serde(default)]
    pub web_socket: WebSocket,
}

/// A Service of the Deployment's namespace and one of its ports.
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
    /// The Service.
    pub service: ServiceRef,
    /// Its share, 0 to 1000, relative to the others' sum. 0: none. Default: 1.
    #[serde(default = "default_weight")]
    #[schemars(range(max = 1000))]
    pub weight: u32,
}

/// A path and, if it differs, its Service.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("!(has(self.service) && has(self.backends) && size(self.backends) > 0)")
        .message("service and backends exclude each other: keep one of them")
)]
pub struct PathRule {
    /// Begins with a slash; as clients send it, so percent-encoded where needed; without query and fragment.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.startsWith('/')").message("a path begins with /"),
        validation = Rule::new("self.matches('^[!\"$->@-~]*$')")
            .message("a path is printable ASCII without spaces, \"?\" and \"#\": percent-encode anything else")
    )]
    pub path: String,
    /// Prefix goes by whole segments: /a covers /a and /a/b, not /ab. Exact is the path alone. Default: Prefix.
    #[serde(default)]
    pub r#type: PathType,
    /// The Service for this path. Default: the Deployment's service or backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceRef")]
    pub service: Option<ServiceRef>,
    /// Several Services for this path, by weight, at most 16.
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

/// Where the certificate of some hostnames comes from. Exactly one of secretName and acme.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secretName) != has(self.acme)")
        .message("needs exactly one of secretName and acme"),
    validation = Rule::new("!has(self.acme) || !has(self.hostnames) || self.hostnames.all(h, !h.startsWith('*'))")
        .message("acme cannot get certificates for wildcards")
)]
pub struct Tls {
    /// Hostnames of this Deployment, at most 16. None: all of them; with secretName those that the certificate covers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hostnames: Vec<String>,
    /// Name of a Secret of type kubernetes.io/tls in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    )]
    pub secret_name: Option<String>,
    /// The installation orders a certificate for each hostname by ACME (HTTP-01) and renews it. Written as {}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Acme")]
    pub acme: Option<Acme>,
}

/// Nothing to choose: directory and account are the installation's.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub struct Acme {}

/// Which client certificates are taken, and whether one is needed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// The authorities that sign them.
    pub ca_ref: CaRef,
    /// Required, or Optional: a client without a certificate is served, one with a wrong one is not. Default: Required.
    #[serde(default)]
    pub mode: ClientTlsMode,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum ClientTlsMode {
    #[default]
    Required,
    Optional,
}

/// An object of this namespace that carries the label postern.dev/use: ca, and PEM certificates under the key ca.crt.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct CaRef {
    /// ConfigMap or Secret.
    pub kind: CaKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum CaKind {
    ConfigMap,
    Secret,
}

/// What is expected of an app over TLS, and what is shown to it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpstreamTls {
    /// The authorities that sign the app's certificate. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CaRef")]
    pub ca_ref: Option<CaRef>,
    /// The name that the app's certificate is for, also sent as SNI. Default: <service>.<namespace>.svc.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 253),
        regex(pattern = "^[a-zA-Z0-9]([-.:a-zA-Z0-9]*[a-zA-Z0-9])?$")
    )]
    pub server_name: Option<String>,
    /// The certificate that Postern shows to the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SecretRef")]
    pub client_certificate_ref: Option<SecretRef>,
}

/// A Secret of type kubernetes.io/tls in this namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
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
    /// One attempt to connect to an endpoint. Default: 2s.
    pub connect: Duration,
    /// All attempts to connect together; then 503. Default: 5s.
    pub dial_budget: Duration,
    /// From the request's head sent until the response's head; then 504. Default: 15m.
    pub response: Duration,
    /// Between two pieces of a body, in either direction. Default: 5m.
    pub idle: Duration,
    /// The whole exchange. Default: 0s (off).
    pub total: Duration,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Balancing {
    /// LeastConnections (fewest open requests and sockets), RoundRobin or Random. Default: LeastConnections.
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
    /// From connecting to the app until its answer to the upgrade; then 504. Default: 10s.
    pub handshake_timeout: Duration,
}

/// What Postern made of the object. Written by the elected leader alone.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    /// Accepted, ResolvedRefs and Programmed; PartiallyInvalid while a part of the object is not served;
    /// CertificateExpiring from 14 days before one of its certificates expires.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Endpoints of all backends, each counted once. Updated at most every 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EndpointCounts")]
    pub endpoints: Option<EndpointCounts>,
    /// The hostnames that are served, the assigned one included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub hostnames: Vec<String>,
    /// Where clients reach Postern (--publish-address).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub addresses: Vec<String>,
}

/// How many endpoints there are.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub struct EndpointCounts {
    /// Ready for new requests.
    pub ready: u32,
    /// All that the EndpointSlices list.
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
            handshake_timeout: Duration(StdDuration::from_secs(10)),
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
