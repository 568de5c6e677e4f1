//! What is to be told of an object's TLS: what it names and what could not be used, which certificates its hostnames
//! have, and which are to be ordered.

use std::sync::Arc;

use super::material::Leaf;
use super::{Materials, ResolvedTls};
use crate::compile::acme::{Current, Order};
use crate::compile::host::HostnameTls;
use crate::compile::intent::{CertificateRequest, Intent, Referenced};
use crate::compile::problem::Problem;
use crate::compile::references::{Found, Unusable};
use crate::condition::ConditionReason;
use crate::hostname::HostName;
use crate::object::{ObjectId, ObjectKey};
use crate::tls::Certificate;

/// A certificate of the object's own, as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub secret: ObjectKey,
    pub hostnames: Vec<Arc<str>>,
    /// In Unix seconds.
    pub not_after: i64,
}

#[derive(Default)]
pub struct Findings {
    /// What was asked for and is not served.
    pub unresolved: Vec<Problem>,
    /// What is served by its last good version.
    pub stale: Vec<Problem>,
    /// Hostnames for which there is none but the self-signed certificate.
    pub without: Vec<HostName>,
    pub certificates: Vec<Served>,
    pub orders: Vec<Order>,
}

/// `served`: the hostnames under which something is served, with what became of TLS there.
pub fn findings(
    intent: &Intent,
    tls: &ResolvedTls,
    served: &[(HostName, &HostnameTls)],
    materials: &Materials,
    defaults: &[Arc<Certificate>],
) -> Findings {
    let mut findings = Findings::default();
    for request in &intent.tls.certificates {
        findings.request(request, intent, served, materials);
    }
    findings.references(intent, materials);
    for (name, host) in served {
        findings.conflicts(intent, name, host);
        let covered = host.own || defaults.iter().any(|certificate| certificate.covers(name));
        if !covered {
            findings.without.push(name.clone());
        }
    }
    findings.certificates = certificates(intent, tls, served);
    findings
}

impl Findings {
    fn request(
        &mut self,
        request: &CertificateRequest,
        intent: &Intent,
        served: &[(HostName, &HostnameTls)],
        materials: &Materials,
    ) {
        let found = materials.certificate(&request.secret);
        let leaf = found.and_then(|found| found.part.as_ref());
        if request.acme {
            // What is not ours is neither ordered nor waited for: whose it is is told elsewhere.
            let names = request.hostnames.iter().flatten();
            for name in names.filter(|name| served.iter().any(|(served, _)| served == *name)) {
                self.order(request, name, found, leaf);
            }
            return;
        }
        self.reference(&request.field, &request.secret, found, "");
        let Some(Leaf { certificate, .. }) = leaf else { return };
        let mut invalid = |message: String| {
            let message = format!("{} {message}", request.secret);
            let reason = ConditionReason::InvalidCertificate;
            self.unresolved
                .push(Problem::at(request.field.clone(), reason, message));
        };
        match &request.hostnames {
            Some(names) => {
                for name in names.iter().filter(|name| !certificate.covers(name)) {
                    let has = names_of(certificate);
                    invalid(format!(
                        "contains no certificate for {:?}; its certificate is for {has}",
                        name.to_string()
                    ));
                }
            }
            None if !intent
                .hostnames
                .iter()
                .any(|hostname| certificate.covers(&hostname.name)) =>
            {
                let (kind, has) = (intent.id.kind, names_of(certificate));
                invalid(format!(
                    "contains a certificate for none of the {kind}'s hostnames; it is for {has}"
                ));
            }
            None => {}
        }
    }

