//! What is to be told of a Deployment's TLS: what it names and what could not be used, which certificates its hostnames
//! have, and which are to be ordered.

use std::sync::Arc;

use super::material::Leaf;
use super::{Materials, Terms};
use crate::api::condition::ConditionReason;
use crate::api::deployment::CaKind;
use crate::compile::acme::{Current, Order};
use crate::compile::host::HostTerms;
use crate::compile::problem::Problem;
use crate::compile::references::{Found, Unusable};
use crate::compile::wanted::{AuthoritiesRef, Wanted, Wish};
use crate::hostname::HostName;
use crate::object::ObjectKey;
use crate::tls::Certificate;

/// A certificate of the Deployment's own, as it is served.
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
    wanted: &Wanted,
    terms: &Terms,
    served: &[(HostName, &HostTerms)],
    materials: &Materials,
    defaults: &[Arc<Certificate>],
) -> Findings {
    let mut findings = Findings::default();
    for wish in &wanted.tls.certificates {
        findings.wish(wish, wanted, served, materials);
    }
    findings.authorities(wanted, materials);
    for (name, host) in served {
        findings.conflicts(name, host);
        let covered = host.own || defaults.iter().any(|certificate| certificate.covers(name));
        if !covered {
            findings.without.push(name.clone());
        }
    }
    findings.certificates = certificates(wanted, terms, served);
    findings
}

impl Findings {
    fn wish(&mut self, wish: &Wish, wanted: &Wanted, served: &[(HostName, &HostTerms)], materials: &Materials) {
        let found = materials.certificate(&wish.secret);
        let leaf = found.and_then(|found| found.part.as_ref());
        if wish.acme {
            // What is not ours is neither ordered nor waited for: whose it is is told elsewhere.
            let names = wish.names.iter().flatten();
            for name in names.filter(|name| served.iter().any(|(served, _)| served == *name)) {
                self.order(wish, name, found, leaf);
            }
            return;
        }
        let subject = format!("{}: Secret {}", wish.field(), wish.secret);
        self.reference(&subject, CaKind::Secret, found, "");
        let Some(Leaf { certificate, .. }) = leaf else { return };
        let mut invalid = |message: String| {
            self.unresolved.push(Problem {
                reason: ConditionReason::InvalidCertificate,
                message: format!("{subject} {message}"),
            });
        };
        match &wish.names {
            Some(names) => {
                for name in names.iter().filter(|name| !certificate.covers(name)) {
                    let has = names_of(certificate);
                    invalid(format!(
                        "contains no certificate for {:?}; its certificate is for {has}",
                        name.to_string()
                    ));
                }
            }
            None if !wanted.names.iter().any(|claimed| certificate.covers(&claimed.name)) => {
                let has = names_of(certificate);
                invalid(format!(
                    "contains a certificate for none of the Deployment's hostnames; it is for {has}"
                ));
            }
            None => {}
        }
    }

    fn order(&mut self, wish: &Wish, name: &HostName, found: Option<&Found<Leaf>>, leaf: Option<&Leaf>) {
        let usable = leaf.filter(|leaf| leaf.certificate.covers(name));
        self.orders.push(Order {
            hostname: name.clone(),
            secret: wish.secret.clone(),
            current: usable.map(|leaf| Current {
                not_before: leaf.not_before,
                not_after: leaf.certificate.not_after,
                fingerprint: leaf.certificate.fingerprint,
            }),
        });
        let subject = format!("{}: Secret {}", wish.field(), wish.secret);
        match found {
            Some(found) if !matches!(found.problem, Some(Unusable::NoTlsSecret) | None) => {
                self.reference(&subject, CaKind::Secret, Some(found), "");
            }
            _ if usable.is_none() => self.unresolved.push(Problem {
                reason: ConditionReason::CertificatePending,
                message: format!(
                    "{}: the certificate for {:?} has not been issued yet",
                    wish.field(),
                    name.to_string()
                ),
            }),
            _ => {}
        }
    }

    fn authorities(&mut self, wanted: &Wanted, materials: &Materials) {
        let subject = |field: &str, AuthoritiesRef { kind, key }: &AuthoritiesRef| format!("{field}: {kind:?} {key}");
        if let Some(client) = &wanted.tls.client {
            let ca = &client.authorities;
            let cost = "; requests are answered 503 policy_invalid";
            self.reference(
                &subject("spec.clientTls.caRef", ca),
                ca.kind,
                materials.authorities(ca),
                cost,
            );
        }
        let cost = "; apps over TLS cannot be reached";
        if let Some(ca) = &wanted.tls.upstream.authorities {
            self.reference(
                &subject("spec.upstreamTls.caRef", ca),
                ca.kind,
                materials.authorities(ca),
                cost,
            );
        }
        if let Some(secret) = &wanted.tls.upstream.certificate {
            let subject = format!("spec.upstreamTls.clientCertificateRef: Secret {secret}");
            self.reference(&subject, CaKind::Secret, materials.certificate(secret), cost);
        }
    }

    /// `cost`: what comes of it where nothing stands in.
    fn reference<T>(&mut self, subject: &str, kind: CaKind, found: Option<&Found<T>>, cost: &str) {
        let Some(problem) = found.and_then(|found| found.problem.as_ref()) else {
            return;
        };
        if found.is_some_and(|found| found.part.is_some()) {
            self.stale.push(Problem {
                reason: ConditionReason::ServingLastGood,
                message: format!("{subject} {problem}; its last good version is used"),
            });
        } else {
            self.unresolved.push(Problem {
                reason: problem.reason(kind),
                message: format!("{subject} {problem}{cost}"),
            });
        }
    }

    fn conflicts(&mut self, name: &HostName, host: &HostTerms) {
        let mut conflict = |message: String| {
            self.unresolved.push(Problem {
                reason: ConditionReason::TLSConflict,
                message,
            });
        };
        if let Some(owner) = &host.certificates_of {
            conflict(format!(
                "spec.tls: the older {owner} has other certificates for {:?}, and those are used",
                name.to_string()
            ));
        }
        if let Some(owner) = &host.client_of {
            conflict(format!(
                "spec.clientTls: the older {owner} has another clientTls for {:?}, which is used; requests \
                 to this Deployment are answered 421 misdirected",
                name.to_string()
            ));
        }
    }
}

/// Those that the hostnames have by this Deployment, sorted.
fn certificates(wanted: &Wanted, terms: &Terms, served: &[(HostName, &HostTerms)]) -> Vec<Served> {
    let mut all: Vec<Served> = Vec::new();
    for (claimed, own) in wanted.names.iter().zip(&terms.certificates) {
        let ours = |(name, host): &(HostName, &HostTerms)| *name == claimed.name && host.certificates_of.is_none();
        if !served.iter().any(ours) {
            continue;
        }
        for certificate in own {
            let hostname: Arc<str> = claimed.name.to_string().into();
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
