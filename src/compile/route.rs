//! A Deployment's routes: its paths and the upstreams behind them, before other Deployments' claims are looked at.

use std::sync::Arc;

use super::backend::Services;
use super::policy::Guard;
use super::tls::{Client, Terms};
use super::wanted::{Targets, Wanted};
use crate::reason::Reason;
use crate::snapshot::{Action, Backend, Route, RunState};
use crate::upstream::{Protocol, Upstream};

/// One route for each rule, in their order.
pub fn routes(wanted: &Wanted, services: &Services, terms: &Terms, guard: &Guard) -> Box<[Route]> {
    let actions: Vec<_> = wanted
        .targets
        .iter()
        .map(|targets| action(wanted.part.state, targets, services, terms, guard))
        .collect();
    let client_tls = match &terms.client {
        Client::Rule(rule) => Some(rule),
        Client::Anyone | Client::Unresolved => None,
    };
    wanted
        .rules
        .iter()
        .map(|rule| Route {
            matches: rule.path.clone().into(),
            deployment: wanted.part.clone(),
            action: actions[rule.targets].clone(),
            client_tls: client_tls.cloned(),
            upstream_tls: terms.upstream.clone(),
            policies: match guard {
                Guard::Policies(policies) => Some(policies.clone()),
                Guard::Nothing | Guard::Closed => None,
            },
        })
        .collect()
}

fn action(state: RunState, targets: &Targets, services: &Services, terms: &Terms, guard: &Guard) -> Action {
    if state == RunState::Stopped {
        return Action::Refuse(Reason::DeploymentOffline);
    }
    if terms.client == Client::Unresolved || *guard == Guard::Closed {
        return Action::Refuse(Reason::PolicyInvalid);
    }
    let reachable = |upstream: &&Arc<Upstream>| upstream.protocol != Protocol::Https || terms.upstream_resolved;
    let backends: Arc<[Backend]> = targets
        .list
        .iter()
        .filter(|target| target.weight > 0)
        .map(|target| Backend {
            weight: target.weight,
            upstream: match services.find(&target.service, &target.port) {
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
