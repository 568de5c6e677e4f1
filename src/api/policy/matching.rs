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
    /// One of these methods, in capitals, at most 16. GET is not HEAD. A WebSocket is opened by GET, over HTTP/2 too. One that
    /// came in small letters is another, and to some apps the same: firewall's Allow takes it for neither, all else for both.
    /// X-HTTP-Method-Override and the like are not looked at: where an app obeys them, refuse such headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 32), regex(pattern = "^[A-Z][-A-Z]*$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub method: Vec<String>,
    /// A header. Of several lines with that name one has to match; with not: none may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HeaderMatch")]
    pub header: Option<HeaderMatch>,
    /// A parameter of the query, percent-decoded. Of several with that name one has to match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ParameterMatch")]
    pub query: Option<ParameterMatch>,
    /// A cookie. Of several with that name one has to match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ParameterMatch")]
    pub cookie: Option<ParameterMatch>,
    /// The client's address lies in one of these networks, at most 64, such as 10.0.0.0/8 or 2001:db8::/32. The client is
    /// the rightmost hop that is no trusted proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 49)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(network, isCIDR(network))")
            .message("every network is an address and a prefix length, such as 10.0.0.0/8, 192.0.2.7/32 or 2001:db8::/32")
    )]
    pub remote_ip: Vec<String>,
    /// true: requests that open a WebSocket; false: all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub web_socket: Option<bool>,
    /// The condition has not to hold. Default: false.
    #[serde(default)]
    pub not: bool,
}

/// How a path has to read: exactly one of exact, prefix, suffix and regex.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("[has(self.exact), has(self.prefix), has(self.suffix), has(self.regex)].exists_one(kind, kind)")
        .message("needs exactly one of exact, prefix, suffix and regex"),
    validation = Rule::new(
        "(!has(self.exact) || self.exact.startsWith('/')) && (!has(self.prefix) || self.prefix.startsWith('/'))"
    )
    .message("a path begins with /")
)]
pub struct PathMatch {
    /// The whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub exact: Option<String>,
    /// By whole segments: /a covers /a and /a/b, not /ab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub prefix: Option<String>,
    /// How the path ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub suffix: Option<String>,
    /// A regular expression (syntax of Rust's regex, linear time) for the whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 512))]
    pub regex: Option<String>,
    /// Capitals and small letters are the same. Default: false.
    #[serde(default)]
    pub ignore_case: bool,
}

/// How a text has to read: exactly one of exact, prefix, suffix and regex.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("[has(self.exact), has(self.prefix), has(self.suffix), has(self.regex)].exists_one(kind, kind)")
        .message("needs exactly one of exact, prefix, suffix and regex")
)]
pub struct TextMatch {
    /// The whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 1024))]
    pub exact: Option<String>,
    /// How it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub prefix: Option<String>,
    /// How it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub suffix: Option<String>,
    /// A regular expression (syntax of Rust's regex, linear time) for the whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 512))]
    pub regex: Option<String>,
    /// Capitals and small letters are the same. Default: false.
    #[serde(default)]
    pub ignore_case: bool,
}

/// A header's presence or value; without present and value it has to be there.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!(has(self.present) && has(self.value))")
        .message("present and value exclude each other: keep one of them")
)]
pub struct HeaderMatch {
    /// Its name, in any case.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
    /// true: it is there; false: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub present: Option<bool>,
    /// What it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TextMatch")]
    pub value: Option<TextMatch>,
}

/// Presence or value of a query parameter or cookie; without present and value it has to be there.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!(has(self.present) && has(self.value))")
        .message("present and value exclude each other: keep one of them")
)]
pub struct ParameterMatch {
    /// Its name, in this case.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// true: it is there; false: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub present: Option<bool>,
    /// What it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TextMatch")]
    pub value: Option<TextMatch>,
}
