//! What is said of a URL: as JSON between `postern why` and the admin port, and as text for a terminal.

use std::fmt;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::mode::Mode;
use crate::policy::trace::{Outcome, Step};
use crate::reason::Reason;
use crate::snapshot::{Action, Backend, Route};
use crate::tls::Certificate;

/// What answers for a URL, or which error does.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// As the proxy reads it: lower case, without port and trailing dot.
    pub host: String,
    /// Verbatim, without the query.
    pub path: String,
    /// The name that answers for the host: itself, or a wildcard.
    pub hostname: Option<String>,
    /// What is shown to clients over TLS, the preferred first. Empty: a self-signed one.
    pub certificates: Vec<Shown>,
    /// What clients must or may show.
    pub client_tls: Option<String>,
    /// The paths that this hostname serves, in the order in which they are tried.
    pub paths: Vec<String>,
    /// The route that is chosen; None: no route matches the host, path and conditions.
    pub route: Option<Found>,
    /// What stands before the app, in the order in which it is asked, up to the rule that refuses.
    pub rules: Vec<Rule>,
    /// None: the request is forwarded.
    pub error: Option<Refusal>,
}

/// A route, and the Deployment that it is of.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// As objects have it: the kind of match and its text.
    pub path: String,
    /// Namespace and name of the Deployment.
    pub deployment: String,
    /// Empty where the route refuses whatever comes.
    pub backends: Vec<Share>,
}

/// A certificate, by the Secret that it is from.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// Namespace and name of the Secret.
    pub secret: String,
    /// As RFC 3339 has it.
    pub not_after: String,
}

/// What one rule makes of the request.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Namespace and name of the SentinelPolicy.
    pub policy: String,
    /// The rule's name within its policy.
    pub rule: String,
    /// As it is written in objects, such as `rateLimit`.
    pub kind: String,
    /// Whether what it decides is only counted and told: by its own mode or, without one, by its policy's.
    pub shadow: bool,
    /// A sentence without its subject, such as "passes".
    pub outcome: String,
}

/// One backend of a route.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// The backend's share of requests, in proportion to the sum of the route's weights.
    pub weight: u32,
    /// None: the Service or its port does not exist.
    pub service: Option<String>,
    /// Those that are ready. Empty: there is none, or no Service.
    pub endpoints: Vec<SocketAddr>,
}

/// The answer that Postern gives by itself.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// As X-Postern-Error and the docs have it.
    pub code: String,
    /// The sentence that clients read.
    pub detail: String,
}

/// For a terminal.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}{}", self.host, self.path)?;
        if let Some(hostname) = &self.hostname {
            writeln!(f, "  hostname    {hostname}")?;
            for Shown { secret, not_after } in &self.certificates {
                writeln!(f, "  tls         Secret {secret}, until {not_after}")?;
            }
            if self.certificates.is_empty() {
                writeln!(f, "  tls         a self-signed certificate")?;
            }
            if let Some(rule) = &self.client_tls {
                writeln!(f, "  clients     certificate {rule}")?;
            }
        }
        match &self.route {
            Some(route) => {
                writeln!(f, "  path        {}", route.path)?;
                writeln!(f, "  deployment  {}", route.deployment)?;
                for share in &route.backends {
                    writeln!(f, "  backend     {share}")?;
                }
                for rule in &self.rules {
                    let shadow = if rule.shadow { ", in Shadow mode" } else { "" };
                    let Rule {
                        policy,
                        rule,
                        kind,
                        outcome,
                        ..
                    } = rule;
                    writeln!(f, "  rule        {policy}/{rule} ({kind}{shadow}) {outcome}")?;
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
            None => write!(
                f,
                "weight {}, the Service, port or TLS reference does not exist: its share of requests gets 503",
                self.weight
            ),
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

impl From<&Step> for Rule {
    fn from(step: &Step) -> Self {
        Self {
            policy: step.policy.to_string(),
            rule: step.rule.to_string(),
            kind: step.kind.to_owned(),
            shadow: step.mode == Mode::Shadow,
            outcome: match step.outcome {
                Outcome::DoesNotApply => "does not apply".to_owned(),
                Outcome::Passes => "passes".to_owned(),
                Outcome::EndsPolicy => "passes, and skips the rest of its policy".to_owned(),
                Outcome::Authenticates => "passes, and authenticates the client".to_owned(),
                Outcome::Answers => "answers the preflight".to_owned(),
                Outcome::Refuses(reason) => format!("refuses: {} {}", reason.status().as_u16(), reason.code()),
                Outcome::NotAsked => "is evaluated for real requests only".to_owned(),
            },
        }
    }
}

impl From<&Certificate> for Shown {
    fn from(certificate: &Certificate) -> Self {
        let not_after = Timestamp::from_second(certificate.not_after);
        Self {
            secret: certificate.secret.to_string(),
            not_after: not_after.map_or_else(|_| certificate.not_after.to_string(), |at| at.to_string()),
        }
    }
}

impl From<&Route> for Found {
    fn from(route: &Route) -> Self {
        let backends = match &route.action {
            Action::Forward(backends) => backends.iter().map(Share::from).collect(),
            Action::Refuse(_) => Vec::new(),
        };
        Self {
            path: route.matches.to_string(),
            deployment: route.deployment.id.key.to_string(),
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
