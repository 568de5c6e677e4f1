//! Which object, path and endpoints answer for a URL, or which error and why. Reads the snapshot as the proxy does, and
//! sends nothing.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::proxy::error::Reason;
use crate::snapshot::{Action, Backend, PathMatch, Route, Snapshot};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// As the proxy reads it: lower case, without port and trailing dot.
    pub host: String,
    pub path: String,
    /// The name that answers for the host: itself, or a wildcard.
    pub hostname: Option<String>,
    /// The paths that this hostname serves, in the order in which they are tried.
    pub paths: Vec<String>,
    pub route: Option<Found>,
    /// None: the request is forwarded.
    pub error: Option<Refusal>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    pub path: String,
    /// Namespace and name of the Deployment.
    pub deployment: String,
    pub backends: Vec<Share>,
}

/// One backend of a route.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    pub weight: u32,
    /// None: the Service or its port does not exist.
    pub service: Option<String>,
    pub endpoints: Vec<SocketAddr>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub struct Refusal {
    pub status: u16,
    pub code: String,
    pub detail: String,
}

/// `host` may have a port.
pub fn explain(snapshot: &Snapshot, host: &str, path: &str) -> Explanation {
    let host = normalized(host);
    let (hostname, paths, route) = match snapshot.hosts.find(&host) {
        None => (None, Vec::new(), None),
        Some(found) => (
            Some(found.name.to_string()),
            found.routes.iter().map(|route| display(&route.path)).collect(),
            found.find(path),
        ),
    };
    let error = match (&hostname, route) {
        (None, _) => Some(Reason::HostNotFound),
        (Some(_), None) => Some(Reason::PathNotFound),
        (Some(_), Some(route)) => refusal(route),
    };
    Explanation {
        host,
        path: path.to_owned(),
        hostname,
        paths,
        route: route.map(Found::from),
        error: error.map(Refusal::from),
    }
}

/// What every request of the route gets instead of the app. One whose share of backends is missing gets it now and then.
fn refusal(route: &Route) -> Option<Reason> {
    match &route.action {
        Action::Refuse(reason) => Some(*reason),
        Action::Forward(backends) => {
            let share = |missing: bool| {
                backends
                    .iter()
                    .filter(|backend| match &backend.upstream {
                        None => missing,
                        Some(upstream) => !missing && !upstream.endpoints.is_empty(),
                    })
                    .map(|backend| backend.weight)
                    .sum::<u32>()
            };
            match (share(false), share(true)) {
                (0, 0) => Some(Reason::NoReadyEndpoint),
                (0, _) => Some(Reason::BackendNotFound),
                _ => None,
            }
        }
    }
}

fn normalized(host: &str) -> String {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default().to_ascii_lowercase();
    name.strip_suffix('.').map_or(name.clone(), str::to_owned)
}

fn display(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(path) => format!("Exact {path}"),
        PathMatch::Prefix(path) => format!("Prefix {path}"),
    }
}

impl From<&Route> for Found {
    fn from(route: &Route) -> Self {
        let backends = match &route.action {
            Action::Forward(backends) => backends.iter().map(Share::from).collect(),
            Action::Refuse(_) => Vec::new(),
        };
        Self {
            path: display(&route.path),
            deployment: route.deployment.key.to_string(),
            backends,
        }
    }
}

impl From<&Backend> for Share {
    fn from(backend: &Backend) -> Self {
        let upstream = backend.upstream.as_deref();
        Self {
            weight: backend.weight,
            service: upstream.map(|u| format!("{}/{}:{}", u.key.namespace, u.key.service, u.key.port)),
            endpoints: upstream.map_or_else(Vec::new, |u| u.endpoints.iter().map(|e| e.address).collect()),
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            status: reason.status().as_u16(),
            code: reason.code().to_owned(),
            detail: reason.detail().to_owned(),
        }
    }
}

/// For a terminal.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}{}", self.host, self.path)?;
        if let Some(hostname) = &self.hostname {
            writeln!(f, "  hostname    {hostname}")?;
        }
        match &self.route {
            Some(route) => {
                writeln!(f, "  path        {}", route.path)?;
                writeln!(f, "  deployment  {}", route.deployment)?;
                for share in &route.backends {
                    writeln!(f, "  backend     {share}")?;
                }
            }
            None if !self.paths.is_empty() => writeln!(f, "  its paths   {}", self.paths.join(", "))?,
            None => {}
        }
        match &self.error {
            None => write!(f, "  answer      the app's"),
            Some(error) => write!(f, "  answer      {} {}: {}", error.status, error.code, error.detail),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            None => write!(f, "weight {}, no such Service or port: its share gets 503", self.weight),
            Some(service) => {
                write!(f, "{service}, weight {}, ", self.weight)?;
                match &self.endpoints[..] {
                    [] => f.write_str("no ready endpoint"),
                    endpoints => {
                        let texts: Vec<_> = endpoints.iter().map(SocketAddr::to_string).collect();
                        f.write_str(&texts.join(" "))
                    }
                }
            }
        }
    }
}
