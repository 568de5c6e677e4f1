//! The kinds of rules that count: rateLimit and connectionLimit.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::duration::Duration;

/// A sliding window: exactly limit requests in the first, limit in any where they come evenly, never twice as many.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.cost <= self.limit").message("cost is at most limit: else no request could pass"))]
pub struct RateLimit {
    /// How many may pass, 1 to 1000000000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub limit: u32,
    /// In which time, 1s to 24h.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')")
            .message("window is at least 1s and at most 24h")
    )]
    pub window: Duration,
    /// Who is counted apart, at most 8 parts, together. None: all requests that the rule applies to count as one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub by: Vec<By>,
    /// What one request costs of the limit. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub cost: u32,
    /// Replica: each replica counts by itself. Shared: all replicas count together, in the store that --redis-url names.
    /// Default: Replica.
    #[serde(default)]
    pub scope: Scope,
    /// What happens under Shared while the store does not answer: Local (this replica's own count), Deny (503
    /// store_unavailable) or Allow. Default: Local.
    #[serde(default)]
    pub on_store_failure: OnStoreFailure,
}

/// At most max WebSockets that are open at once.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionLimit {
    /// How many, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max: u32,
    /// Who is counted apart, at most 8 parts, together. None: all sockets that the rule applies to count as one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub by: Vec<By>,
    /// Replica: each replica counts by itself. Shared: all replicas count together, in the store that --redis-url names;
    /// while it does not answer, by themselves. Default: Replica.
    #[serde(default)]
    pub scope: Scope,
}

/// A part of what is counted apart: exactly one of remoteIp, header, authenticatedSubject, path, principalField and
/// host. One that a request does not have falls back to its remoteIp.
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
    /// The client's address; an IPv6 address by its network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ByRemoteIp")]
    pub remote_ip: Option<ByRemoteIp>,
    /// A header's value. Clients choose it: combine it with a part that they cannot choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ByHeader")]
    pub header: Option<ByHeader>,
    /// The principal's subject, set by an authenticating rule that came before. Written as {}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Everything")]
    pub authenticated_subject: Option<Everything>,
    /// The path without its query; spellings that some apps take for one are one. Written as {}.
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
    /// IPv6 addresses that share so many bits count as one, 1 to 128. Default: 64.
    #[serde(default = "ipv6_prefix_length")]
    #[schemars(range(min = 1, max = 128))]
    pub ipv6_prefix_length: u32,
}

/// A header's value.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ByHeader {
    /// Its name, in any case.
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

/// Nothing to choose.
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
