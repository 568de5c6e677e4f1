//! The kinds of rules that tell who calls: apiKey, jwt, basicAuth and forwardAuth.

use std::time::Duration as StdDuration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::unreserved_names;
use super::reference::{LabelSelector, NameRef};
use super::schema::yes;
use crate::api::deployment::port_schema;
use crate::api::duration::Duration;

/// API keys in Secrets of this namespace that have the label postern.dev/use: api-key.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.secretSelector) != has(self.secretRefs)")
        .message("needs exactly one of secretSelector and secretRefs")
)]
pub struct ApiKey {
    /// Selects Secrets by further labels. {} selects all api-key Secrets of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LabelSelector")]
    pub secret_selector: Option<LabelSelector>,
    /// The Secrets by name, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secret_refs: Vec<NameRef>,
    /// Where the request may carry the key, at most 8 places; the first one that is not empty is used. Default:
    /// [{bearer: {}}].
    #[serde(default = "bearer")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub from: Vec<CredentialSource>,
    /// Permissions that the key must have, such as chat.read AND (chat.write OR admin). AND binds tighter than OR.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1000))]
    pub permissions: Option<String>,
    /// Whether a request without a key passes as anonymous; a request with a wrong key is still refused. Default:
    /// false.
    #[serde(default)]
    pub optional: bool,
}

/// A place in the request: exactly one of bearer, header, query, cookie and subprotocol.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "[has(self.bearer), has(self.header), has(self.query), has(self.cookie), has(self.subprotocol)]\
         .exists_one(place, place)"
    )
    .message("needs exactly one of bearer, header, query, cookie and subprotocol")
)]
pub struct CredentialSource {
    /// Authorization: Bearer. Written as {}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Bearer")]
    pub bearer: Option<Bearer>,
    /// A request header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HeaderCredential")]
    pub header: Option<HeaderCredential>,
    /// A query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "QueryCredential")]
    pub query: Option<QueryCredential>,
    /// A cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CookieCredential")]
    pub cookie: Option<CookieCredential>,
    /// An entry of Sec-WebSocket-Protocol, which is what a browser's WebSocket can send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SubprotocolCredential")]
    pub subprotocol: Option<SubprotocolCredential>,
    /// Whether the app also receives the credential. Default: false for query and subprotocol, true for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub forward: Option<bool>,
}

/// No options.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bearer {}

/// A header that holds a credential.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderCredential {
    /// Its name; case-insensitive.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
    /// Text before the credential, such as "Token ", compared without regard to case. A value without this prefix
    /// carries no credential. Default: no prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 64), regex(pattern = "^[ -~]+$"))]
    pub prefix: Option<String>,
}

/// A query parameter that holds a credential.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct QueryCredential {
    /// Its name, percent-decoded; case-sensitive.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
}

/// A cookie that holds a credential.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CookieCredential {
    /// Its name; case-sensitive.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
}

/// A subprotocol that holds a credential.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SubprotocolCredential {
    /// Text before the credential, such as "bearer.".
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub prefix: String,
}

/// Signed tokens (JWT). A token without an expiry time (exp) is refused.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    /// Required value of the claim iss.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// Accepted audiences, at most 16: the claim aud must contain one of them. An explicit empty list disables the
    /// check of aud.
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub audiences: Vec<String>,
    /// The public keys that verify the tokens.
    pub jwks: Jwks,
    /// Accepted signature algorithms, whatever the token itself names.
    #[schemars(length(min = 1, max = 9))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub algorithms: Vec<Algorithm>,
    /// Tolerated difference between clocks, at most 10m. Default: 30s.
    #[serde(default = "clock_skew")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('10m')").message("clockSkew must be at most 10m"))]
    pub clock_skew: Duration,
    /// Claim that becomes the principal's subject. Default: sub.
    #[serde(default = "subject_claim")]
    #[schemars(length(min = 1, max = 128))]
    pub subject_claim: String,
    /// Claims that the token must have, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["claim".into()]))]
    pub required_claims: Vec<RequiredClaim>,
    /// Permissions that the token must have, such as chat.read AND (chat.write OR admin). AND binds tighter than OR.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1000))]
    pub permissions: Option<String>,
    /// Claim that lists the token's permissions: an array, or a string separated by spaces such as scope. Default:
    /// permissions.
    #[serde(default = "permissions_claim")]
    #[schemars(length(min = 1, max = 128))]
    pub permissions_claim: String,
    /// Where the request may carry the token, at most 8 places; the first one that is not empty is used. Default:
    /// [{bearer: {}}].
    #[serde(default = "bearer")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub from: Vec<CredentialSource>,
    /// Whether a request without a token passes as anonymous; a request with an invalid token is still refused.
    /// Default: false.
    #[serde(default)]
    pub optional: bool,
}

