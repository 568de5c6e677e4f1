//! TLS: what Deployments ask for, the certificates and authorities that they name, and what comes of both for their
//! hostnames and routes. No handshake is made here.

pub mod material;
pub mod report;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::references::{Found, Read, References, Unusable, User};
use super::wanted::{self, AuthoritiesRef, Reference, Wanted};
use crate::api::deployment::CaKind;
use crate::object::{Kind, ObjectKey, Purpose};
use crate::runtime::Lazy;
use crate::snapshot::ClientTls;
use crate::store::{Changes, Store};
use crate::tls::{Authorities, Certificate};
use crate::upstream::tls::UpstreamTls;
use material::Leaf;

/// The certificates and authorities that are referred to. Others are not looked at.
#[derive(Default)]
pub struct Materials {
    certificates: References<ObjectKey, Leaf>,
    authorities: References<AuthoritiesRef, Arc<Authorities>>,
    /// The upstream TLS of all Deployments that ask for nothing else, shared by them.
    plain: Arc<UpstreamTls>,
}

/// What a Deployment brings to its hostnames and routes, resolved.
#[derive(Clone, PartialEq, Default)]
pub struct Terms {
    /// In the order of `Wanted::names`.
    pub certificates: Box<[Box<[Arc<Certificate>]>]>,
    pub client: Client,
    pub upstream: Arc<UpstreamTls>,
    /// False: what is asked for cannot be resolved, and `upstream` stands there for nothing.
    pub upstream_resolved: bool,
}

#[derive(Clone, PartialEq, Default)]
pub enum Client {
    #[default]
    Anyone,
    Rule(Arc<ClientTls>),
    /// A rule that cannot be resolved: nobody is served.
    Unresolved,
}

impl Materials {
    pub fn add_user(&mut self, reference: &Reference, user: User) {
        match reference {
            Reference::Certificate(key) => self.certificates.add_user(key, user),
            Reference::Authorities(key) => self.authorities.add_user(key, user),
        }
    }

    pub fn remove_user(&mut self, reference: &Reference, user: &User) {
        match reference {
            Reference::Certificate(key) => self.certificates.remove_user(key, user),
            Reference::Authorities(key) => self.authorities.remove_user(key, user),
        }
    }

    /// Looks up what changed or is newly referred to. Returns who sees something else than before.
    pub fn resolve(&mut self, changes: &Changes, store: &Store) -> BTreeSet<User> {
        let mut affected = BTreeSet::new();
        let certificate = |key: &ObjectKey| -> Read<Leaf> {
            let secret = store.secret(key).ok_or(Unusable::NoTlsSecret)?;
            Ok((secret.uid.clone(), material::leaf(secret).map_err(Unusable::from)))
        };
        self.certificates
            .resolve(changes.of(Kind::Secret).iter(), certificate, &mut affected);

        let referred = |kind, keys: &BTreeSet<ObjectKey>| -> Vec<AuthoritiesRef> {
            let reference = |key: &ObjectKey| AuthoritiesRef { kind, key: key.clone() };
            keys.iter().map(reference).collect()
        };
        let mut changed = referred(CaKind::Secret, changes.of(Kind::Secret));
        changed.extend(referred(CaKind::ConfigMap, changes.of(Kind::ConfigMap)));
        let authorities = |AuthoritiesRef { kind, key }: &AuthoritiesRef| -> Read<Arc<Authorities>> {
            let missing = Unusable::NotFound(Purpose::Ca);
            match kind {
                CaKind::Secret => {
                    let secret = store.secret(key).ok_or(missing)?;
                    Ok((secret.uid.clone(), material::authorities_of_secret(secret)))
                }
                CaKind::ConfigMap => {
                    let map = store.config_map(key).ok_or(missing)?;
                    Ok((map.uid.clone(), material::authorities_of_config_map(map)))
                }
            }
        };
        self.authorities.resolve(changed.iter(), authorities, &mut affected);
        affected
    }

    pub fn certificate(&self, key: &ObjectKey) -> Option<&Found<Leaf>> {
        self.certificates.find(key)
    }

    pub fn authorities(&self, reference: &AuthoritiesRef) -> Option<&Found<Arc<Authorities>>> {
        self.authorities.find(reference)
    }

    /// The Secrets and the ConfigMaps that are referred to.
    pub fn keys(&self) -> (BTreeSet<ObjectKey>, BTreeSet<ObjectKey>) {
        let of = |kind| {
            let referred = self.authorities.keys().filter(move |ca| ca.kind == kind);
            referred.map(|ca| &ca.key)
        };
        let secrets = self.certificates.keys().chain(of(CaKind::Secret));
        (secrets.cloned().collect(), of(CaKind::ConfigMap).cloned().collect())
    }

    pub fn last_good(&self) -> Self {
        Self {
            certificates: self.certificates.last_good(),
            authorities: self.authorities.last_good(),
            plain: self.plain.clone(),
        }
    }

    pub fn sweep(&mut self) {
        self.certificates.sweep();
        self.authorities.sweep();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.certificates.len() + self.authorities.len()
    }
}

/// `before` is what the Deployment had: what is equal to it stays the same part, so that connections to apps are kept.
pub fn terms(wanted: &Wanted, materials: &Materials, before: &Terms) -> Terms {
    let certificates = wanted.names.iter().map(|claimed| {
        let mut own: Vec<Arc<Certificate>> = Vec::new();
        for wish in wanted.tls.certificates.iter().filter(|wish| wish.is_for(&claimed.name)) {
            let leaf = materials
                .certificate(&wish.secret)
                .and_then(|found| found.part.as_ref());
            let covering = leaf.filter(|leaf| leaf.certificate.covers(&claimed.name));
            let covering = covering.map(|leaf| leaf.certificate.clone());
            own.extend(covering.filter(|certificate| !own.contains(certificate)));
        }
        own.into()
    });
    let certificates = certificates.collect();
    let client = match &wanted.tls.client {
        None => Client::Anyone,
        Some(asked) => match part(materials.authorities(&asked.authorities)) {
            Some(authorities) => Client::Rule(Arc::new(ClientTls {
                authorities,
                mode: asked.mode,
                configs: Lazy::default(),
            })),
            None => Client::Unresolved,
        },
    };
    let resolved = upstream(&wanted.tls.upstream, materials);
    let upstream_resolved = resolved.is_some();
    let upstream = match resolved {
        Some(new) if new != *materials.plain && new == *before.upstream => before.upstream.clone(),
        Some(new) if new != *materials.plain => Arc::new(new),
        _ => materials.plain.clone(),
    };
    Terms {
        certificates,
        client,
        upstream,
        upstream_resolved,
    }
}

fn upstream(asked: &wanted::Upstream, materials: &Materials) -> Option<UpstreamTls> {
    if asked.invalid {
        return None;
    }
    Some(UpstreamTls {
        authorities: match &asked.authorities {
            Some(reference) => Some(part(materials.authorities(reference))?),
            None => None,
        },
        server_name: asked.server_name.clone(),
        client_certificate: match &asked.certificate {
            Some(key) => Some(part(materials.certificate(key))?.certificate),
            None => None,
        },
        ..UpstreamTls::default()
    })
}

fn part<T: Clone>(found: Option<&Found<T>>) -> Option<T> {
    found?.part.clone()
}
