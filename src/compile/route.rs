//! An object's routes: its rules and the upstreams behind them, before other objects' claims are looked at.

use std::sync::Arc;

use super::backend::Services;
use super::intent::{BackendList, Intent};
use super::policy::Guard;
use super::tls::{Client, ResolvedTls};
use crate::reason::Reason;
use crate::snapshot::{Action, Backend, Route, RunState};
use crate::upstream::{Protocol, Upstream};

/// One route for each rule, in their order.
pub fn routes(intent: &Intent, services: &Services, tls: &ResolvedTls, guard: &Guard) -> Box<[Route]> {
    let lists = intent.backends.iter();
    let actions: Vec<_> = lists
        .map(|list| action(intent.deployment.state, list, services, tls, guard))
        .collect();
    let client_tls = match &tls.client {
        Client::Rule(rule) => Some(rule),
        Client::Anyone | Client::Unresolved => None,
    };
    intent
        .rules
        .iter()
        .map(|rule| Route {
            matches: rule.matches.clone(),
            deployment: intent.deployment.clone(),
            action: actions[rule.backends].clone(),
            client_tls: client_tls.cloned(),
            upstream_tls: tls.upstream.clone(),
            policies: match guard {
                Guard::Policies(policies) => Some(policies.clone()),
                Guard::Nothing | Guard::Closed => None,
            },
        })
        .collect()
}

fn action(state: RunState, list: &BackendList, services: &Services, tls: &ResolvedTls, guard: &Guard) -> Action {
    match state {
        RunState::Running => {}
        RunState::Stopped => return Action::Refuse(Reason::DeploymentOffline),
        RunState::Undecodable => return Action::Refuse(Reason::DeploymentInvalid),
    }
    if tls.client == Client::Unresolved || *guard == Guard::Closed {
        return Action::Refuse(Reason::PolicyInvalid);
    }
    let reachable = |upstream: &&Arc<Upstream>| upstream.protocol != Protocol::Https || tls.upstream_resolved;
    let backends: Arc<[Backend]> = list
        .0
        .iter()
        .filter(|backend| backend.weight > 0)
        .map(|backend| Backend {
            weight: backend.weight,
            upstream: match services.find(&backend.service, &backend.port) {
                Ok(found) => Some(&found.upstream).filter(reachable).cloned(),
                Err(_) => None,
            },
        })
        .collect();
    if backends.is_empty() {
        // All weights are 0: someone has taken every backend out on purpose. Nothing is configured wrongly, nothing is
        // ready to answer.
        Action::Refuse(Reason::NoReadyEndpoint)
    } else if backends.iter().all(|backend| backend.upstream.is_none()) {
        Action::Refuse(Reason::BackendNotFound)
    } else {
        Action::Forward(backends)
    }
}
