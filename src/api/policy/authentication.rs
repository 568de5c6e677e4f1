//! The kinds of rules that tell who calls: apiKey, jwt, basicAuth and forwardAuth.

use std::time::Duration as StdDuration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::unreserved_names;
use super::{LabelSelector, NameRef, yes};
use crate::api::deployment::port_schema;
use crate::api::duration::Duration;

/// Keys that stand in Secrets of this namespace which carry the label postern.dev/use: api-key.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.secretSelector) != has(self.secretRefs)")
        .message("needs exactly one of secretSelector and secretRefs")
)]
pub struct ApiKey {
    /// The Secrets that carry these labels besides. {} selects all api-key Secrets of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LabelSelector")]
    pub secret_selector: Option<LabelSelector>,
    /// The Secrets by name, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secret_refs: Vec<NameRef>,
    /// Where the key stands, at most 8 places: the first that holds something counts. Default: [{bearer: {}}].
    #[serde(default = "bearer")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub from: Vec<CredentialSource>,
    /// What the key has to permit, such as chat.read AND (chat.write OR admin). AND binds tighter. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1000))]
    pub permissions: Option<String>,
    /// A request without a key goes on as anonymous; one with a wrong key is refused all the same. Default: false.
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
    /// A header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HeaderCredential")]
    pub header: Option<HeaderCredential>,
    /// A parameter of the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "QueryCredential")]
    pub query: Option<QueryCredential>,
    /// A cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CookieCredential")]
    pub cookie: Option<CookieCredential>,
    /// An entry of Sec-WebSocket-Protocol: what a browser's WebSocket can send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SubprotocolCredential")]
    pub subprotocol: Option<SubprotocolCredential>,
    /// Whether the app receives the credential, too. Default: false for query and subprotocol, else true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub forward: Option<bool>,
}

/// Nothing to choose.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bearer {}

/// A header that holds a credential.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderCredential {
    /// Its name, in any case.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
    /// What stands before the credential, in any case, such as "Token ". A value that begins otherwise holds none. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 64), regex(pattern = "^[ -~]+$"))]
    pub prefix: Option<String>,
}

/// A query parameter that holds a credential.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct QueryCredential {
    /// Its name, percent-decoded, in this case.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
}

/// A cookie that holds a credential.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CookieCredential {
    /// Its name, in this case.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
}

/// A subprotocol that holds a credential.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SubprotocolCredential {
    /// What stands before the credential, such as "bearer.".
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub prefix: String,
}

/// Signed tokens (JWT). One without an expiry (exp) is refused.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    /// What the claim iss has to be.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// One of these has to be in the claim aud, at most 16. An empty list, written out: aud is not looked at.
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub audiences: Vec<String>,
    /// The keys that tokens are signed with.
    pub jwks: Jwks,
    /// The algorithms that are taken. The token does not choose.
    #[schemars(length(min = 1, max = 9))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub algorithms: Vec<Algorithm>,
    /// How far clocks may differ, at most 10m. Default: 30s.
    #[serde(default = "clock_skew")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('10m')").message("clockSkew is at most 10m"))]
    pub clock_skew: Duration,
    /// The claim that is the principal's subject. Default: sub.
    #[serde(default = "subject_claim")]
    #[schemars(length(min = 1, max = 128))]
    pub subject_claim: String,
    /// Claims that have to be there, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["claim".into()]))]
    pub required_claims: Vec<RequiredClaim>,
    /// What the token has to permit, such as chat.read AND (chat.write OR admin). AND binds tighter. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 1000))]
    pub permissions: Option<String>,
    /// The claim that lists what the token permits: an array, or a text with spaces such as scope. Default: permissions.
    #[serde(default = "permissions_claim")]
    #[schemars(length(min = 1, max = 128))]
    pub permissions_claim: String,
    /// Where the token stands, at most 8 places: the first that holds something counts. Default: [{bearer: {}}].
    #[serde(default = "bearer")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub from: Vec<CredentialSource>,
    /// A request without a token goes on as anonymous; one with a wrong token is refused all the same. Default: false.
    #[serde(default)]
    pub optional: bool,
}

/// Where the JSON Web Key Set comes from: exactly one of url, secretRef and configMapRef.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("[has(self.url), has(self.secretRef), has(self.configMapRef)].exists_one(kind, kind)")
        .message("needs exactly one of url, secretRef and configMapRef")
)]
pub struct Jwks {
    /// Fetched and kept fresh by Postern; redirects are not followed. Never a loopback or link-local address, unless
    /// --allow-egress lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 1024),
        regex(pattern = r"^https?://[-.:a-zA-Z0-9\[\]]+([/?][!-~]*)?$")
    )]
    pub url: Option<String>,
    /// A Secret that carries the label postern.dev/use: jwks, with the set under the key jwks.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NameRef")]
    pub secret_ref: Option<NameRef>,
    /// A ConfigMap that carries the label postern.dev/use: jwks, with the set under the key jwks.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NameRef")]
    pub config_map_ref: Option<NameRef>,
}

/// Algorithms of RFC 7518 and RFC 8037 that verify by a public key.
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

/// A claim at the top of the token.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredClaim {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    pub claim: String,
    /// What it is: this text, or an array that holds this text. Default: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 512))]
    pub value: Option<String>,
}

/// Users and passwords (RFC 7617).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicAuth {
    /// A Secret that carries the label postern.dev/use: htpasswd, with lines of user:hash under the key auth. Hashes are
    /// bcrypt or argon2.
    pub secret_ref: NameRef,
    /// What browsers show when they ask for the password. Default: postern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 128), regex(pattern = r#"^[ !#-\[\]-~]+$"#))]
    pub realm: Option<String>,
    /// Whether the app receives user and password, too. Default: true.
    #[serde(default = "yes")]
    pub forward: bool,
}

/// A service that is asked, by a GET without body, whether a request may pass. Exactly one of url and service.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.url) != has(self.service)").message("needs exactly one of url and service")
)]
pub struct ForwardAuth {
    /// Never a loopback or link-local address, unless --allow-egress lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 1024),
        regex(pattern = r"^https?://[-.:a-zA-Z0-9\[\]]+([/?][!-~]*)?$")
    )]
    pub url: Option<String>,
    /// A Service of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ForwardService")]
    pub service: Option<ForwardService>,
    /// For the whole answer, at most 5s. Default: 2s.
    #[serde(default = "forward_timeout")]
    #[x_kube(
        validation = Rule::new("duration(self) > duration('0s') && duration(self) <= duration('5s')")
            .message("timeout is more than 0s and at most 5s")
    )]
    pub timeout: Duration,
    /// The client's headers that the service receives, at most 32, besides X-Forwarded-Method, -Proto, -Host, -Uri and
    /// -For. Default: [Authorization, Cookie].
    #[serde(default = "forwarded_headers")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub request_headers: Vec<String>,
    /// Headers of an answer 2xx that the app receives in place of the client's, at most 32. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set, validation = unreserved_names())]
    pub response_headers: Vec<String>,
    /// The answer's header that holds the principal's subject. Default: no principal is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 128),
        regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")
    )]
    pub subject_header: Option<String>,
    /// Lets requests pass, without principal, while the service does not answer or answers 5xx. Default: false.
    #[serde(default)]
    pub fail_open: bool,
}

/// A Service's port, and the path to ask.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForwardService {
    /// Name of a Service in this namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A port of the Service: its number (1 to 65535) or its name.
    #[schemars(schema_with = "port_schema")]
    pub port: IntOrString,
    /// Default: /.
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
