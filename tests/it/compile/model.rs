//! The rules for names and paths, written down once more as plainly as they can be, without tables, order or memory: what
//! compile builds and the data plane looks up must answer the same.

use http::{HeaderMap, Method};
use postern::api::deployment::{DeploymentSpec, PathRule, PathType};
use postern::config::Routing;
use postern::hostname::HostName;
use postern::matching::Head;
use postern::object::ObjectKey;
use postern::store::{Deployment, Object};
use proptest::collection::vec;
use proptest::prelude::*;

use super::world::{deployment, from_scratch, one_of_each, routing, store};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered_by_the_deployment_that_the_rules_name(
        routing in routing(),
        objects in vec(deployment().prop_map(Object::Deployment), 1..8).prop_map(one_of_each),
    ) {
        let deployments: Vec<_> = objects.iter().map(|object| match object {
            Object::Deployment(deployment) => deployment.clone(),
            _ => unreachable!("only Deployments are drawn"),
        }).collect();
        let snapshot = from_scratch(&store(objects), &routing).snapshot;
        let headers = HeaderMap::new();
        for host in HOSTS {
            for path in PATHS {
                let found = snapshot.hosts.find(host).and_then(|host| host.find(&Head { method: &Method::GET, path, query: None, headers: &headers }));
                let wanted = answer(&deployments, &routing, host, path);
                prop_assert_eq!(found.map(|route| route.deployment.id.key.clone()), wanted, "{}{}", host, path);
            }
        }
    }
}

const HOSTS: [&str; 9] = [
    "example.com",
    "x.example.com",
    "y.example.com",
    "z.example.com",
    "x.y.example.com",
    "z.y.example.com",
    "one-a.example.com",
    ".example.com",
    "com",
];

const PATHS: [&str; 10] = [
    "/", "/a", "/a/", "/a/b", "/a/bc", "/ab", "/a/b/c", "/a/b/c/d", "/b", "//",
];

/// The Deployment that answers, by the rules of the API.
fn answer(all: &[Deployment], routing: &Routing, host: &str, path: &str) -> Option<ObjectKey> {
    let exact: HostName = host.parse().ok()?;
    let name = match (owner(all, routing, &exact), exact.wildcard_above()) {
        (Some(_), _) => exact,
        (None, Some(wildcard)) => wildcard,
        (None, None) => return None,
    };
    let owner = owner(all, routing, &name)?;
    let mut sharing: Vec<_> = all
        .iter()
        .filter(|d| d.key.namespace == owner.key.namespace && may_have(all, routing, d, &name))
        .collect();
    sharing.sort_by_key(|d| age(d));
    let mut best: Option<(bool, usize, &Deployment)> = None;
    for deployment in sharing {
        for (text, kind) in paths(deployment) {
            let rank = match kind {
                PathType::Exact if text == path => (true, text.len()),
                PathType::Prefix if covers(&text, path) => (false, segments(&text).len()),
                _ => continue,
            };
            // Only a better path takes over from an older Deployment.
            if best.is_none_or(|(exact, length, _)| rank > (exact, length)) {
                best = Some((rank.0, rank.1, deployment));
            }
        }
    }
    best.map(|(_, _, deployment)| deployment.key.clone())
}

/// The oldest Deployment that lists the name and may have it; one by a grant goes before one that only has it assigned.
fn owner<'a>(all: &'a [Deployment], routing: &Routing, name: &HostName) -> Option<&'a Deployment> {
    all.iter()
        .filter(|d| may_have(all, routing, d, name))
        .min_by_key(|d| (!is_granted(routing, &d.key.namespace, name), age(d)))
}

fn is_granted(routing: &Routing, namespace: &str, name: &HostName) -> bool {
    let grants = routing
        .hostname_grants
        .as_ref()
        .and_then(|grants| grants.get(namespace));
    grants.into_iter().flatten().any(|pattern| match name {
        HostName::Exact(name) => pattern.covers(name),
        HostName::Wildcard(_) => pattern == name,
    })
}

