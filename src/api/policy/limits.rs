//! The kinds of rules that count: rateLimit and connectionLimit.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::duration::Duration;

/// A sliding-window limit: exactly limit requests in the first window, limit in any later window if they arrive evenly,
/// and always less than twice as many.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.cost <= self.limit").message("cost must be at most limit, or else no request could pass"))]
pub struct RateLimit {
    /// Number of requests per window, 1 to 1000000000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub limit: u32,
    /// Length of the window, 1s to 24h.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')")
            .message("window must be at least 1s and at most 24h")
    )]
    pub window: Duration,
    /// Parts of the key by which requests are counted separately, at most 8. If empty, all requests that the rule applies to
    /// count together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub by: Vec<By>,
    /// How much of the limit one request uses up. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub cost: u32,
    /// Replica: each replica counts by itself. Shared: all replicas count together, in the Redis of --redis-url.
    /// Default: Replica.
    #[serde(default)]
    pub scope: Scope,
    /// What happens with scope Shared while Redis does not answer: Local (each replica counts by itself), Deny (503
    /// store_unavailable) or Allow. Default: Local.
    #[serde(default)]
    pub on_store_failure: OnStoreFailure,
}

/// A limit on the number of open WebSockets.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionLimit {
    /// Maximum number of open WebSockets, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max: u32,
    /// Parts of the key by which WebSockets are counted separately, at most 8. If empty, all WebSockets that the rule applies
    /// to count together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub by: Vec<By>,
    /// Replica: each replica counts by itself. Shared: all replicas count together, in the Redis of --redis-url; while
    /// it does not answer, each counts by itself. Default: Replica.
    #[serde(default)]
    pub scope: Scope,
}

/// One part of the key that is counted separately: exactly one of remoteIp, header, authenticatedSubject, path,
/// principalField and host. If a request lacks it, its remoteIp is used instead.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "[has(self.remoteIp), has(self.header), has(self.authenticatedSubject), has(self.path), \
         has(self.principalField), has(self.host)].exists_one(part, part)"
    )
    .message("needs exactly one of remoteIp, header, authenticatedSubject, path, principalField and host")
)]
pub struct By {
    /// The client's address; IPv6 addresses count by network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ByRemoteIp")]
    pub remote_ip: Option<ByRemoteIp>,
    /// The value of a header. Clients choose it: combine it with a part that they cannot choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ByHeader")]
    pub header: Option<ByHeader>,
    /// The principal's subject, as set by an earlier authenticating rule. Written as {}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Everything")]
    pub authenticated_subject: Option<Everything>,
    /// The path without its query; spellings that some apps treat as the same path count as one. Written as {}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Everything")]
    pub path: Option<Everything>,
    /// A field of the principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ByPrincipalField")]
    pub principal_field: Option<ByPrincipalField>,
    /// The hostname. Written as {}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Everything")]
    pub host: Option<Everything>,
}

/// The client's address.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ByRemoteIp {
    /// Number of leading bits, 1 to 128, that IPv6 addresses must share to count as one. Default: 64.
    #[serde(default = "ipv6_prefix_length")]
    #[schemars(range(min = 1, max = 128))]
    pub ipv6_prefix_length: u32,
}

/// The value of a header.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ByHeader {
    /// Its name; case-insensitive.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
}

/// A field of the principal.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ByPrincipalField {
    /// Its path, such as source.key.meta.plan.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[^.]+([.][^.]+)*$"))]
    pub name: String,
}

/// No options.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Everything {}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Scope {
    #[default]
    Replica,
    Shared,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum OnStoreFailure {
    #[default]
    Local,
    Deny,
    Allow,
}

fn one() -> u32 {
    1
}

fn ipv6_prefix_length() -> u32 {
    64
}
