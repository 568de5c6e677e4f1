//! The endpoints of one Service port, from its slices. Which of them a request goes to is decided in the data plane.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{EndpointRules, Routing};
use crate::egress::address::is_local;
use crate::runtime::Slot;
use crate::store::{EndpointSlice, ServicePort, SliceEndpoint};
use crate::upstream::Endpoint;

/// One address of the slices, whether or not it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub address: SocketAddr,
    pub condition: Condition,
    /// Not allowed as an endpoint, whatever its condition.
    pub refused: Option<Refusal>,
}

/// As Kubernetes defines them; ordered from the worst to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    NotReady,
    ServingTerminating,
    Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a loopback, link-local, multicast or unspecified address")]
    Local,
    #[error("a listener of Postern itself")]
    Own,
    #[error(
        "no pod of the namespace that the endpointslice controller lists, and this installation serves no others \
         (--selectorless-services=false)"
    )]
    NoPod,
}

/// All endpoints of a Service port, sorted by address. One that stands in several slices counts once, in its best condition:
/// while slices are rebalanced an endpoint may stand in two of them. Where Services without a selector are not served, what
/// somebody has written beside the controller's slices is not either.
pub fn list<'a>(
    slices: impl Iterator<Item = &'a Arc<EndpointSlice>>,
    port: &ServicePort,
    routing: &Routing,
) -> Box<[Listed]> {
    let mut found = BTreeMap::new();
    for slice in slices {
        // A slice carries the Service port's name, and the number that the pods really listen on.
        let ports = slice
            .ports
            .iter()
            .filter(|p| same_name(p.name.as_deref(), port.name.as_deref()) && p.protocol == port.protocol);
        for port in ports {
            for endpoint in &slice.endpoints {
                let counts = routing.selectorless_services || slice.by_controller && endpoint.is_pod;
                // One that counts goes before what is written beside it, whatever that says of its condition.
                let says = (counts, Condition::of(endpoint));
                for address in &endpoint.addresses {
                    // ::ffff:192.0.2.1 is 192.0.2.1: one endpoint, one rule.
                    let address = SocketAddr::new(address.to_canonical(), port.port);
                    let best = found.entry(address).or_insert(says);
                    *best = says.max(*best);
                }
            }
        }
    }
    found
        .into_iter()
        .map(|(address, (counts, condition))| Listed {
            address,
            condition,
            refused: routing
                .endpoints
                .refuse(address)
                .or((!counts).then_some(Refusal::NoPod)),
        })
        .collect()
}

/// Where new requests may go: what is ready or, if nothing is, what still serves while it terminates.
pub fn usable(listed: &[Listed]) -> Box<[Endpoint]> {
    let allowed = || listed.iter().filter(|l| l.refused.is_none());
    let best = allowed().map(|l| l.condition).max();
    allowed()
        .filter(|l| l.condition > Condition::NotReady && Some(l.condition) == best)
        .map(|l| Endpoint {
            address: l.address,
            runtime: Slot::default(),
        })
        .collect()
}

impl Condition {
    fn of(endpoint: &SliceEndpoint) -> Self {
        if endpoint.ready {
            Self::Ready
        } else if endpoint.serving && endpoint.terminating {
            Self::ServingTerminating
        } else {
            Self::NotReady
        }
    }
}

impl EndpointRules {
    /// Whoever writes slices must not reach what only Postern can.
    fn refuse(&self, address: SocketAddr) -> Option<Refusal> {
        if self.own.contains(&address) {
            Some(Refusal::Own)
        } else if self.refuse_local && is_local(address.ip()) {
            Some(Refusal::Local)
        } else {
            None
        }
    }
}

/// The single port of a Service may go without a name.
fn same_name(a: Option<&str>, b: Option<&str>) -> bool {
    a.unwrap_or_default() == b.unwrap_or_default()
}
