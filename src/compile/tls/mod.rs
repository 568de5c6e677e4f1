//! TLS: what Deployments ask for, the certificates and authorities that they name, and what comes of both for their
//! hostnames and routes. No handshake is made here.

pub mod material;
pub mod report;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::intent::{Intent, Reference, UpstreamTlsIntent};
use super::references::{Found, Read, References, Unusable, User, labelled};
use crate::object::{Data, ObjectId, Purpose};
use crate::runtime::Lazy;
use crate::snapshot::ClientTls;
use crate::store::{Changes, Holder, Store};
use crate::tls::{Authorities, Certificate};
use crate::upstream::tls::UpstreamTls;
use material::Leaf;

/// The certificates and authorities that are referred to. Others are not looked at.
#[derive(Default)]
pub struct Materials {
    certificates: References<Leaf>,
    authorities: References<Arc<Authorities>>,
    /// The upstream TLS of all Deployments that ask for nothing else, shared by them.
    plain: Arc<UpstreamTls>,
}

/// What an object brings to its hostnames and routes, resolved.
#[derive(Clone, PartialEq, Default)]
pub struct ResolvedTls {
    /// In the order of `Intent::hostnames`.
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
    /// The reference leads nowhere until `resolve`.
    pub fn add_user(&mut self, reference: &Reference, user: User) {
        match reference {
            Reference::Certificate(id) => self.certificates.add_user(id, user),
            Reference::Authorities(id) => self.authorities.add_user(id, user),
        }
    }

    /// What nobody refers to any more is forgotten by the next `resolve`.
    pub fn remove_user(&mut self, reference: &Reference, user: &User) {
        match reference {
            Reference::Certificate(id) => self.certificates.remove_user(id, user),
            Reference::Authorities(id) => self.authorities.remove_user(id, user),
        }
    }

    /// Looks up what changed or is newly referred to. Returns who sees something else than before.
    pub fn resolve(&mut self, changes: &Changes, store: &Store) -> BTreeSet<User> {
        let mut affected = BTreeSet::new();
        let certificate = |id: &ObjectId| -> Read<Leaf> {
            let secret = store.secret(&id.key).ok_or(Unusable::NoTlsSecret)?;
            let leaf = material::leaf(secret).map_err(Unusable::from);
            Ok((Holder::Secret(secret.clone()), leaf))
        };
        self.certificates.resolve(changes, certificate, &mut affected);
        let authorities = |id: &ObjectId| {
            let read = |data: &Data| Ok(material::authorities(&id.key, data)?);
            labelled(store, id, Purpose::Ca, read)
        };
        self.authorities.resolve(changes, authorities, &mut affected);
        affected
    }

    /// None: nobody refers to it.
    pub fn certificate(&self, secret: &ObjectId) -> Option<&Found<Leaf>> {
        self.certificates.find(secret)
    }

    /// None: nobody refers to them.
    pub fn authorities(&self, holder: &ObjectId) -> Option<&Found<Arc<Authorities>>> {
        self.authorities.find(holder)
    }

    /// The Secrets and the ConfigMaps that are referred to.
    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.certificates.ids().chain(self.authorities.ids())
    }

    /// Nothing but the last good versions.
    pub fn last_good(&self) -> Self {
        Self {
            certificates: self.certificates.last_good(),
            authorities: self.authorities.last_good(),
            plain: self.plain.clone(),
        }
    }

    /// The last good versions that stand in for what is broken at present.
    pub fn stand_ins(&self) -> impl Iterator<Item = &Holder> {
        self.certificates.stand_ins().chain(self.authorities.stand_ins())
    }

    /// Drops last good versions of what nobody refers to: after a compile of everything.
    pub fn sweep(&mut self) {
        self.certificates.sweep();
        self.authorities.sweep();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.certificates.len() + self.authorities.len()
    }
}

/// `before` is what the object had: what is equal to it stays the same part, so that connections to apps are kept.
pub fn resolved(intent: &Intent, materials: &Materials, before: &ResolvedTls) -> ResolvedTls {
    let certificates = intent.hostnames.iter().map(|hostname| {
        let mut own: Vec<Arc<Certificate>> = Vec::new();
        let requests = intent.tls.certificates.iter();
        for request in requests.filter(|request| request.is_for(&hostname.name)) {
            let leaf = part(materials.certificate(&request.secret));
            let covering = leaf.filter(|leaf| leaf.certificate.covers(&hostname.name));
            let covering = covering.map(|leaf| leaf.certificate);
            own.extend(covering.filter(|certificate| !own.contains(certificate)));
        }
        own.into()
    });
    let certificates = certificates.collect();
    let client = match &intent.tls.client {
        None => Client::Anyone,
        Some(asked) => match part(materials.authorities(&asked.authorities.id)) {
            Some(authorities) => Client::Rule(Arc::new(ClientTls {
                authorities,
                mode: asked.mode,
                configs: Lazy::default(),
            })),
            None => Client::Unresolved,
        },
    };
    let resolved = upstream(&intent.tls.upstream, materials);
    let upstream_resolved = resolved.is_some();
    let upstream = match resolved {
        Some(new) if new != *materials.plain && new == *before.upstream => before.upstream.clone(),
        Some(new) if new != *materials.plain => Arc::new(new),
        _ => materials.plain.clone(),
    };
    ResolvedTls {
        certificates,
        client,
        upstream,
        upstream_resolved,
    }
}

/// None: something of it cannot be resolved.
fn upstream(asked: &UpstreamTlsIntent, materials: &Materials) -> Option<UpstreamTls> {
    if asked.invalid {
        return None;
    }
    Some(UpstreamTls {
        authorities: match &asked.authorities {
            Some(referenced) => Some(part(materials.authorities(&referenced.id))?),
            None => None,
        },
        server_name: asked.server_name.clone(),
        client_certificate: match &asked.certificate {
            Some(referenced) => Some(part(materials.certificate(&referenced.id))?.certificate),
            None => None,
        },
        ..UpstreamTls::default()
    })
}

fn part<T: Clone>(found: Option<&Found<T>>) -> Option<T> {
    found?.part.clone()
}
