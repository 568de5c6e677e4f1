//! Syntax that several kinds share: labels, ports, paths, names of Secrets.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::problem::Quoted;
use crate::hostname::HostName;
use crate::snapshot::PathMatch;
use crate::store::ServicePort;
use crate::text::Hex;

/// The name of the Secret that holds a hostname's certificate, in the Deployment's namespace.
pub fn secret_name(hostname: &HostName) -> String {
    const PREFIX: &str = "postern-acme-";
    const MAX: usize = 253;
    const HASH_BYTES: usize = 8;
    let hostname = match hostname {
        HostName::Exact(name) => name.to_string(),
        // There are none; still no two hostnames may share a Secret.
        HostName::Wildcard(parent) => format!("wildcard.{parent}"),
    };
    if PREFIX.len() + hostname.len() <= MAX {
        return format!("{PREFIX}{hostname}");
    }
    let digest = digest(&SHA256, hostname.as_bytes());
    let hash = Hex(&digest.as_ref()[..HASH_BYTES]).to_string();
    let room = MAX - PREFIX.len() - 1 - hash.len();
    let short = hostname[..room].trim_end_matches(['-', '.']);
    format!("{PREFIX}{short}-{hash}")
}

/// A Service's port by its number or its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortRef {
    Number(u16),
    Name(Arc<str>),
}

/// A port as it stands in an object.
pub fn port_ref(port: &IntOrString) -> Result<PortRef, String> {
    match port {
        IntOrString::Int(number) => match u16::try_from(*number) {
            Ok(number) if number > 0 => Ok(PortRef::Number(number)),
            _ => Err(format!("{number} is not between 1 and 65535")),
        },
        IntOrString::String(name) if is_label(name) && name.bytes().any(|b| b.is_ascii_alphabetic()) => {
            Ok(PortRef::Name(name.as_str().into()))
        }
        IntOrString::String(name) => {
            let name = Quoted(name);
            Err(format!(
                "{name} is not a valid port name; write a number without quotes"
            ))
        }
    }
}

impl PortRef {
    pub(super) fn matches(&self, port: &ServicePort) -> bool {
        match self {
            Self::Number(number) => port.port == *number,
            Self::Name(name) => port.name.as_ref() == Some(name),
        }
    }
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// RFC 1123 section 2.1, in lower case as Kubernetes wants it.
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    #[error("must begin with a slash")]
    NoSlash,
    #[error("is longer than {MAX_PATH} characters")]
    TooLong,
    #[error("contains {0:?}: a path has no query and no fragment")]
    QueryOrFragment(char),
    #[error("contains {0:?}, which is not allowed in a path: percent-encode it")]
    Unprintable(char),
}

/// As the CRD's schema has it.
pub const MAX_PATH: usize = 1024;

/// The path as it stands in an object.
pub fn exact_path(text: &str) -> Result<PathMatch, InvalidPath> {
    Ok(PathMatch::Exact(valid_path(text)?.into()))
}

/// A path that stands for all below it. "/chat/" means the same whole segments as "/chat".
pub fn path_prefix(text: &str) -> Result<PathMatch, InvalidPath> {
    Ok(PathMatch::Prefix(match valid_path(text)?.trim_end_matches('/') {
        "" => "/".into(),
        prefix => prefix.into(),
    }))
}

fn valid_path(text: &str) -> Result<&str, InvalidPath> {
    if text.len() > MAX_PATH {
        return Err(InvalidPath::TooLong);
    }
    if !text.starts_with('/') {
        return Err(InvalidPath::NoSlash);
    }
    for c in text.chars() {
        match c {
            '?' | '#' => return Err(InvalidPath::QueryOrFragment(c)),
            '!'..='~' => {}
            _ => return Err(InvalidPath::Unprintable(c)),
        }
    }
    Ok(text)
}
