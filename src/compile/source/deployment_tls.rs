//! Reads the TLS fields of the Deployment kind.

use rustls::pki_types::ServerName;

use crate::api::deployment::{self, CaRef, DeploymentSpec, HolderKind};
use crate::compile::intent::{
    CertificateRequest, ClientTlsIntent, HostnameIntent, Referenced, TlsIntent, UpstreamTlsIntent,
};
use crate::compile::problem::{Problem, Quoted};
use crate::compile::syntax;
use crate::hostname::HostName;
use crate::object::ObjectId;
use crate::snapshot::ClientTlsMode;

// As the CRD's schema has them.
/// Items of spec.tls.
pub const MAX_ENTRIES: usize = 16;
/// Hostnames of one item.
pub const MAX_HOSTNAMES: usize = 16;

/// `claimed` are the object's own hostnames. What is not understood becomes a problem.
pub fn parse(
    namespace: &str,
    spec: &DeploymentSpec,
    claimed: &[HostnameIntent],
    problems: &mut Vec<Problem>,
) -> TlsIntent {
    let mut certificates = Vec::new();
    for (at, entry) in spec.tls.iter().enumerate().take(MAX_ENTRIES) {
        let mut entry = Entry {
            field: format!("spec.tls[{at}]"),
            entry,
            claimed,
            problems,
        };
        certificates.extend(entry.requests(namespace));
    }
    if spec.tls.len() > MAX_ENTRIES {
        let count = spec.tls.len();
        let message = format!("has {count} items, but only the first {MAX_ENTRIES} are used");
        problems.push(Problem::invalid("spec.tls", message));
    }
    TlsIntent {
        certificates: certificates.into(),
        certificates_field: "spec.tls".into(),
        client: spec.client_tls.as_ref().map(|client| ClientTlsIntent {
            authorities: authorities(namespace, "spec.clientTls.caRef", &client.ca_ref),
            mode: match client.mode {
                deployment::ClientTlsMode::Required => ClientTlsMode::Required,
                deployment::ClientTlsMode::Optional => ClientTlsMode::Optional,
            },
            field: "spec.clientTls".into(),
        }),
        upstream: spec
            .upstream_tls
            .as_ref()
            .map(|upstream| self::upstream(namespace, upstream, problems))
            .unwrap_or_default(),
    }
}

/// One item of `spec.tls`.
struct Entry<'a> {
    field: String,
    entry: &'a deployment::Tls,
    claimed: &'a [HostnameIntent],
    problems: &'a mut Vec<Problem>,
}

impl Entry<'_> {
    fn requests(&mut self, namespace: &str) -> Vec<CertificateRequest> {
        let hostnames = self.hostnames();
        let all = self.entry.hostnames.is_empty();
        match (&self.entry.secret_name, self.entry.acme) {
            (Some(name), None) => vec![CertificateRequest {
                secret: ObjectId::secret(namespace, name),
                acme: false,
                hostnames: (!all).then(|| hostnames.into()),
                field: format!("{}.secretName", self.field).into(),
            }],
            (None, Some(_)) => {
                let hostnames = if all { self.listed() } else { hostnames };
                let orders = hostnames.into_iter().filter_map(|name| self.order(namespace, name));
                orders.collect()
            }
            _ => {
                self.invalid("", "needs exactly one of secretName and acme".to_owned());
                Vec::new()
            }
        }
    }

    /// Those that the entry names and that are the object's own.
    fn hostnames(&mut self) -> Vec<HostName> {
        let mut names = Vec::new();
        for (place, text) in self.entry.hostnames.iter().enumerate().take(MAX_HOSTNAMES) {
            let field = format!(".hostnames[{place}]");
            match text.parse::<HostName>() {
                Ok(name) if self.claimed.iter().any(|claimed| claimed.name == name) => names.push(name),
                Ok(_) => {
                    let message = format!("{} is not a hostname of this Deployment", Quoted(text));
                    self.invalid(&field, message);
                }
                Err(error) => self.invalid(&field, error.to_string()),
            }
        }
        let count = self.entry.hostnames.len();
        if count > MAX_HOSTNAMES {
            let message = format!("has {count} items, but only the first {MAX_HOSTNAMES} are used");
            self.invalid(".hostnames", message);
        }
        names
    }

    /// Every hostname that the object lists. The assigned one has the apex' wildcard certificate: it is ordered for where
    /// there is no other.
    fn listed(&self) -> Vec<HostName> {
        let none_is_listed = self.claimed.iter().all(|claimed| claimed.field.is_none());
        let meant = self
            .claimed
            .iter()
            .filter(|claimed| none_is_listed || claimed.field.is_some());
        meant.map(|claimed| claimed.name.clone()).collect()
    }

    fn order(&mut self, namespace: &str, name: HostName) -> Option<CertificateRequest> {
        if let HostName::Wildcard(_) = name {
            let message = format!(
                "{:?} is a wildcard, and HTTP-01 cannot issue wildcard certificates: use secretName for it",
                name.to_string()
            );
            self.invalid(".acme", message);
            return None;
        }
        Some(CertificateRequest {
            secret: ObjectId::secret(namespace, &syntax::secret_name(&name)),
            acme: true,
            hostnames: Some([name].into()),
            field: format!("{}.acme", self.field).into(),
        })
    }

    fn invalid(&mut self, within: &str, message: String) {
        let field = format!("{}{within}", self.field);
        self.problems.push(Problem::invalid(field, message));
    }
}

fn upstream(namespace: &str, upstream: &deployment::UpstreamTls, problems: &mut Vec<Problem>) -> UpstreamTlsIntent {
    let mut invalid = false;
    let server_name = upstream.server_name.as_ref().and_then(|text| {
        let name = ServerName::try_from(text.clone()).ok();
        if name.is_none() {
            invalid = true;
            let message = format!(
                "{} is neither a hostname nor an IP address; apps over TLS cannot be reached",
                Quoted(text)
            );
            problems.push(Problem::invalid("spec.upstreamTls.serverName", message));
        }
        name
    });
    let certificate = upstream.client_certificate_ref.as_ref();
    UpstreamTlsIntent {
        authorities: upstream
            .ca_ref
            .as_ref()
            .map(|ca| authorities(namespace, "spec.upstreamTls.caRef", ca)),
        server_name,
        certificate: certificate.map(|secret| Referenced {
            id: ObjectId::secret(namespace, &secret.name),
            field: "spec.upstreamTls.clientCertificateRef".into(),
        }),
        invalid,
    }
}

fn authorities(namespace: &str, field: &str, ca: &CaRef) -> Referenced {
    Referenced {
        id: match ca.kind {
            HolderKind::ConfigMap => ObjectId::config_map(namespace, &ca.name),
            HolderKind::Secret => ObjectId::secret(namespace, &ca.name),
        },
        field: field.into(),
    }
}
