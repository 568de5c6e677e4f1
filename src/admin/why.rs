//! Which object, path and endpoints answer for a URL, or which error and why. Reads the snapshot as the proxy does, and
//! sends nothing.

use std::fmt;
use std::net::SocketAddr;
use std::sync::OnceLock;

use http::HeaderValue;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::question::Question;
use crate::hostname::normalize;
use crate::matching::Head;
use crate::policy::engine::Run;
use crate::policy::mode::Mode;
use crate::policy::trace::{Outcome, Step};
use crate::policy::{Passed, Request, Services};
use crate::reason::Reason;
use crate::snapshot::{Action, Backend, ClientTls, Host, ListenerKey, Route, Snapshot};
use crate::tls::Certificate;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// As the proxy reads it: lower case, without port and trailing dot.
    pub host: String,
    pub path: String,
    /// The name that answers for the host: itself, or a wildcard.
    pub hostname: Option<String>,
    /// What is shown to clients over TLS, the preferred first. Empty: a self-signed one.
    pub certificates: Vec<Shown>,
    /// What clients must or may show.
    pub client_tls: Option<String>,
    /// The paths that this hostname serves, in the order in which they are tried.
    pub paths: Vec<String>,
    pub route: Option<Found>,
    /// What stands before the app, in the order in which it is asked, up to the rule that refuses.
    pub rules: Vec<Rule>,
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
    pub rule: String,
    pub kind: String,
    pub shadow: bool,
    pub outcome: String,
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

pub async fn explain(snapshot: &Snapshot, question: &Question, services: &Services) -> Explanation {
    let host = normalize(&question.host);
    let path = question.uri.path();
    let found = snapshot.hosts(ListenerKey::Https).find(&host);
    let head = Head {
        method: &question.method,
        path,
        query: question.uri.query(),
        headers: &question.headers,
    };
    let route = found.and_then(|found| found.find(&head));
    let error = match (found, route) {
        (None, _) => Some(Reason::HostNotFound),
        (Some(_), None) => Some(Reason::PathNotFound),
        (Some(host), Some(route)) if host.is_read_past_rules(&head, route) => Some(Reason::AmbiguousPath),
        (Some(host), Some(route)) => refusal(host, route),
    };
    let is_routed = error != Some(Reason::AmbiguousPath);
    let (rules, refused) = match route {
        Some(route) => rules(route, &host, question, services).await,
        None => (Vec::new(), None),
    };
    // Rules are asked before an endpoint is looked for, but not where a route refuses whatever comes.
    let refuses_all = !is_routed || route.is_none_or(|route| matches!(route.action, Action::Refuse(_)));
    let error = if refuses_all { error } else { refused.or(error) };
    let paths = found.map_or_else(Vec::new, |found| {
        found.routes.iter().map(|route| route.matches.to_string()).collect()
    });
    Explanation {
        certificates: snapshot
            .certificates(ListenerKey::Https, &host)
            .map(|c| Shown::from(&**c))
            .collect(),
        client_tls: found.and_then(|found| found.tls.client.as_deref()).map(rule),
        hostname: found.map(|found| found.name.to_string()),
        host: host.into_owned(),
        path: path.to_owned(),
        paths,
        route: route.map(Found::from),
        rules,
        error: error.map(Refusal::from),
    }
}

/// What each rule makes of the request, and the first refusal.
async fn rules(route: &Route, host: &str, question: &Question, services: &Services) -> (Vec<Rule>, Option<Reason>) {
    let Some(policies) = &route.policies else {
        return (Vec::new(), None);
    };
    let Ok(authority) = HeaderValue::try_from(&question.host) else {
        return (Vec::new(), Some(Reason::BadRequest));
    };
    let request = Request {
        method: &question.method,
        headers: &question.headers,
        authority: &authority,
        host,
        uri: &question.uri,
        client: question.client.to_canonical(),
        trusted: false,
        https: true,
        web_socket: question.web_socket,
        certificate: None,
        readings: OnceLock::new(),
    };
    let mut passed = Passed::default();
    let paths = route.deployment.ambiguous_paths;
    let steps = match Run::new(policies, &request, paths, services, &mut passed) {
        Ok(mut run) => run.trace().await,
        Err(refusal) => return (Vec::new(), Some(refusal.reason)),
    };
    let refused = steps.iter().find_map(|step| match step.outcome {
        Outcome::Refuses(reason) if step.mode == Mode::Enforce => Some(reason),
        _ => None,
    });
    (steps.iter().map(Rule::from).collect(), refused)
}

