//! The TLS fields of a Deployment: toward its clients and toward its app.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The source of a certificate for some hostnames: exactly one of secretName and acme.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secretName) != has(self.acme)")
        .message("needs exactly one of secretName and acme"),
    validation = Rule::new("!has(self.acme) || !has(self.hostnames) || self.hostnames.all(h, !h.startsWith('*'))")
        .message("acme cannot issue wildcard certificates")
)]
pub struct Tls {
    /// Hostnames of this Deployment that the entry is for, at most 16. If empty: all of them, or with secretName those
    /// that the certificate covers.
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
    /// Postern orders a certificate for each hostname by ACME (HTTP-01) and renews it. Written as {}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Acme")]
    pub acme: Option<Acme>,
}

/// No options: the ACME directory and account are settings of the installation.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub struct Acme {}

/// The client certificates that are accepted, and whether one is required.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// The certificate authorities that must have signed the client certificates.
    pub ca_ref: CaRef,
    /// Required or Optional. With Optional, a client without a certificate is served, and one with an invalid
    /// certificate is not. Default: Required.
    #[serde(default)]
    pub mode: ClientTlsMode,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum ClientTlsMode {
    #[default]
    Required,
    Optional,
}

/// An object in this namespace with the label postern.dev/use: ca, and PEM certificates under the key ca.crt.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct CaRef {
    /// Kind of the object: ConfigMap or Secret.
    pub kind: HolderKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum HolderKind {
    ConfigMap,
    Secret,
}

/// How the app's certificate is verified, and the client certificate that the app receives.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpstreamTls {
    /// The certificate authorities that must have signed the app's certificate. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CaRef")]
    pub ca_ref: Option<CaRef>,
    /// The name that the app's certificate must be valid for; it is also sent as SNI. Default:
    /// <service>.<namespace>.svc.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = 253),
        regex(pattern = "^[a-zA-Z0-9]([-.:a-zA-Z0-9]*[a-zA-Z0-9])?$")
    )]
    pub server_name: Option<String>,
    /// The client certificate that Postern presents to the app.
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
