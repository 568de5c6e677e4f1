//! The rules that count, from the object to the data plane.

use super::invalid::{At, Invalid, names_one};
use super::lookups::Lookups;
use super::matching::header_name;
use crate::api::policy;
use crate::limits::windows::Quota;
use crate::policy::mode::Mode;
use crate::policy::{By, ConnectionLimit, Keys, OnStoreFailure, RateLimit, Scope};

// As the CRD's schema has them.
/// Parts of the key that requests are counted by.
pub const MAX_BY: usize = 8;
/// Requests in one window.
pub const MAX_LIMIT: u32 = 1_000_000_000;
/// Sockets that one key may have open.
pub const MAX_SOCKETS: u32 = 1_000_000;
const MIN_WINDOW: u64 = 1000;
const MAX_WINDOW: u64 = 24 * 60 * 60 * 1000;

/// An error names the field.
pub fn rate_limit(
    rule: &policy::RateLimit,
    name: &str,
    mode: Mode,
    lookups: &Lookups<'_>,
) -> Result<RateLimit, Invalid> {
    let policy::RateLimit {
        limit,
        window,
        by,
        cost,
        scope,
        on_store_failure,
    } = rule;
    if !(1..=MAX_LIMIT).contains(limit) {
        return Err(Invalid::new(format!("must be between 1 and {MAX_LIMIT}")).within(".limit"));
    }
    if !(1..=*limit).contains(cost) {
        return Err(Invalid::new("must be between 1 and limit").within(".cost"));
    }
    let window = u64::try_from(window.0.as_millis()).unwrap_or(u64::MAX);
    if !(MIN_WINDOW..=MAX_WINDOW).contains(&window) {
        return Err(Invalid::new("must be between 1s and 24h").within(".window"));
    }
    Ok(RateLimit {
        name: name.into(),
        keys: Keys::new(lookups.policy, name, mode, parts(by)?),
        quota: Quota {
            limit: *limit,
            window,
            cost: *cost,
        },
        scope: self::scope(*scope, lookups)?,
        on_store_failure: match on_store_failure {
            policy::OnStoreFailure::Local => OnStoreFailure::Local,
            policy::OnStoreFailure::Deny => OnStoreFailure::Deny,
            policy::OnStoreFailure::Allow => OnStoreFailure::Allow,
        },
    })
}

/// An error names the field.
pub fn connection_limit(
    rule: &policy::ConnectionLimit,
    name: &str,
    mode: Mode,
    lookups: &Lookups<'_>,
) -> Result<ConnectionLimit, Invalid> {
    let policy::ConnectionLimit { max, by, scope } = rule;
    if !(1..=MAX_SOCKETS).contains(max) {
        return Err(Invalid::new(format!("must be between 1 and {MAX_SOCKETS}")).within(".max"));
    }
    Ok(ConnectionLimit {
        keys: Keys::new(lookups.policy, name, mode, parts(by)?),
        max: *max,
        scope: self::scope(*scope, lookups)?,
    })
}

fn scope(scope: policy::Scope, lookups: &Lookups<'_>) -> Result<Scope, Invalid> {
    match scope {
        policy::Scope::Replica => Ok(Scope::Replica),
        policy::Scope::Shared if lookups.routing.shared_store => Ok(Scope::Shared),
        policy::Scope::Shared => {
            Err(Invalid::new("Shared needs Redis, and this installation has none (--redis-url)").within(".scope"))
        }
    }
}

fn parts(list: &[policy::By]) -> Result<Box<[By]>, Invalid> {
    if list.len() > MAX_BY {
        let text = format!("has {} items, but at most {MAX_BY} are allowed", list.len());
        return Err(Invalid::new(text).within(".by"));
    }
    let parts = list.iter().enumerate();
    parts.map(|(at, one)| part(one).at(format_args!(".by[{at}]"))).collect()
}

fn part(part: &policy::By) -> Result<By, Invalid> {
    let policy::By {
        remote_ip,
        header,
        authenticated_subject,
        path,
        principal_field,
        host,
    } = part;
    names_one([
        ("remoteIp", remote_ip.is_some()),
        ("header", header.is_some()),
        ("authenticatedSubject", authenticated_subject.is_some()),
        ("path", path.is_some()),
        ("principalField", principal_field.is_some()),
        ("host", host.is_some()),
    ])?;
    Ok(if let Some(remote_ip) = remote_ip {
        let bits = u8::try_from(remote_ip.ipv6_prefix_length).ok();
        let bits = bits.filter(|bits| (1..=128).contains(bits));
        By::RemoteIp {
            ipv6_prefix: bits
                .ok_or_else(|| Invalid::new("must be between 1 and 128").within(".remoteIp.ipv6PrefixLength"))?,
        }
    } else if let Some(header) = header {
        By::Header(header_name(&header.name).at(".header.name")?)
    } else if let Some(field) = principal_field {
        By::PrincipalField(field.name.as_str().into())
    } else if authenticated_subject.is_some() {
        By::AuthenticatedSubject
    } else if path.is_some() {
        By::Path
    } else {
        By::Host
    })
}
