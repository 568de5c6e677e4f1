//! Condition types and reasons, closed: status, Events, `postern check` and tests share them.

use std::fmt;

/// Bytes of a message. Kubernetes takes 32,768 characters at most; nobody reads that many.
pub const MAX_MESSAGE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    Accepted,
    PartiallyInvalid,
    ResolvedRefs,
    CertificateExpiring,
    Programmed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionReason {
    Accepted,
    CertificateExpired,
    CertificateExpiring,
    CertificateFailed,
    CertificatePending,
    ConfigMapNotFound,
    ConfigMapNotLabelled,
    HostnameConflict,
    HostnameNotAllowed,
    Invalid,
    InvalidCertificate,
    InvalidPolicy,
    InvalidReference,
    NoCertificate,
    PolicyNotFound,
    PortNotFound,
    Programmed,
    ResolvedRefs,
    RouteConflict,
    SecretNotFound,
    SecretNotLabelled,
    ServiceNotFound,
    ServingLastGood,
    TLSConflict,
    TargetNotFound,
    UnknownField,
    UnsupportedProtocol,
}

// The names are what users read and match on: the variants' own, as in Gateway API.
impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for ConditionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
