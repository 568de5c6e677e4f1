//! The SentinelPolicy CRD: what stands before an app. The comments on the fields are what `kubectl explain` prints.
//!
//! Every type here refuses fields that it does not know: one that an older binary ignored could be the condition
//! under which a request is refused.

mod authentication;
mod http;
mod limits;
mod matching;

pub use authentication::{
    Algorithm, ApiKey, BasicAuth, Bearer, CookieCredential, CredentialSource, ForwardAuth, ForwardService,
    HeaderCredential, Jwks, Jwt, QueryCredential, RequiredClaim, SubprotocolCredential,
};
pub use http::{Action, Cors, Firewall, HeaderEdits, HeaderValue, Logging, OpenApi, Origin, Part};
pub use limits::{
    By, ByHeader, ByPrincipalField, ByRemoteIp, ConnectionLimit, Everything, OnStoreFailure, RateLimit, Scope,
};
pub use matching::{HeaderMatch, Match, ParameterMatch, PathMatch, TextMatch};

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Which Deployments the policy stands before, and the rules that a request has to pass.
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
    doc = "What stands before an app: rules that every request, WebSocket upgrades included, has to pass before anything of it reaches the app.",
    printcolumn(
        name = "Targets",
        type_ = "integer",
        json_path = ".status.targets",
        description = "How many Deployments it stands before."
    ),
    printcolumn(
        name = "Rules",
        type_ = "integer",
        json_path = ".status.rules",
        description = "How many of its rules are enabled."
    ),
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.mode",
        description = "Enforce, or Shadow: decides and counts, lets through."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#,
        description = "Whether this generation is understood and has targets."
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
    /// The Deployments that the policy stands before, at most 16. Exactly one of targetRefs and targetSelector.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["group".into(), "kind".into(), "name".into()]))]
    pub target_refs: Vec<TargetRef>,
    /// The Deployments of this namespace that carry these labels. {} selects all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LabelSelector")]
    pub target_selector: Option<LabelSelector>,
    /// Where several policies stand before one Deployment, the higher comes first; of equal ones the older, then the
    /// first by name. Default: 0.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// Enforce, or Shadow: rules decide, are counted and logged, but every request passes, no principal is set and
    /// nothing is taken out of the request. A rule may say otherwise. Default: Enforce.
    #[serde(default)]
    pub mode: Mode,
    /// The rules, in order, 1 to 64; the first refusal ends it. logging comes before all others, and a preflight that cors
    /// answers is asked for no credentials.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<PolicyRule>,
}

/// A Deployment of this namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// Default: postern.dev.
    #[serde(default)]
    pub group: TargetGroup,
    /// Default: Deployment.
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

/// Objects of this namespace by their labels.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// All of these labels have to be there, at most 16. None: every object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels_schema")]
    pub match_labels: BTreeMap<String, String>,
}

/// An object of this namespace by its name.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NameRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Mode {
    #[default]
    Enforce,
    Shadow,
}

/// When it applies (match) and what it does: exactly one of the kinds below.
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
    /// Unique in the policy; names the rule in metrics, logs and messages.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// false: as if the rule were not there. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Enforce or Shadow. Default: the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Mode")]
    pub mode: Option<Mode>,
    /// The requests that the rule applies to: all of these have to hold, at most 16. None: every request.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub matches: Vec<Match>,
    /// Refuses with 403 firewall_denied, or lets past the rest of this policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Firewall")]
    pub firewall: Option<Firewall>,
    /// Authenticates by a key that stands in a labelled Secret. Refuses with 401 missing_credentials or invalid_key, or
    /// 403 insufficient_permissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ApiKey")]
    pub api_key: Option<ApiKey>,
    /// Authenticates by a signed token. Refuses with 401 missing_credentials or invalid_token, 403
    /// insufficient_permissions, or 503 auth_unavailable as long as the keys' URL was never fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Jwt")]
    pub jwt: Option<Jwt>,
    /// Authenticates by user and password. Refuses with 401 missing_credentials or invalid_credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BasicAuth")]
    pub basic_auth: Option<BasicAuth>,
    /// Asks another service. Refuses with that service's own answer, or with 503 auth_unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ForwardAuth")]
    pub forward_auth: Option<ForwardAuth>,
    /// How many requests may pass in a time; a WebSocket is one, whatever it carries. Refuses with 429 rate_limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RateLimit")]
    pub rate_limit: Option<RateLimit>,
    /// How many WebSockets may be open at once. Refuses with 429 too_many_connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConnectionLimit")]
    pub connection_limit: Option<ConnectionLimit>,
    /// Which web pages may call, by the Origin that browsers send. Refuses with 403 origin_denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Origin")]
    pub origin: Option<Origin>,
    /// Validates requests against an OpenAPI document. Refuses with 400 openapi_validation_failed or 413
    /// body_too_large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OpenApi")]
    pub openapi: Option<OpenApi>,
    /// Answers preflights, of which no rule asks who is there, and marks all answers as readable by other origins, those of
    /// rules before it as well. Of several the first that applies counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Cors")]
    pub cors: Option<Cors>,
    /// Changes what the app receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HeaderEdits")]
    pub request_headers: Option<HeaderEdits>,
    /// Changes what the client receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HeaderEdits")]
    pub response_headers: Option<HeaderEdits>,
    /// Adds to the access log. Comes first, so that refusals are logged too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Logging")]
    pub logging: Option<Logging>,
}

/// What Postern made of the object. Written by the elected leader alone.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SentinelPolicyStatus {
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How many Deployments it stands before, those included that name it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub targets: Option<u32>,
    /// How many of its rules are enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub rules: Option<u32>,
}

fn yes() -> bool {
    true
}

/// The derive has no bounds for the values of a map.
fn labels_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
    })
}

#[cfg(test)]
mod tests;