    fn order(
        &mut self,
        request: &CertificateRequest,
        name: &HostName,
        found: Option<&Found<Leaf>>,
        leaf: Option<&Leaf>,
    ) {
        let usable = leaf.filter(|leaf| leaf.certificate.covers(name));
        self.orders.push(Order {
            hostname: name.clone(),
            secret: request.secret.key.clone(),
            current: usable.map(|leaf| Current {
                not_before: leaf.not_before,
                not_after: leaf.certificate.not_after,
                fingerprint: leaf.certificate.fingerprint,
            }),
        });
        match found {
            Some(found) if !matches!(found.problem, Some(Unusable::NoTlsSecret) | None) => {
                self.reference(&request.field, &request.secret, Some(found), "");
            }
            _ if usable.is_none() => self.unresolved.push(Problem::at(
                request.field.clone(),
                ConditionReason::CertificatePending,
                format!("the certificate for {:?} has not been issued yet", name.to_string()),
            )),
            _ => {}
        }
    }

    fn references(&mut self, intent: &Intent, materials: &Materials) {
        if let Some(client) = &intent.tls.client {
            let Referenced { id, field } = &client.authorities;
            let cost = "; requests are answered 503 policy_invalid";
            self.reference(field, id, materials.authorities(id), cost);
        }
        let cost = "; apps over TLS cannot be reached";
        if let Some(Referenced { id, field }) = &intent.tls.upstream.authorities {
            self.reference(field, id, materials.authorities(id), cost);
        }
        if let Some(Referenced { id, field }) = &intent.tls.upstream.certificate {
            self.reference(field, id, materials.certificate(id), cost);
        }
    }

    /// `cost`: what comes of it where nothing stands in.
    fn reference<T>(&mut self, field: &str, id: &ObjectId, found: Option<&Found<T>>, cost: &str) {
        let Some(problem) = found.and_then(|found| found.problem.as_ref()) else {
            return;
        };
        if found.is_some_and(|found| found.part.is_some()) {
            let message = format!("{id} {problem}; its last good version is used");
            self.stale
                .push(Problem::at(field, ConditionReason::ServingLastGood, message));
        } else {
            let message = format!("{id} {problem}{cost}");
            self.unresolved
                .push(Problem::at(field, problem.reason(id.kind), message));
        }
    }

    fn conflicts(&mut self, intent: &Intent, name: &HostName, host: &HostnameTls) {
        let mut conflict = |field: &str, message: String| {
            self.unresolved
                .push(Problem::at(field, ConditionReason::TLSConflict, message));
        };
        if let Some(owner) = &host.certificates_of {
            let message = format!(
                "the older {owner} has other certificates for {:?}, and those are used",
                name.to_string()
            );
            conflict(&intent.tls.certificates_field, message);
        }
        if let (Some(owner), Some(client)) = (&host.client_of, &intent.tls.client) {
            let message = format!(
                "the older {owner} has another clientTls for {:?}, which is used; requests to this {} are answered \
                 421 misdirected",
                name.to_string(),
                intent.id.kind
            );
            conflict(&client.field, message);
        }
    }
}

/// Those that the hostnames have by this object, sorted.
fn certificates(intent: &Intent, tls: &ResolvedTls, served: &[(HostName, &HostnameTls)]) -> Vec<Served> {
    let mut all: Vec<Served> = Vec::new();
    for (hostname, own) in intent.hostnames.iter().zip(&tls.certificates) {
        let ours = |(name, host): &(HostName, &HostnameTls)| *name == hostname.name && host.certificates_of.is_none();
        if !served.iter().any(ours) {
            continue;
        }
        for certificate in own {
            let hostname: Arc<str> = hostname.name.to_string().into();
            match all.iter_mut().find(|served| served.secret == certificate.secret) {
                Some(served) => served.hostnames.push(hostname),
                None => all.push(Served {
                    secret: certificate.secret.clone(),
                    hostnames: vec![hostname],
                    not_after: certificate.not_after,
                }),
            }
        }
    }
    all.sort_by(|a, b| a.secret.cmp(&b.secret));
    all
}

fn names_of(certificate: &Certificate) -> String {
    const SHOWN: usize = 5;
    let names = certificate.names.iter().take(SHOWN).map(ToString::to_string);
    let mut text: Vec<_> = names.collect();
    match certificate.names.len() {
        0 => return "no hostname".to_owned(),
        all if all > SHOWN => text.push(format!("{} more", all - SHOWN)),
        _ => {}
    }
    text.join(", ")
}
