//! What an object asks for, whatever its kind.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::problem::Problem;
use super::syntax::PortRef;
use crate::api::deployment::CaKind;
use crate::hostname::HostName;
use crate::object::{ObjectId, ObjectKey};
use crate::snapshot::{self, ClientTlsMode, PathMatch};

/// What a Deployment wants.
pub struct Wanted {
    pub id: ObjectId,
    pub part: Arc<snapshot::Deployment>,
    pub generation: i64,
    pub(super) created: i64,
    /// Each name once.
    pub names: Box<[Claimed]>,
    pub targets: Box<[Targets]>,
    /// Each path once.
    pub rules: Box<[Rule]>,
    pub tls: Asked,
    /// The policies that it wants before it.
    pub policies: Box<[ObjectKey]>,
    /// What of the object is not understood, and so not served.
    pub problems: Box<[Problem]>,
}

pub struct Claimed {
    pub name: HostName,
    pub source: Source,
    pub right: Right,
}

/// Where a name comes from.
#[derive(Clone, Copy)]
pub enum Source {
    /// Position in `spec.hostnames`.
    Listed(usize),
    /// `<name>-<namespace>.<apex>`.
    Assigned,
}

pub struct Rule {
    pub path: PathMatch,
    /// Position in `spec.paths`; None: the one rule of a Deployment that has none.
    pub position: Option<usize>,
    /// Position in `Wanted::targets`.
    pub targets: usize,
}

/// One list of backends, as it stands in one place of the object.
pub struct Targets {
    /// Position in `spec.paths`; None: the Deployment's own.
    pub(super) path: Option<usize>,
    /// Written as `service`, not as `backends`.
    pub(super) single: bool,
    pub list: Box<[Target]>,
}

pub struct Target {
    pub service: ObjectKey,
    pub port: PortRef,
    pub weight: u32,
}

impl Wanted {
    pub fn age(&self) -> Age {
        Age {
            created: self.created,
            id: self.id.clone(),
        }
    }

    /// Every reference to a Service's port, with repetitions.
    pub fn uses(&self) -> impl Iterator<Item = (&ObjectKey, &PortRef)> {
        let all = self.targets.iter().flat_map(|targets| &targets.list);
        all.map(|target| (&target.service, &target.port))
    }
}

impl Targets {
    /// The field that names the backend at this position.
    pub fn field(&self, at: usize) -> impl fmt::Display {
        let within = match self.path {
            Some(path) => format!("spec.paths[{path}]"),
            None => "spec".to_owned(),
        };
        if self.single {
            format!("{within}.service")
        } else {
            format!("{within}.backends[{at}].service")
        }
    }
}

/// The order in which claims win: the older is the less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    pub created: i64,
    pub id: ObjectId,
}

/// What a claim rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// The name is the Deployment's assigned one, or granted to its namespace.
    Given,
    /// Nothing but having been first.
    Age,
    /// Names are granted, and this one is not.
    None,
}

#[derive(Default)]
pub struct Asked {
    pub certificates: Box<[Wish]>,
    pub client: Option<Client>,
    pub upstream: Upstream,
}

/// One certificate.
pub struct Wish {
    /// Position in `spec.tls`.
    pub at: usize,
    pub secret: ObjectKey,
    pub acme: bool,
    /// The Deployment's names that it is for. None: those that it covers.
    pub names: Option<Box<[HostName]>>,
}

pub struct Client {
    pub authorities: AuthoritiesRef,
    pub mode: ClientTlsMode,
}

#[derive(Default)]
pub struct Upstream {
    pub authorities: Option<AuthoritiesRef>,
    pub server_name: Option<ServerName<'static>>,
    pub certificate: Option<ObjectKey>,
    /// Something of it is not understood: apps over TLS are not dialled on what is left.
    pub invalid: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthoritiesRef {
    pub kind: CaKind,
    pub key: ObjectKey,
}

/// Anything that is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    Certificate(ObjectKey),
    Authorities(AuthoritiesRef),
}

impl Asked {
    /// With repetitions.
    pub fn references(&self) -> impl Iterator<Item = Reference> {
        let certificates = self.certificates.iter().map(|wish| &wish.secret);
        let certificates = certificates.chain(&self.upstream.certificate).cloned();
        let client = self.client.as_ref().map(|client| &client.authorities);
        let authorities = client.into_iter().chain(&self.upstream.authorities).cloned();
        let certificates = certificates.map(Reference::Certificate);
        certificates.chain(authorities.map(Reference::Authorities))
    }
}

impl Wish {
    pub fn is_for(&self, name: &HostName) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
    }

    pub fn field(&self) -> String {
        let what = if self.acme { "acme" } else { "secretName" };
        format!("spec.tls[{}].{what}", self.at)
    }
}
