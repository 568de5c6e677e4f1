//! Whom a limit counts: what of a request goes into its key. Keys are hashes of a fixed size; at this replica under a secret
//! of the process, so that nobody can choose where his lands, and between replicas by SHA-256 with the rule's name, so that
//! the store never sees what clients sent.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderName;
use serde::Serialize;

use super::mode::Mode;
use super::principal::Principal;
use super::request::Request;
use crate::object::ObjectKey;
use crate::text::printed;

/// What one rule counts requests by.
#[derive(Debug, PartialEq, Serialize)]
pub struct Keys {
    by: Box<[By]>,
    /// Names the rule to other replicas, as they name it.
    #[serde(skip)]
    rule: Box<str>,
    #[serde(skip)]
    mode: Mode,
}

/// A part of a key. One that a request does not have is its client's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// The client's address, IPv4 whole.
    RemoteIp {
        /// One subscriber has a whole network of them: 64 bits as a rule.
        ipv6_prefix: u8,
    },
    /// All lines of it.
    Header(#[serde(serialize_with = "printed::text")] HeaderName),
    /// The principal's subject.
    AuthenticatedSubject,
    /// All spellings that some app takes for one path are one, without query.
    Path,
    /// A field of the principal, such as `source.key.meta.plan`.
    PrincipalField(Box<str>),
    /// The hostname of the request, in lower case and without port.
    Host,
}

/// Where a part is missing.
const IPV6_PREFIX: u8 = 64;

impl Keys {
    /// No part at all: one key for everybody. Shadow rules have keys of their own.
    pub fn new(policy: &ObjectKey, rule: &str, mode: Mode, by: impl Into<Box<[By]>>) -> Self {
        Self {
            by: by.into(),
            // None of the names can hold a slash.
            rule: format!("{policy}/{rule}").into(),
            mode,
        }
    }

    /// Whether a path that can be read in several ways would be several keys.
    pub fn read_path(&self) -> bool {
        self.by.contains(&By::Path)
    }

    /// For state that is one rule's, at this replica.
    pub fn local(&self, request: &Request<'_>, principal: Option<&Principal>) -> u128 {
        static SECRETS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
        let mut halves = SECRETS.each_ref().map(BuildHasher::build_hasher);
        self.feed(request, principal, |bytes| {
            halves.iter_mut().for_each(|half| half.write(bytes));
        });
        let [high, low] = halves.map(|half| u128::from(half.finish()));
        high << 64 | low
    }

    /// The same at all replicas, and for this rule alone.
    pub fn shared(&self, request: &Request<'_>, principal: Option<&Principal>) -> u128 {
        let mut hash = Context::new(&SHA256);
        part(0, self.rule.as_bytes(), &mut |bytes| hash.update(bytes));
        self.feed(request, principal, |bytes| hash.update(bytes));
        let hash = hash.finish();
        let half = hash.as_ref().iter().take(16);
        half.fold(0, |key, byte| key << 8 | u128::from(*byte))
    }

    /// Unambiguous: every part says what it is and how long, so that no two requests that differ in one read the same.
    fn feed(&self, request: &Request<'_>, principal: Option<&Principal>, mut to: impl FnMut(&[u8])) {
        let to = &mut to;
        part(0, &[self.mode as u8], to);
        for by in &self.by {
            if !by.feed(request, principal, to) {
                remote_ip(request.client, IPV6_PREFIX, to);
            }
        }
    }
}

impl By {
    /// Whether the request has it.
    fn feed(&self, request: &Request<'_>, principal: Option<&Principal>, to: &mut impl FnMut(&[u8])) -> bool {
        match self {
            Self::RemoteIp { ipv6_prefix } => remote_ip(request.client, *ipv6_prefix, to),
            Self::Header(name) => {
                if request.header(name).all(|line| line.is_empty()) {
                    return false;
                }
                let lines = request.header(name).count();
                part(2, &(lines as u64).to_le_bytes(), to);
                request.header(name).for_each(|line| part(2, line.as_bytes(), to));
            }
            Self::AuthenticatedSubject => match principal {
                Some(principal) => part(3, principal.subject().as_bytes(), to),
                None => return false,
            },
            Self::Path => part(4, request.readings().merged().as_bytes(), to),
            Self::PrincipalField(field) => match principal.and_then(|principal| principal.field(field)) {
                Some(value) => part(5, value.as_bytes(), to),
                None => return false,
            },
            Self::Host => part(6, request.host.as_bytes(), to),
        }
        true
    }
}

/// Clients that nobody knows share one key.
fn remote_ip(client: Option<IpAddr>, ipv6_prefix: u8, to: &mut impl FnMut(&[u8])) {
    match client.map(|client| client.to_canonical()) {
        None => part(1, b"unknown", to),
        Some(IpAddr::V4(address)) => part(1, &address.octets(), to),
        Some(IpAddr::V6(address)) => {
            let host_bits = 128 - u32::from(ipv6_prefix.min(128));
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            let network = Ipv6Addr::from_bits(address.to_bits() & mask);
            part(1, &network.octets(), to);
        }
    }
}

fn part(tag: u8, bytes: &[u8], to: &mut impl FnMut(&[u8])) {
    to(&[tag]);
    to(&(bytes.len() as u64).to_le_bytes());
    to(bytes);
}

#[cfg(test)]
mod tests;
