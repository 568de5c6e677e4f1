//! What an object asks for, whatever its kind. A source (`compile/source/`) reads the objects of one kind into Intents, and
//! nothing else of compile sees the objects themselves. Whatever an Intent holds says by which field of its object it was
//! asked for, so that a problem with it can be told.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::problem::{Field, Problem, Quoted};
use super::syntax::PortRef;
use crate::hostname::HostName;
use crate::matching::Matches;
use crate::object::{ObjectId, ObjectKey};
use crate::snapshot::{self, ClientTlsMode, PathMatch};

/// What one object asks for.
pub struct Intent {
    pub id: ObjectId,
    pub generation: i64,
    /// creationTimestamp in Unix seconds.
    pub created: i64,
    /// What the routes share, as it goes into the snapshot.
    pub deployment: Arc<snapshot::Deployment>,
    /// What the object attaches its routes to. Each parent has conditions of its own in the object's status.
    pub parents: Box<[Parent]>,
    /// Each hostname once.
    pub hostnames: Box<[HostnameIntent]>,
    /// The lists of backends that the rules forward to.
    pub backends: Box<[BackendList]>,
    /// In the object's order; no two match the same requests.
    pub rules: Box<[RuleIntent]>,
    pub tls: TlsIntent,
    /// The policies that the object itself asks for.
    pub policies: Box<[PolicyIntent]>,
    /// What of the object is not understood, and so not served.
    pub problems: Box<[Problem]>,
}

/// What routes are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The installation itself, by its two ports.
    Installation,
}

/// A hostname that is asked for.
pub struct HostnameIntent {
    pub name: HostName,
    pub right: Right,
    /// None: no field lists it, the installation has assigned it.
    pub field: Option<Field>,
}

/// Requests that match, and where they go.
pub struct RuleIntent {
    pub matches: Matches,
    /// Position in `Intent::backends`.
    pub backends: usize,
    pub field: Field,
    /// The object writes no match: the rule stands for all of them.
    pub is_default: bool,
}

/// Backends among which requests are shared by weight. Rules may have one in common.
pub struct BackendList(pub Box<[BackendIntent]>);

/// One port of a Service, with its share of the requests.
pub struct BackendIntent {
    pub service: ObjectKey,
    pub port: PortRef,
    /// 0: no request goes there.
    pub weight: u32,
    pub field: Field,
}

/// A SentinelPolicy that a field names.
pub struct PolicyIntent {
    pub policy: ObjectKey,
    pub field: Field,
}

impl Intent {
    /// By what its claims are ordered.
    pub fn age(&self) -> Age {
        Age {
            created: self.created,
            id: self.id.clone(),
        }
    }

    /// All backends of all rules.
    pub fn backends(&self) -> impl Iterator<Item = &BackendIntent> {
        self.backends.iter().flat_map(|list| &list.0)
    }
}

/// What the rule matches as its object has it, for a message.
impl fmt::Display for RuleIntent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path) = match &self.matches.path {
            PathMatch::Exact(path) => ("Exact", &**path),
            PathMatch::Prefix(path) => ("Prefix", &**path),
            PathMatch::Regex(regex) => ("Regex", regex.as_str()),
        };
        let default = if self.is_default { "the default, " } else { "" };
        write!(f, "{default}{kind} {}", Quoted(path))
    }
}

/// The order in which claims win: the older is the less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    /// creationTimestamp in Unix seconds.
    pub created: i64,
    pub id: ObjectId,
}

/// What a claim to a hostname rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// The name is granted to the object's namespace.
    Granted,
    /// The installation makes it of the object's namespace and name. A grant goes before it: an administrator has written
    /// that one on purpose, while anybody may call an object so that this comes out.
    Assigned,
    /// Nothing but having been first.
    Age,
    /// Names are granted, and this one is not.
    None,
}

/// What is asked for of TLS, toward clients and toward apps.
#[derive(Default)]
pub struct TlsIntent {
    pub certificates: Box<[CertificateRequest]>,
    /// The field that lists the certificates. Empty: the object has none.
    pub certificates_field: Field,
    pub client: Option<ClientTlsIntent>,
    pub upstream: UpstreamTlsIntent,
}

/// One certificate that hostnames are to be served with.
pub struct CertificateRequest {
    pub secret: ObjectId,
    /// Whether ACME is to order it.
    pub acme: bool,
    /// The object's hostnames that it is for. None: those that it covers.
    pub hostnames: Option<Box<[HostName]>>,
    pub field: Field,
}

/// Client certificates are asked for.
pub struct ClientTlsIntent {
    pub authorities: Referenced,
    pub mode: ClientTlsMode,
    pub field: Field,
}

/// How apps over TLS are met.
#[derive(Default)]
pub struct UpstreamTlsIntent {
    /// None: the system's authorities.
    pub authorities: Option<Referenced>,
    /// None: the Service's own name.
    pub server_name: Option<ServerName<'static>>,
    /// None: apps are shown no client certificate.
    pub certificate: Option<Referenced>,
    /// Something of it is not understood: apps over TLS are not dialled on what is left.
    pub invalid: bool,
}

/// A Secret or a ConfigMap that a field names.
pub struct Referenced {
    pub id: ObjectId,
    pub field: Field,
}

/// What is looked up for TLS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    Certificate(ObjectId),
    Authorities(ObjectId),
}

impl TlsIntent {
    /// With repetitions.
    pub fn references(&self) -> impl Iterator<Item = Reference> {
        let requested = self.certificates.iter().map(|request| request.secret.clone());
        let shown = self.upstream.certificate.iter().map(|shown| shown.id.clone());
        let client = self.client.iter().map(|client| &client.authorities);
        let authorities = client.chain(&self.upstream.authorities).map(|ca| ca.id.clone());
        let certificates = requested.chain(shown).map(Reference::Certificate);
        certificates.chain(authorities.map(Reference::Authorities))
    }
}

impl CertificateRequest {
    /// Whether the certificate is to be used for this hostname, if it covers it.
    pub fn is_for(&self, hostname: &HostName) -> bool {
        self.hostnames.as_ref().is_none_or(|names| names.contains(hostname))
    }
}
