//! The SentinelPolicy CRD: what stands before an app. The comments on the fields are what `kubectl explain` prints.
//!
//! Every type here refuses fields that it does not know: one that an older binary ignored could be the condition
//! under which a request is refused.

mod authentication;
mod http;
mod limits;
mod matching;
mod reference;
mod schema;

pub use authentication::{
    Algorithm, ApiKey, BasicAuth, Bearer, CookieCredential, CredentialSource, ForwardAuth, ForwardService,
    HeaderCredential, Jwks, Jwt, QueryCredential, RequiredClaim, SubprotocolCredential,
};
pub use http::{Action, Cors, Firewall, HeaderEdits, HeaderValue, Logging, OpenApi, Origin, Part};
pub use limits::{
    By, ByHeader, ByPrincipalField, ByRemoteIp, ConnectionLimit, Everything, OnStoreFailure, RateLimit, Scope,
};
pub use matching::{HeaderMatch, Match, ParameterMatch, PathMatch, TextMatch};
pub use reference::{LabelSelector, NameRef};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use schema::yes;

/// The Deployments that the policy applies to, and the rules that their requests must pass.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "SentinelPolicy",
    plural = "sentinelpolicies",
    namespaced,
    status = "SentinelPolicyStatus",
    shortname = "spol",
    category = "postern",
    doc = "A SentinelPolicy protects apps: every request, including WebSocket upgrades, must pass its rules before any part of it reaches the app.",
    printcolumn(
        name = "Targets",
        type_ = "integer",
        json_path = ".status.targets",
        description = "Number of Deployments that the policy applies to."
    ),
    printcolumn(
        name = "Rules",
        type_ = "integer",
        json_path = ".status.rules",
        description = "Number of enabled rules."
    ),
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.mode",
        description = "Enforce, or Shadow: rules decide and are counted, but every request passes."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#,
        description = "Whether this generation is valid and has targets."
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Programmed")].status"#,
        description = "Whether this generation is served."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.targetRefs) != has(self.targetSelector)")
        .message("needs exactly one of targetRefs and targetSelector")
)]
pub struct SentinelPolicySpec {
    /// The Deployments that the policy applies to, by name, at most 16. Exactly one of targetRefs and targetSelector is
    /// required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["group".into(), "kind".into(), "name".into()]))]
    pub target_refs: Vec<TargetRef>,
    /// Selects the Deployments in this namespace by their labels. {} selects all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LabelSelector")]
    pub target_selector: Option<LabelSelector>,
    /// Order of several policies of one Deployment: the highest priority comes first, at equal priority the oldest,
    /// then the first by name. Default: 0.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// Enforce or Shadow. In Shadow mode, rules decide and are counted and logged, but every request passes, no
    /// principal is set and nothing is removed from the request. A rule may override the mode. Default: Enforce.
    #[serde(default)]
    pub mode: Mode,
    /// The rules in order, 1 to 64; the first refusal ends the evaluation. logging rules come before all others, and a
    /// CORS preflight that a cors rule answers needs no credentials.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<PolicyRule>,
}

/// A Deployment in this namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// API group of the target. Default: postern.dev.
    #[serde(default)]
    pub group: TargetGroup,
    /// Kind of the target. Default: Deployment.
    #[serde(default)]
    pub kind: TargetKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum TargetGroup {
    #[default]
    #[serde(rename = "postern.dev")]
    Postern,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum TargetKind {
    #[default]
    Deployment,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Mode {
    #[default]
    Enforce,
    Shadow,
}

/// When the rule applies (match) and what it does: exactly one of the kinds below.
// Not named Rule: inside derived schemas that is kube's.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "[has(self.firewall), has(self.apiKey), has(self.jwt), has(self.basicAuth), has(self.forwardAuth), \
         has(self.rateLimit), has(self.connectionLimit), has(self.origin), has(self.openapi), has(self.cors), \
         has(self.requestHeaders), has(self.responseHeaders), has(self.logging)].exists_one(kind, kind)"
    )
    .message("needs exactly one of firewall, apiKey, jwt, basicAuth, forwardAuth, rateLimit, connectionLimit, origin, openapi, cors, requestHeaders, responseHeaders and logging")
)]
pub struct PolicyRule {
    /// Name of the rule in metrics, logs and messages; unique within the policy.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Whether the rule is in use. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Enforce or Shadow. Default: the policy's mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Mode")]
    pub mode: Option<Mode>,
    /// Conditions on the request, at most 16; the rule applies if all of them hold. If empty, it applies to every
    /// request.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub matches: Vec<Match>,
    /// Denies a request with 403 firewall_denied, or lets it skip the rest of this policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Firewall")]
    pub firewall: Option<Firewall>,
    /// Authenticates by an API key that is stored in a labelled Secret. Refuses with 401 missing_credentials or
    /// invalid_key, or with 403 insufficient_permissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ApiKey")]
    pub api_key: Option<ApiKey>,
    /// Authenticates by a signed token (JWT). Refuses with 401 missing_credentials or invalid_token, with 403
    /// insufficient_permissions, or with 503 auth_unavailable until jwks.url has been fetched for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Jwt")]
    pub jwt: Option<Jwt>,
    /// Authenticates by user name and password. Refuses with 401 missing_credentials or invalid_credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BasicAuth")]
    pub basic_auth: Option<BasicAuth>,
    /// Asks another service whether the request may pass. Refuses with that service's response, or with 503
    /// auth_unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ForwardAuth")]
    pub forward_auth: Option<ForwardAuth>,
    /// Limits the number of requests per time window; a WebSocket counts as one request, however many messages it
    /// carries. Refuses with 429 rate_limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RateLimit")]
    pub rate_limit: Option<RateLimit>,
    /// Limits the number of open WebSockets. Refuses with 429 too_many_connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConnectionLimit")]
    pub connection_limit: Option<ConnectionLimit>,
    /// Allows requests from certain web pages only, by the Origin header that browsers send. Refuses with 403
    /// origin_denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Origin")]
    pub origin: Option<Origin>,
    /// Validates requests against an OpenAPI document. Refuses with 400 openapi_validation_failed or 413
    /// body_too_large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OpenApi")]
    pub openapi: Option<OpenApi>,
    /// Answers CORS preflights, which need no credentials, and adds CORS headers to all responses, refusals by earlier
    /// rules included. If several cors rules apply, the first one is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Cors")]
    pub cors: Option<Cors>,
    /// Edits the request headers that the app receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HeaderEdits")]
    pub request_headers: Option<HeaderEdits>,
    /// Edits the response headers that the client receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HeaderEdits")]
    pub response_headers: Option<HeaderEdits>,
    /// Adds fields to the access log. Evaluated first, so that refusals are logged too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Logging")]
    pub logging: Option<Logging>,
}

/// The observed state. Only the elected leader writes it.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SentinelPolicyStatus {
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Number of Deployments that the policy applies to, including those that name it in spec.policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub targets: Option<u32>,
    /// Number of enabled rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub rules: Option<u32>,
}

#[cfg(test)]
mod tests;
