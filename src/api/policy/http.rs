//! The kinds of rules that look at the request as such or change it: firewall, origin, openapi, cors, requestHeaders,
//! responseHeaders and logging.

use kube::KubeSchema;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference::NameRef;
use super::schema::yes;
use crate::api::duration::Duration;

/// The decision for a matching request.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Firewall {
    /// Deny refuses the request. Allow skips the remaining rules of this policy, but not those of other policies.
    pub action: Action,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Action {
    Deny,
    Allow,
}

/// The values of the Origin header that are allowed.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Origin {
    /// Allowed origins, 1 to 32: such as https://app.example.com, https://*.example.com where "*." stands for exactly
    /// one label, or same-host for the host of the request itself.
    #[schemars(
        length(min = 1, max = 32),
        inner(
            length(min = 1, max = 300),
            regex(
                pattern = r"^(same-host|[a-z][-+.a-z0-9]*://([*][.])?([a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?)$"
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed: Vec<String>,
    /// Whether a request without an Origin header passes; such a request does not come from a web page. Default: true.
    #[serde(default = "yes")]
    pub allow_missing: bool,
}

/// Validation of requests against an OpenAPI document (3.0 or 3.1).
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenApi {
    /// A ConfigMap with the label postern.dev/use: openapi, and the document under the key openapi.yaml or
    /// openapi.json.
    pub document_ref: NameRef,
    /// Parts of the request that are validated in addition to path and method. Default: all of them.
    #[serde(default = "all_parts")]
    #[schemars(length(max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub validate: Vec<Part>,
    /// Maximum size of a request body in bytes, 1 to 16777216, when bodies are validated; a larger one is refused with
    /// 413. Default: 1048576.
    #[serde(default = "max_body_bytes")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub max_body_bytes: u32,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Part {
    PathParameters,
    Query,
    Headers,
    Cookies,
    Body,
}

/// The web pages of other origins that may read the responses (https://fetch.spec.whatwg.org/#http-cors-protocol).
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "!self.credentials || !(self.origins.exists(o, o == '*') || \
         (has(self.headers) && self.headers.exists(h, h == '*')) || \
         (has(self.exposed) && self.exposed.exists(h, h == '*')))"
    )
    .message("with credentials: true, \"*\" is not allowed in origins, headers and exposed: list the values")
)]
pub struct Cors {
    /// Allowed origins, 1 to 32: such as https://app.example.com, https://*.example.com where "*." stands for exactly
    /// one label, or "*" for all.
    #[schemars(
        length(min = 1, max = 32),
        inner(
            length(min = 1, max = 300),
            regex(
                pattern = r"^([*]|[a-z][-+.a-z0-9]*://([*][.])?([a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?)$"
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub origins: Vec<String>,
    /// Methods that pages may use, in upper case, at most 16. Default: [GET, HEAD, POST].
    #[serde(default = "simple_methods")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 32), regex(pattern = "^[A-Z][-A-Z]*$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub methods: Vec<String>,
    /// Request headers that pages may set, at most 32, or "*". Default: only those that need no preflight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub headers: Vec<String>,
    /// Response headers that pages may read, at most 32, or "*". Default: only the CORS-safelisted ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exposed: Vec<String>,
    /// Whether pages may send credentials such as cookies. Default: false.
    #[serde(default)]
    pub credentials: bool,
    /// How long browsers may cache the answer to a preflight, at most 24h. Default: the browser's own default of some
    /// seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("maxAge must be at most 24h"))]
    pub max_age: Option<Duration>,
}

/// Edits of header fields, applied in the order remove, set, add.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.set) || has(self.add) || has(self.remove)")
        .message("needs at least one of set, add and remove")
)]
pub struct HeaderEdits {
    /// Header lines that replace all lines of the same name, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub set: Vec<HeaderValue>,
    /// Header lines that are added to existing lines of the same name, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub add: Vec<HeaderValue>,
    /// Names of headers whose lines are removed, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set, validation = unreserved_names())]
    pub remove: Vec<String>,
}

/// A header line.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderValue {
    /// Its name; case-insensitive. Names that Postern, trusted proxies or the protocol set are not allowed.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    #[x_kube(validation = unreserved_name())]
    pub name: String,
    /// Its value in printable ASCII; may be empty.
    #[schemars(length(max = 4096), regex(pattern = "^([!-~]([ -~]*[!-~])?)?$"))]
    pub value: String,
}

/// Additional fields of the access log. Credentials are always redacted.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Logging {
    /// Request headers to log, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub request_headers: Vec<String>,
    /// Response headers to log, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub response_headers: Vec<String>,
    /// Whether the query is logged. Default: false.
    #[serde(default)]
    pub query: bool,
    /// Percentage of the requests to which this applies, 1 to 100. Default: 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 100))]
    pub sample: u32,
}

/// Names that no rule may touch: what Postern tells the app, what trusted proxies tell Postern, and what belongs to the
/// connection (RFC 9110 section 7.6.1), to a message's framing or ends a loop (RFC 8586). CGI-like apps read "_" as "-".
const RESERVED: &str = "'(?i)^(x[-_]postern[-_].*|x[-_]forwarded[-_].*|x[-_]deployment[-_]id|x[-_]real[-_]ip|x[-_]request[-_]id|\
forwarded|cdn[-_]loop|host|connection|content[-_]length|expect|http2[-_]settings|keep[-_]alive|proxy[-_].*|\
sec[-_]websocket[-_].*|te|trailer|transfer[-_]encoding|upgrade)$'";

const RESERVED_MESSAGE: &str = "these headers are reserved for Postern or the connection: x-postern-*, x-forwarded-*, x-deployment-id, x-real-ip, x-request-id, forwarded, cdn-loop, host, content-length, expect, sec-websocket-* and the hop-by-hop headers";

fn unreserved_name() -> Rule {
    Rule::new(format!("!self.matches({RESERVED})")).message(RESERVED_MESSAGE)
}

pub(super) fn unreserved_names() -> Rule {
    Rule::new(format!("self.all(name, !name.matches({RESERVED}))")).message(RESERVED_MESSAGE)
}

fn all_parts() -> Vec<Part> {
    use Part::{Body, Cookies, Headers, PathParameters, Query};
    vec![PathParameters, Query, Headers, Cookies, Body]
}

fn max_body_bytes() -> u32 {
    1_048_576
}

fn simple_methods() -> Vec<String> {
    ["GET", "HEAD", "POST"].map(str::to_owned).to_vec()
}

fn hundred() -> u32 {
    100
}
