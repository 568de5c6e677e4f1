//! Which object, path and endpoints answer for a URL, or which error and why. Reads the snapshot as the proxy does, and
//! sends nothing.

mod explanation;

pub use explanation::Explanation;

use std::sync::OnceLock;

use http::HeaderValue;

use self::explanation::{Found, Refusal, Rule, Shown};
use super::question::Question;
use crate::hostname::normalize;
use crate::matching::Head;
use crate::policy::engine::Run;
use crate::policy::mode::Mode;
use crate::policy::trace::Outcome;
use crate::policy::{Passed, Request, Services};
use crate::reason::Reason;
use crate::snapshot::{Action, ClientTls, Host, ListenerKey, Route, Snapshot};

/// The answer to the question by this snapshot. Rules are evaluated as for a request, but count nothing and ask no server.
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
        client: Some(question.client.to_canonical()),
        trusted: false,
        https: true,
        web_socket: question.web_socket,
        certificate: None,
        readings: OnceLock::new(),
    };
    let mut passed = Passed::default();
    let paths = route.deployment.ambiguous_paths;
    let steps = match Run::begin(policies, &request, paths, services, &mut passed).await {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hostname::HostName;
    use crate::matching::PathMatch;
    use crate::object::{self, ObjectId, ObjectKey, UpstreamKey};
    use crate::policy::path::AmbiguousPaths;
    use crate::proxy::backend::choose_backend;
    use crate::runtime::{Lazy, Slot};
    use crate::snapshot::{Backend, Deployment, HostTable, HostTls, RunState, Timeouts};
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
