//! Hostname to routes: exact names first, then a wildcard that stands for exactly one label.

use std::sync::Arc;

use serde::Serialize;

use super::{HostName, PathMatch, Route, Sharded};

/// All hosts by name. A wildcard `*.example.com` is kept under `example.com`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HostTable {
    pub exact: Sharded<Arc<str>, Arc<Host>>,
    pub wildcard: Sharded<Arc<str>, Arc<Host>>,
}

/// The routes of one hostname, all of one namespace.
#[derive(Debug, PartialEq, Serialize)]
pub struct Host {
    pub name: HostName,
    /// Exact paths first, then prefixes, the longest first: the first hit answers.
    pub routes: Box<[Route]>,
}

impl HostTable {
    /// `host` is lower case, without port and trailing dot.
    pub fn find(&self, host: &str) -> Option<&Arc<Host>> {
        self.exact.get(host).or_else(|| {
            let (label, parent) = host.split_once('.')?;
            (!label.is_empty()).then(|| self.wildcard.get(parent))?
        })
    }

    pub fn hash(&self) -> u64 {
        self.exact.hash().wrapping_add(self.wildcard.hash().rotate_left(1))
    }
}

impl Host {
    /// `path` is the target's path, verbatim: it starts with a slash and has no query.
    pub fn find(&self, path: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.path.matches(path))
    }
}

impl PathMatch {
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) if **prefix == *"/" => true,
            Self::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}