/// What every request of the route gets instead of the app. One whose share of backends is missing gets it now and then.
fn refusal(host: &Host, route: &Route) -> Option<Reason> {
    match &route.action {
        Action::Refuse(reason) => Some(*reason),
        // By the hostname's rule clients are met, and this route's is another.
        Action::Forward(_) if route.client_tls.is_some() && route.client_tls != host.tls.client => {
            Some(Reason::Misdirected)
        }
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

fn rule(client: &ClientTls) -> String {
    format!("{:?}, signed by {}", client.mode, client.authorities.source)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hostname::HostName;
    use crate::matching::PathMatch;
    use crate::object::{self, ObjectId, ObjectKey, UpstreamKey};
    use crate::policy::path::AmbiguousPaths;
    use crate::proxy::balance::choose_backend;
    use crate::runtime::{Lazy, Slot};
    use crate::snapshot::{Deployment, HostTable, HostTls, RunState, Timeouts};
    use crate::upstream::balance::Strategy;
    use crate::upstream::{Endpoint, Protocol, Upstream};

    /// What a backend can be: without a Service, without an endpoint, whole.
    #[derive(Clone, Copy, Debug)]
    enum Kind {
        Missing,
        Empty,
        Ready,
    }

    fn backend(kind: Kind, weight: u32) -> Backend {
        let endpoint = Endpoint {
            address: "10.0.0.1:80".parse().unwrap(),
            runtime: Slot::default(),
        };
        let upstream = |endpoints: Vec<Endpoint>| {
            Some(Arc::new(Upstream {
                key: UpstreamKey {
                    namespace: "acme".into(),
                    service: "shop".into(),
                    port: 80,
                },
                protocol: Protocol::Http1,
                rotation: Lazy::default(),
                endpoints: endpoints.into(),
            }))
        };
        let upstream = match kind {
            Kind::Missing => None,
            Kind::Empty => upstream(Vec::new()),
            Kind::Ready => upstream(vec![endpoint]),
        };
        Backend { weight, upstream }
    }

    fn snapshot(action: Action) -> Snapshot {
        let deployment = Deployment {
            id: ObjectId::new(object::Kind::Deployment, ObjectKey::new("acme", "shop")),
            uid: "1".into(),
            deployment_id: "shop".parse().unwrap(),
            state: RunState::Running,
            timeouts: Timeouts {
                connect: None,
                dial_budget: None,
                response: None,
                idle: None,
                total: None,
                handshake: None,
            },
            strategy: Strategy::Random,
            ambiguous_paths: AmbiguousPaths::Reject,
            runtime: Slot::default(),
        };
        let route = Route {
            matches: PathMatch::Prefix("/cart".into()).into(),
            deployment: Arc::new(deployment),
            action,
            client_tls: None,
            upstream_tls: Arc::default(),
            policies: None,
        };
        let name: HostName = "*.shop.example".parse().unwrap();
        let mut hosts = HostTable::default();
        hosts.one_label.insert(
            "shop.example".into(),
            Arc::new(Host::new(name, [route].into(), HostTls::default())),
        );
        Snapshot {
            hosts,
            ..Snapshot::default()
        }
    }

    async fn asked(snapshot: &Snapshot, host: &str, path: &str) -> Explanation {
        let question = Question::new(host, path).unwrap();
        explain(snapshot, &question, &Services::default()).await
    }

    #[tokio::test]
    async fn the_error_is_the_one_that_the_proxy_would_answer_with() {
        let kinds = [Kind::Missing, Kind::Empty, Kind::Ready];
        let one = kinds
            .into_iter()
            .flat_map(|kind| [0, 1, 3].map(|weight| (kind, weight)));
        for (a, b) in one.clone().flat_map(|a| one.clone().map(move |b| (a, b))) {
            let backends: Arc<[Backend]> = [backend(a.0, a.1), backend(b.0, b.1)].into();
            let answers: Vec<_> = (0..100).map(|_| choose_backend(&backends).map(|_| ())).collect();
            let expected = if answers.iter().any(Result::is_ok) {
                Ok(())
            } else {
                answers[0]
            };
            let explanation = asked(&snapshot(Action::Forward(backends)), "a.shop.example", "/cart").await;
            let code = explanation.error.map(|error| error.code);
            assert_eq!(
                code,
                expected.err().map(|reason| reason.code().to_owned()),
                "{a:?} {b:?}"
            );
        }
    }

    #[tokio::test]
    async fn it_names_what_was_found_and_what_was_not() {
        let snapshot = snapshot(Action::Refuse(Reason::DeploymentOffline));
        let text = async |host: &str, path: &str| asked(&snapshot, host, path).await.to_string();
        let found = text("A.shop.example.:8080", "/cart/1").await;
        for line in [
            "hostname    *.shop.example",
            "tls         a self-signed certificate",
            "path        Prefix /cart",
            "deployment  acme/shop",
            "503 capacity:deployment_offline",
        ] {
            assert!(found.contains(line), "{line}: {found}");
        }
        let path = text("a.shop.example", "/carts").await;
        assert!(
            path.contains("its paths   Prefix /cart") && path.contains("404 routing:path_not_found"),
            "{path}"
        );
        let host = text("a.b.shop.example", "/cart").await;
        assert!(
            host.contains("404 routing:host_not_found") && !host.contains("hostname "),
            "{host}"
        );
    }
}
