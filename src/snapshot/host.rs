//! Hostname to routes: the exact name first, then the narrowest wildcard that covers it.

use std::sync::Arc;

use serde::Serialize;

use super::certificate::HostTls;
use super::route::Route;
use super::sharded::Sharded;
use crate::hostname::HostName;
use crate::matching::Head;
use crate::policy::path::{self, AmbiguousPaths, Readings};

/// All hosts by name. A wildcard `*.example.com` is kept under `example.com`, whether it stands for one label or more.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HostTable {
    pub exact: Sharded<Arc<str>, Arc<Host>>,
    /// Wildcards that stand for exactly one label.
    #[serde(rename = "wildcard")]
    pub one_label: Sharded<Arc<str>, Arc<Host>>,
    /// Wildcards that stand for one label or more, as Gateway API's do. None until there is one: then a name that is not
    /// found costs no further look-ups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suffix: Option<Sharded<Arc<str>, Arc<Host>>>,
    /// The catch-all, for every other name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<Arc<Host>>,
}

/// The routes of one hostname, all of one namespace.
#[derive(Debug, PartialEq, Serialize)]
pub struct Host {
    pub name: HostName,
    /// As `order` puts them: the first that matches answers.
    pub routes: Box<[Route]>,
    #[serde(skip_serializing_if = "HostTls::is_plain")]
    pub tls: HostTls,
    #[serde(skip)]
    by_path: bool,
    /// Whether a request has to pass other rules by one route than by another.
    #[serde(skip)]
    rules_differ: bool,
}

impl HostTable {
    /// `host` is lower case, without port and trailing dot.
    pub fn find(&self, host: &str) -> Option<&Arc<Host>> {
        let one_label = || {
            let (label, parent) = host.split_once('.')?;
            (!label.is_empty()).then(|| self.one_label.get(parent))?
        };
        self.exact
            .get(host)
            .or_else(one_label)
            .or_else(|| longest_suffix(self.suffix.as_ref()?, host))
            .or(self.any.as_ref())
    }
}

/// The host of the longest parent of this name. At least one label must stand before the parent.
fn longest_suffix<'a>(hosts: &'a Sharded<Arc<str>, Arc<Host>>, name: &str) -> Option<&'a Arc<Host>> {
    let mut dots = name.match_indices('.').filter(|(at, _)| *at > 0);
    dots.find_map(|(at, _)| hosts.get(&name[at + 1..]))
}

impl Host {
    /// The routes must be in order.
    pub fn new(name: HostName, routes: Box<[Route]>, tls: HostTls) -> Self {
        let by_path = routes.iter().all(|route| route.matches.is_by_path());
        let mut neighbours = routes.windows(2);
        let rules_differ = neighbours.any(|pair| !pair[0].has_rules_of(&pair[1]));
        Self {
            name,
            routes,
            tls,
            by_path,
            rules_differ,
        }
    }

    /// Whether all routes match by path alone: then nothing else of a request's head is looked at.
    pub fn is_by_path(&self) -> bool {
        self.by_path
    }

    /// The route that answers.
    pub fn find(&self, head: &Head<'_>) -> Option<&Route> {
        if self.by_path {
            return self.routes.iter().find(|route| route.matches.path.matches(head.path));
        }
        self.routes.iter().find(|route| route.matches.holds(head))
    }

    /// Whether an app may read the path, by which `route` was found, as one that has to pass other rules: `/x/..%2fadmin`
    /// where `/admin` is another Deployment's, and both lead to one app. Where ambiguous paths are rejected no list of readings
    /// has to be complete: none of them passes.
    pub fn is_read_past_rules(&self, head: &Head<'_>, route: &Route) -> bool {
        let path = head.path;
        if !self.rules_differ || path::is_plain(path) {
            return false;
        }
        let readings = Readings::of(path);
        if readings.is_ambiguous() && route.deployment.ambiguous_paths == AmbiguousPaths::Reject {
            return true;
        }
        readings.any(|reading| {
            self.find(&Head { path: reading, ..*head })
                .is_some_and(|other| other.is_guarded() && !other.has_rules_of(route))
        })
    }
}

/// Sorts the routes of one host into the order in which they are tried. They must come with the oldest object's first, and
/// each object's in their order.
pub fn order(routes: &mut [Route]) {
    routes.sort_by(|a, b| a.matches.precedence().cmp(&b.matches.precedence()));
}

#[cfg(test)]
mod tests;
