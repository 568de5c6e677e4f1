//! Service ports, as Deployments refer to them, and the upstreams that they lead to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::endpoint::{self, Listed};
use super::references::User;
use super::syntax::PortRef;
use crate::condition::ConditionReason;
use crate::config::Routing;
use crate::object::{ObjectKey, UpstreamKey};
use crate::runtime::Lazy;
use crate::store::{Service, ServicePort, Store};
use crate::upstream::{Protocol, Upstream};

/// The Services that Deployments and policies use, and what came of each reference. Others are not looked at.
#[derive(Default)]
pub struct Services(HashMap<ObjectKey, Vec<Reference>>);

/// One port of a Service, referred to in one way.
struct Reference {
    port: PortRef,
    users: HashSet<User>,
    found: Result<Found, Unresolved>,
}

/// The upstream behind a reference, and all that its slices list.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub upstream: Arc<Upstream>,
    pub listed: Box<[Listed]>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    #[error("does not exist")]
    NoService,
    #[error("is of type ExternalName, which has no endpoints: use another type of Service")]
    ExternalName,
    #[error("has no selector, and this installation does not serve such Services (--selectorless-services=false)")]
    Selectorless,
    #[error("has no port {wanted}, only {offered}")]
    NoPort { wanted: PortRef, offered: String },
    #[error("has {wanted} as a {protocol} port, but only TCP is supported")]
    Transport { wanted: PortRef, protocol: Arc<str> },
    #[error(
        "has appProtocol {app_protocol:?} on port {wanted}; supported are \"http\", \"https\", \"kubernetes.io/h2c\", \
         \"kubernetes.io/ws\", \"kubernetes.io/wss\" and none at all"
    )]
    AppProtocol { wanted: PortRef, app_protocol: Arc<str> },
}

impl Services {
    /// The Services that somebody refers to.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.0.keys()
    }

    /// Whether anybody refers to this Service.
    pub fn has_users(&self, service: &ObjectKey) -> bool {
        self.0.contains_key(service)
    }

    /// The reference leads nowhere until `resolve`.
    pub fn add_user(&mut self, service: &ObjectKey, port: &PortRef, user: &User) {
        let references = self.0.entry(service.clone()).or_default();
        match references.iter_mut().find(|r| r.port == *port) {
            Some(reference) => {
                reference.users.insert(user.clone());
            }
            None => references.push(Reference {
                port: port.clone(),
                users: HashSet::from([user.clone()]),
                found: Err(Unresolved::NoService),
            }),
        }
    }

    /// What nobody refers to any more is forgotten.
    pub fn remove_user(&mut self, service: &ObjectKey, port: &PortRef, user: &User) {
        let Some(references) = self.0.get_mut(service) else {
            return;
        };
        if let Some(reference) = references.iter_mut().find(|r| r.port == *port) {
            reference.users.remove(user);
        }
        references.retain(|r| !r.users.is_empty());
        if references.is_empty() {
            self.0.remove(service);
        }
    }

    /// Looks a Service up again. Returns who sees something else than before.
    pub fn resolve(
        &mut self,
        key: &ObjectKey,
        store: &Store,
        routing: &Routing,
        fresh: &mut Vec<Arc<Upstream>>,
    ) -> HashSet<User> {
        let mut affected = HashSet::new();
        let Some(references) = self.0.get_mut(key) else {
            return affected;
        };
        for at in 0..references.len() {
            let mut found = find_port(store.service(key), &references[at].port, routing)
                .map(|(port, protocol)| Found::new(key, port, protocol, store, routing));
            if let Ok(Found { upstream, .. }) = &mut found {
                // An equal upstream stays, with its runtime state. "80" and "http" may be the same port: they share it.
                let known = references.iter().filter_map(|r| r.found.as_ref().ok());
                match known.map(|found| &found.upstream).find(|known| **known == *upstream) {
                    Some(known) => *upstream = known.clone(),
                    None => fresh.push(upstream.clone()),
                }
            }
            if references[at].found != found {
                references[at].found = found;
                affected.extend(references[at].users.iter().cloned());
            }
        }
        affected
    }

    /// An error: the reference leads nowhere, or nobody has made it.
    pub fn find(&self, service: &ObjectKey, port: &PortRef) -> Result<&Found, &Unresolved> {
        let mut references = self.0.get(service).into_iter().flatten();
        match references.find(|r| r.port == *port) {
            Some(reference) => reference.found.as_ref(),
            None => Err(&Unresolved::NoService),
        }
    }
}

impl Found {
    fn new(service: &ObjectKey, port: &ServicePort, protocol: Protocol, store: &Store, routing: &Routing) -> Self {
        let listed = endpoint::list(store.slices(service), port, routing);
        let upstream = Upstream {
            key: UpstreamKey {
                namespace: service.namespace.clone(),
                service: service.name.clone(),
                port: port.port,
            },
            protocol,
            rotation: Lazy::default(),
            endpoints: endpoint::usable(&listed),
        };
        Self {
            upstream: Arc::new(upstream),
            listed,
        }
    }
}

fn find_port<'a>(
    service: Option<&'a Arc<Service>>,
    wanted: &PortRef,
    routing: &Routing,
) -> Result<(&'a ServicePort, Protocol), Unresolved> {
    let service = service.ok_or(Unresolved::NoService)?;
    if service.external_name {
        return Err(Unresolved::ExternalName);
    }
    if service.selectorless && !routing.selectorless_services {
        return Err(Unresolved::Selectorless);
    }
    let matching = || service.ports.iter().filter(|port| wanted.matches(port));
    // One number may stand for a TCP and for a UDP port.
    let port = matching().find(|port| is_tcp(port)).or_else(|| matching().next());
    let port = port.ok_or_else(|| Unresolved::NoPort {
        wanted: wanted.clone(),
        offered: offered(&service.ports),
    })?;
    if !is_tcp(port) {
        return Err(Unresolved::Transport {
            wanted: wanted.clone(),
            protocol: port.protocol.clone(),
        });
    }
    match port.app_protocol.as_deref() {
        None | Some("http" | "kubernetes.io/ws") => Ok((port, Protocol::Http1)),
        Some("kubernetes.io/h2c") => Ok((port, Protocol::H2c)),
        Some("https" | "kubernetes.io/wss") => Ok((port, Protocol::Https)),
        Some(app_protocol) => Err(Unresolved::AppProtocol {
            wanted: wanted.clone(),
            app_protocol: app_protocol.into(),
        }),
    }
}

impl Unresolved {
    /// The reason that ResolvedRefs gives.
    pub fn reason(&self) -> ConditionReason {
        match self {
            Self::NoService | Self::ExternalName | Self::Selectorless => ConditionReason::ServiceNotFound,
            Self::NoPort { .. } => ConditionReason::PortNotFound,
            Self::Transport { .. } | Self::AppProtocol { .. } => ConditionReason::UnsupportedProtocol,
        }
    }
}

fn is_tcp(port: &ServicePort) -> bool {
    *port.protocol == *"TCP"
}

fn offered(ports: &[ServicePort]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<_> = ports
        .iter()
        .take(SHOWN)
        .map(|port| match &port.name {
            Some(name) => format!("{} ({name:?})", port.port),
            None => port.port.to_string(),
        })
        .collect();
    match ports.len() {
        0 => return "none".to_owned(),
        all if all > SHOWN => names.push(format!("{} more", all - SHOWN)),
        _ => {}
    }
    names.join(", ")
}