fn may_have(all: &[Deployment], routing: &Routing, deployment: &Deployment, name: &HostName) -> bool {
    if !lists(deployment, routing, name) {
        return false;
    }
    let granted = is_granted(routing, &deployment.key.namespace, name);
    if assigned(deployment, routing).as_ref() == Some(name) {
        let by_itself = routing
            .hostname_grants
            .iter()
            .flatten()
            .any(|(_, names)| names.contains(name));
        return granted || !by_itself;
    }
    match &routing.hostname_grants {
        Some(_) => granted,
        None => {
            let Some(wildcard) = name.wildcard_above() else {
                return true;
            };
            let Some(above) = owner(all, routing, &wildcard) else {
                return true;
            };
            let namespace = all.iter().filter(|d| d.key.namespace == deployment.key.namespace);
            let oldest = namespace.filter(|d| lists(d, routing, name)).map(age).min();
            above.key.namespace == deployment.key.namespace || oldest < Some(age(above))
        }
    }
}

fn lists(deployment: &Deployment, routing: &Routing, name: &HostName) -> bool {
    let Some(spec) = ours(deployment) else { return false };
    let listed = spec.hostnames.iter().filter_map(|text| text.parse::<HostName>().ok());
    listed
        .chain(assigned(deployment, routing))
        .any(|listed| listed == *name)
}

/// Only for short names without dots: the others' hash is none of this model's business, and no host here asks for it.
fn assigned(deployment: &Deployment, routing: &Routing) -> Option<HostName> {
    let ObjectKey { namespace, name } = &deployment.key;
    ours(deployment)?;
    if name.contains('.') {
        return None;
    }
    format!("{name}-{namespace}.{}", routing.apex_domain.as_ref()?)
        .parse()
        .ok()
}

fn ours(deployment: &Deployment) -> Option<&DeploymentSpec> {
    let spec = deployment.spec.as_ref().ok()?;
    (spec.class_name == "postern").then_some(spec)
}

fn age(deployment: &Deployment) -> (i64, ObjectKey) {
    (deployment.created, deployment.key.clone())
}

/// The usable paths, with their Deployment's own backends where they have none.
fn paths(deployment: &Deployment) -> Vec<(String, PathType)> {
    let Some(spec) = ours(deployment) else {
        return Vec::new();
    };
    let own = usable(spec.service.as_ref(), &spec.backends);
    if spec.paths.is_empty() {
        return if own == Some(true) {
            vec![("/".to_owned(), PathType::Prefix)]
        } else {
            Vec::new()
        };
    }
    let usable = |rule: &&PathRule| match usable(rule.service.as_ref(), &rule.backends) {
        Some(usable) => usable,
        None => own == Some(true),
    };
    let rules = spec
        .paths
        .iter()
        .filter(|rule| rule.path.starts_with('/'))
        .filter(usable);
    rules.map(|rule| (rule.path.clone(), rule.r#type)).collect()
}

/// None: nothing is named.
fn usable(
    service: Option<&postern::api::deployment::ServiceRef>,
    backends: &[postern::api::deployment::BackendRef],
) -> Option<bool> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let port =
        |port: &IntOrString| !matches!(port, IntOrString::Int(0)) && *port != IntOrString::String("80".to_owned());
    match (service, backends) {
        (None, []) => None,
        (Some(service), []) => Some(port(&service.port)),
        (None, backends) => Some(backends.iter().all(|b| b.weight <= 1000 && port(&b.service.port))),
        (Some(_), _) => Some(false),
    }
}

/// By whole segments.
fn covers(prefix: &str, path: &str) -> bool {
    let (prefix, path) = (segments(prefix), path.split('/').skip(1).collect::<Vec<_>>());
    path.len() >= prefix.len() && path[..prefix.len()] == prefix[..]
}

/// A trailing slash adds none.
fn segments(path: &str) -> Vec<&str> {
    path.trim_end_matches('/').split('/').skip(1).collect()
}
