//! Which requests a rule applies to.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// One condition on a request: exactly one of path, method, header, query, cookie, remoteIp and webSocket.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "[has(self.path), has(self.method), has(self.header), has(self.query), has(self.cookie), \
         has(self.remoteIp), has(self.webSocket)].exists_one(kind, kind)"
    )
    .message("needs exactly one of path, method, header, query, cookie, remoteIp and webSocket")
)]
pub struct Match {
    /// The path, percent-decoded and with dot segments resolved. See the Deployment's ambiguousPaths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PathMatch")]
    pub path: Option<PathMatch>,
    /// One of these methods, in upper case, at most 16. GET does not include HEAD. A WebSocket counts as GET, also over
    /// HTTP/2. A request method in lower case is a different method that some apps treat as the same: a firewall rule
    /// with Allow matches it as neither, all other rules as both. X-HTTP-Method-Override and similar headers are
    /// ignored: if an app obeys them, refuse such headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 32), regex(pattern = "^[A-Z][-A-Z]*$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub method: Vec<String>,
    /// A header. Of several lines, and of the elements of a list, an app may read any: a rule that protects applies as
    /// soon as one of them would have it so, and a firewall rule with Allow only if all of them do. A field that
    /// Connection names counts as absent, since the app does not receive it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HeaderMatch")]
    pub header: Option<HeaderMatch>,
    /// A query parameter, percent-decoded. Of several of that name any or all must match, as for headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ParameterMatch")]
    pub query: Option<ParameterMatch>,
    /// A cookie. Of several of that name any or all must match, as for headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ParameterMatch")]
    pub cookie: Option<ParameterMatch>,
    /// Networks of the client's address, at most 64, such as 10.0.0.0/8 or 2001:db8::/32. The client is the rightmost
    /// hop that is not a trusted proxy. One that cannot be read is in no network, and Allow never matches it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 49)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(network, isCIDR(network))")
            .message("every network must be an address and a prefix length, such as 10.0.0.0/8, 192.0.2.7/32 or 2001:db8::/32")
    )]
    pub remote_ip: Vec<String>,
    /// true matches requests that open a WebSocket, false all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub web_socket: Option<bool>,
    /// Whether the condition is negated. Default: false.
    #[serde(default)]
    pub not: bool,
}

/// A condition on a path: exactly one of exact, prefix, suffix and regex.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("[has(self.exact), has(self.prefix), has(self.suffix), has(self.regex)].exists_one(kind, kind)")
        .message("needs exactly one of exact, prefix, suffix and regex"),
    validation = Rule::new(
        "(!has(self.exact) || self.exact.startsWith('/')) && (!has(self.prefix) || self.prefix.startsWith('/'))"
    )
    .message("a path must begin with /")
)]
pub struct PathMatch {
    /// The whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub exact: Option<String>,
    /// The beginning of the path, by whole segments: /a matches /a and /a/b, not /ab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub prefix: Option<String>,
    /// The end of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub suffix: Option<String>,
    /// A regular expression (syntax of Rust's regex, linear time) that must match the whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 512))]
    pub regex: Option<String>,
    /// Whether upper and lower case are treated as equal. Default: false.
    #[serde(default)]
    pub ignore_case: bool,
}

/// A condition on a string: exactly one of exact, prefix, suffix and regex.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("[has(self.exact), has(self.prefix), has(self.suffix), has(self.regex)].exists_one(kind, kind)")
        .message("needs exactly one of exact, prefix, suffix and regex")
)]
pub struct TextMatch {
    /// The whole string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 1024))]
    pub exact: Option<String>,
    /// The beginning of the string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub prefix: Option<String>,
    /// The end of the string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub suffix: Option<String>,
    /// A regular expression (syntax of Rust's regex, linear time) that must match the whole string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 512))]
    pub regex: Option<String>,
    /// Whether upper and lower case are treated as equal. Default: false.
    #[serde(default)]
    pub ignore_case: bool,
}

/// A condition on a header's presence or value; without present and value, the header must be present.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!(has(self.present) && has(self.value))")
        .message("present and value are mutually exclusive: keep one of them")
)]
pub struct HeaderMatch {
    /// Its name; case-insensitive.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
    /// true: it must be present; false: it must be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub present: Option<bool>,
    /// Condition on its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TextMatch")]
    pub value: Option<TextMatch>,
}

/// A condition on the presence or value of a query parameter or cookie; without present and value, it must be present.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!(has(self.present) && has(self.value))")
        .message("present and value are mutually exclusive: keep one of them")
)]
pub struct ParameterMatch {
    /// Its name; case-sensitive.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// true: it must be present; false: it must be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub present: Option<bool>,
    /// Condition on its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TextMatch")]
    pub value: Option<TextMatch>,
}
