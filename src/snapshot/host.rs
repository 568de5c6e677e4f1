//! Hostname to routes: exact names first, then a wildcard that stands for exactly one label.

use std::sync::Arc;

use serde::Serialize;

use super::certificate::HostTls;
use super::route::{PathMatch, Route};
use super::sharded::Sharded;
use crate::hostname::HostName;
use crate::policy::path::{self, AmbiguousPaths, Readings};

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
    #[serde(skip_serializing_if = "HostTls::is_plain")]
    pub tls: HostTls,
}

impl HostTable {
    /// `host` is lower case, without port and trailing dot.
    pub fn find(&self, host: &str) -> Option<&Arc<Host>> {
        self.exact.get(host).or_else(|| {
            let (label, parent) = host.split_once('.')?;
            (!label.is_empty()).then(|| self.wildcard.get(parent))?
        })
    }
}

impl Host {
    /// `path` is the target's path, verbatim: it starts with a slash and has no query.
    pub fn find(&self, path: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.path.matches(path))
    }

    /// Whether an app may read `path`, by which `route` was found, as one that has to pass other rules: `/x/..%2fadmin` where
    /// `/admin` is another Deployment's, and both lead to one app.
    pub fn is_read_past_rules(&self, path: &str, route: &Route) -> bool {
        if self.routes.len() == 1 || path::is_plain(path) || route.deployment.ambiguous_paths == AmbiguousPaths::Pass {
            return false;
        }
        Readings::of(path).any(|reading| {
            self.find(reading)
                .is_some_and(|other| other.is_guarded() && !other.has_rules_of(route))
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_path_is_that_path_alone() {
        let exact = PathMatch::Exact("/chat".into());
        assert!(exact.matches("/chat"));
        assert!(
            ["/chat/", "/chat/a", "/Chat", "/cha", "/"]
                .iter()
                .all(|path| !exact.matches(path))
        );
    }

    #[test]
    fn a_prefix_goes_by_whole_segments() {
        let prefix = PathMatch::Prefix("/chat".into());
        assert!(
            ["/chat", "/chat/", "/chat/a", "/chat//"]
                .iter()
                .all(|path| prefix.matches(path))
        );
        assert!(
            ["/chatter", "/", "/cha", "/a/chat"]
                .iter()
                .all(|path| !prefix.matches(path))
        );
        let root = PathMatch::Prefix("/".into());
        assert!(["/", "/chat", "//", "*"].iter().all(|path| root.matches(path)));
    }

    #[test]
    fn an_exact_name_goes_before_a_wildcard() {
        let host = |name: &str| {
            let name: HostName = name.parse().unwrap();
            let routes = Box::default();
            let tls = HostTls::default();
            Arc::new(Host { name, routes, tls })
        };
        let mut table = HostTable::default();
        table.exact.insert("a.example.com".into(), host("a.example.com"));
        table.wildcard.insert("example.com".into(), host("*.example.com"));
        let find = |name: &str| table.find(name).map(|host| host.name.to_string());
        assert_eq!(find("a.example.com").as_deref(), Some("a.example.com"));
        assert_eq!(find("b.example.com").as_deref(), Some("*.example.com"));
        assert_eq!(find("c.b.example.com"), None);
        assert_eq!(find("example.com"), None);
        assert_eq!(find(".example.com"), None);
    }
}
