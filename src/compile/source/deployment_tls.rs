//! Reads the TLS fields of the Deployment kind.

use rustls::pki_types::ServerName;

use crate::api::deployment::{self, CaRef, DeploymentSpec};
use crate::compile::problem::{Problem, Quoted};
use crate::compile::syntax;
use crate::compile::wanted::{Asked, AuthoritiesRef, Claimed, Client, Source, Upstream, Wish};
use crate::hostname::HostName;
use crate::object::ObjectKey;
use crate::snapshot::ClientTlsMode;

// As the CRD's schema has them.
pub const MAX_ENTRIES: usize = 16;
pub const MAX_HOSTNAMES: usize = 16;

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
                deployment::ClientTlsMode::Required => ClientTlsMode::Required,
                deployment::ClientTlsMode::Optional => ClientTlsMode::Optional,
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
    entry: &deployment::Tls,
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
                        secret: ObjectKey::new(namespace, &syntax::secret_name(&name)),
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

fn upstream(namespace: &str, upstream: &deployment::UpstreamTls, problems: &mut Vec<Problem>) -> Upstream {
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

pub fn authorities(namespace: &str, ca: &CaRef) -> AuthoritiesRef {
    AuthoritiesRef {
        kind: ca.kind,
        key: ObjectKey::new(namespace, &ca.name),
    }
}
