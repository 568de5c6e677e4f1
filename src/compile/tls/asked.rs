//! What a Deployment asks of TLS, parsed. No other object is looked at.

use rustls::pki_types::ServerName;

use crate::api::deployment::{self as api, CaKind, CaRef, DeploymentSpec};
use crate::compile::acme;
use crate::compile::deployment::{Claimed, Source};
use crate::compile::report::{Problem, Quoted};
use crate::snapshot::{ClientTlsMode, HostName};
use crate::store::ObjectKey;

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

// As the CRD's schema has them.
pub const MAX_ENTRIES: usize = 16;
pub const MAX_HOSTNAMES: usize = 16;

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

pub fn parse(namespace: &str, spec: &DeploymentSpec, claimed: &[Claimed], problems: &mut Vec<Problem>) -> Asked {
    let mut certificates = Vec::new();
    for (at, entry) in spec.tls.iter().enumerate().take(MAX_ENTRIES) {
        entry_wishes(namespace, at, entry, claimed, problems, &mut certificates);
    }
    if spec.tls.len() > MAX_ENTRIES {
        problems.push(Problem::invalid(format!(
            "spec.tls: has {} items, but only the first {MAX_ENTRIES} are used",
            spec.tls.len()
        )));
    }
    Asked {
        certificates: certificates.into(),
        client: spec.client_tls.as_ref().map(|client| Client {
            authorities: authorities(namespace, &client.ca_ref),
            mode: match client.mode {
                api::ClientTlsMode::Required => ClientTlsMode::Required,
                api::ClientTlsMode::Optional => ClientTlsMode::Optional,
            },
        }),
        upstream: spec
            .upstream_tls
            .as_ref()
            .map(|upstream| self::upstream(namespace, upstream, problems))
            .unwrap_or_default(),
    }
}

fn entry_wishes(
    namespace: &str,
    at: usize,
    entry: &api::Tls,
    claimed: &[Claimed],
    problems: &mut Vec<Problem>,
    wishes: &mut Vec<Wish>,
) {
    let mut invalid = |message: String| problems.push(Problem::invalid(format!("spec.tls[{at}]{message}")));
    let mut names = Vec::new();
    for (place, text) in entry.hostnames.iter().enumerate().take(MAX_HOSTNAMES) {
        match text.parse::<HostName>() {
            Ok(name) if claimed.iter().any(|claimed| claimed.name == name) => names.push(name),
            Ok(_) => invalid(format!(
                ".hostnames[{place}]: {} is not a hostname of this Deployment",
                Quoted(text)
            )),
            Err(error) => invalid(format!(".hostnames[{place}]: {error}")),
        }
    }
    if entry.hostnames.len() > MAX_HOSTNAMES {
        let count = entry.hostnames.len();
        invalid(format!(
            ".hostnames: has {count} items, but only the first {MAX_HOSTNAMES} are used"
        ));
    }
    let all = entry.hostnames.is_empty();
    match (&entry.secret_name, entry.acme) {
        (Some(name), None) => wishes.push(Wish {
            at,
            secret: ObjectKey::new(namespace, name),
            acme: false,
            names: (!all).then(|| names.into()),
        }),
        (None, Some(_)) => {
            if all {
                // The assigned hostname has the apex' wildcard certificate; it is ordered for where there is no other.
                let listed = |claimed: &&Claimed| matches!(claimed.source, Source::Listed(_));
                let only_assigned = !claimed.iter().any(|claimed| listed(&claimed));
                let meant = claimed.iter().filter(|claimed| only_assigned || listed(claimed));
                names.extend(meant.map(|claimed| claimed.name.clone()));
            }
            for name in names {
                match name {
                    HostName::Exact(_) => wishes.push(Wish {
                        at,
                        secret: ObjectKey::new(namespace, &acme::secret_name(&name)),
                        acme: true,
                        names: Some([name].into()),
                    }),
                    HostName::Wildcard(_) => invalid(format!(
                        ".acme: {:?} is a wildcard, and HTTP-01 cannot issue wildcard certificates: use secretName for it",
                        name.to_string()
                    )),
                }
            }
        }
        _ => invalid(": needs exactly one of secretName and acme".to_owned()),
    }
}

fn upstream(namespace: &str, upstream: &api::UpstreamTls, problems: &mut Vec<Problem>) -> Upstream {
    let mut invalid = false;
    let server_name = upstream.server_name.as_ref().and_then(|text| {
        let name = ServerName::try_from(text.clone()).ok();
        if name.is_none() {
            invalid = true;
            problems.push(Problem::invalid(format!(
                "spec.upstreamTls.serverName: {} is neither a hostname nor an IP address; apps over TLS cannot be reached",
                Quoted(text)
            )));
        }
        name
    });
    let certificate = upstream.client_certificate_ref.as_ref();
    Upstream {
        authorities: upstream.ca_ref.as_ref().map(|ca| authorities(namespace, ca)),
        server_name,
        certificate: certificate.map(|secret| ObjectKey::new(namespace, &secret.name)),
        invalid,
    }
}

fn authorities(namespace: &str, ca: &CaRef) -> AuthoritiesRef {
    AuthoritiesRef {
        kind: ca.kind,
        key: ObjectKey::new(namespace, &ca.name),
    }
}