/// The source of the JSON Web Key Set: exactly one of url, secretRef and configMapRef.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("[has(self.url), has(self.secretRef), has(self.configMapRef)].exists_one(kind, kind)")
        .message("needs exactly one of url, secretRef and configMapRef")
)]
pub struct Jwks {
    /// URL of the set, which Postern fetches and refreshes; redirects are not followed. Addresses that are not public
    /// are refused unless --allow-egress lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 1024),
        regex(pattern = r"^https?://[-.:a-zA-Z0-9\[\]]+([/?][!-~]*)?$")
    )]
    pub url: Option<String>,
    /// A Secret with the label postern.dev/use: jwks, and the set under the key jwks.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NameRef")]
    pub secret_ref: Option<NameRef>,
    /// A ConfigMap with the label postern.dev/use: jwks, and the set under the key jwks.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NameRef")]
    pub config_map_ref: Option<NameRef>,
}

/// A public-key signature algorithm of RFC 7518 or RFC 8037.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// A top-level claim of the token.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredClaim {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    pub claim: String,
    /// Required value: this string, or an array that contains it. Default: any value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 512))]
    pub value: Option<String>,
}

/// User names and passwords (HTTP Basic, RFC 7617).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicAuth {
    /// A Secret with the label postern.dev/use: htpasswd, and lines of user:hash under the key auth. Hashes are bcrypt
    /// or argon2.
    pub secret_ref: NameRef,
    /// The realm in WWW-Authenticate, which browsers may show when they ask for the password. Default: postern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 128), regex(pattern = r#"^[ !#-\[\]-~]+$"#))]
    pub realm: Option<String>,
    /// Whether the app also receives user name and password. Default: true.
    #[serde(default = "yes")]
    pub forward: bool,
}

/// A service that decides whether a request may pass; it receives a GET without a body. Exactly one of url and service
/// is required.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.url) != has(self.service)").message("needs exactly one of url and service")
)]
pub struct ForwardAuth {
    /// URL of the service. Addresses that are not public are refused unless --allow-egress lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 1024),
        regex(pattern = r"^https?://[-.:a-zA-Z0-9\[\]]+([/?][!-~]*)?$")
    )]
    pub url: Option<String>,
    /// A Service in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ForwardService")]
    pub service: Option<ForwardService>,
    /// Timeout of the whole exchange with the service, at most 5s. Default: 2s.
    #[serde(default = "forward_timeout")]
    #[x_kube(
        validation = Rule::new("duration(self) > duration('0s') && duration(self) <= duration('5s')")
            .message("timeout must be more than 0s and at most 5s")
    )]
    pub timeout: Duration,
    /// Request headers of the client that the service receives, at most 32, in addition to X-Forwarded-Method, -Proto,
    /// -Host, -Uri and -For. Default: [Authorization, Cookie].
    #[serde(default = "forwarded_headers")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub request_headers: Vec<String>,
    /// Headers of a 2xx response of the service that the app receives in place of the client's, at most 32. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set, validation = unreserved_names())]
    pub response_headers: Vec<String>,
    /// Header of the service's response that holds the principal's subject. Default: no principal is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 128),
        regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")
    )]
    pub subject_header: Option<String>,
    /// Whether requests pass, without a principal, while the service does not answer or answers 5xx. Default: false.
    #[serde(default)]
    pub fail_open: bool,
}

/// A Service, one of its ports, and the path of the request to it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForwardService {
    /// Name of a Service in this namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A port of the Service: its number (1 to 65535) or its name.
    #[schemars(schema_with = "port_schema")]
    pub port: IntOrString,
    /// Path of the request to the service. Default: /.
    #[serde(default = "root")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[!-~]*$"))]
    pub path: String,
}

fn bearer() -> Vec<CredentialSource> {
    vec![CredentialSource {
        bearer: Some(Bearer {}),
        header: None,
        query: None,
        cookie: None,
        subprotocol: None,
        forward: None,
    }]
}

fn clock_skew() -> Duration {
    Duration(StdDuration::from_secs(30))
}

fn subject_claim() -> String {
    "sub".to_owned()
}

fn permissions_claim() -> String {
    "permissions".to_owned()
}

fn forward_timeout() -> Duration {
    Duration(StdDuration::from_secs(2))
}

fn forwarded_headers() -> Vec<String> {
    vec!["Authorization".to_owned(), "Cookie".to_owned()]
}

fn root() -> String {
    "/".to_owned()
}
