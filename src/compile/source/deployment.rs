//! Reads the Deployment kind.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;

use super::deployment_tls;
use crate::api::deployment::{self, BackendRef, DeploymentSpec, PathRule, ServiceRef};
use crate::compile::problem::{Problem, Quoted};
use crate::compile::syntax::{is_label, parse_path, port_ref};
use crate::compile::wanted::{Claimed, Right, Rule, Source, Target, Targets, Wanted};
use crate::config::Routing;
use crate::hostname::{self, HostName};
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::policy::path::AmbiguousPaths;
use crate::runtime::Slot;
use crate::snapshot::{self, PathMatch, RunState, Timeouts};
use crate::store;
use crate::text::Hex;
use crate::upstream::balance::Strategy;

// As the CRD's schema has them.
pub const MAX_HOSTNAMES: usize = 16;
pub const MAX_PATHS: usize = 32;
pub const MAX_BACKENDS: usize = 16;
pub const MAX_WEIGHT: u32 = 1000;
pub const MAX_ID: usize = 253;

pub fn parse(object: &store::Deployment, spec: &DeploymentSpec, routing: &Routing) -> Wanted {
    let mut problems = Vec::new();
    let names = names(&object.key, spec, routing, &mut problems);
    let (targets, rules) = rules(&object.key.namespace, spec, &mut problems);
    let tls = deployment_tls::parse(&object.key.namespace, spec, &names, &mut problems);
    let policies = spec
        .policies
        .iter()
        .map(|name| ObjectKey::new(&object.key.namespace, name));
    let part = snapshot::Deployment {
        key: object.key.clone(),
        uid: object.uid.clone(),
        id: id(&object.key, spec, &mut problems),
        state: match spec.state {
            deployment::State::Running => RunState::Running,
            deployment::State::Stopped => RunState::Stopped,
        },
        timeouts: timeouts(spec),
        strategy: match spec.balancing.strategy {
            deployment::Strategy::LeastConnections => Strategy::LeastConnections,
            deployment::Strategy::RoundRobin => Strategy::RoundRobin,
            deployment::Strategy::Random => Strategy::Random,
        },
        ambiguous_paths: match spec.ambiguous_paths {
            deployment::AmbiguousPaths::Reject => AmbiguousPaths::Reject,
            deployment::AmbiguousPaths::Pass => AmbiguousPaths::Pass,
        },
        runtime: Slot::default(),
    };
    Wanted {
        id: ObjectId::new(Kind::Deployment, object.key.clone()),
        part: Arc::new(part),
        generation: object.generation,
        created: object.created,
        names: names.into(),
        targets: targets.into(),
        rules: rules.into(),
        tls,
        policies: policies.collect(),
        problems: problems.into(),
    }
}

fn names(key: &ObjectKey, spec: &DeploymentSpec, routing: &Routing, problems: &mut Vec<Problem>) -> Vec<Claimed> {
    let mut names: Vec<Claimed> = Vec::new();
    match routing.apex_domain.as_ref().map(|apex| assigned(key, apex)) {
        Some(Ok(name)) => names.push(Claimed {
            name,
            source: Source::Assigned,
            right: Right::Given,
        }),
        Some(Err(invalid)) => problems.push(Problem::invalid(format!("the assigned hostname: {invalid}"))),
        None if spec.hostnames.is_empty() => problems.push(Problem::invalid(
            "spec.hostnames: is empty, and this installation has no apex domain (--apex-domain) to assign a hostname from: list a hostname",
        )),
        None => {}
    }
    let grants = routing.hostname_grants.as_ref();
    for (at, text) in spec.hostnames.iter().enumerate().take(MAX_HOSTNAMES) {
        match text.parse::<HostName>() {
            // A name listed twice, or listed and assigned, is one claim.
            Ok(name) if names.iter().any(|known| known.name == name) => {}
            Ok(name) => {
                let right = match grants.map(|all| all.get(&key.namespace).map_or(&[][..], Vec::as_slice)) {
                    None => Right::Age,
                    Some(patterns) if patterns.iter().any(|pattern| grants_name(pattern, &name)) => Right::Given,
                    Some(_) => Right::None,
                };
                let source = Source::Listed(at);
                names.push(Claimed { name, source, right });
            }
            Err(invalid) => problems.push(Problem::invalid(format!("spec.hostnames[{at}]: {invalid}"))),
        }
    }
    too_many("spec.hostnames", spec.hostnames.len(), MAX_HOSTNAMES, problems);
    names
}

/// A pattern grants the names that it would serve, and itself.
fn grants_name(pattern: &HostName, name: &HostName) -> bool {
    pattern == name || matches!(name, HostName::Exact(name) if pattern.covers(name))
}

/// One label, since the apex' wildcard certificate covers no more. Where the plain form would be too long or would no
/// longer tell two objects apart, a hash of the key does. Dashes can still make two keys look alike: then it is a claim
/// like any other, and the older one has it.
fn assigned(key: &ObjectKey, apex: &HostName) -> Result<HostName, hostname::InvalidHostName> {
    const MAX_LABEL: usize = 63;
    const HASH_BYTES: usize = 5;
    let plain = format!("{}-{}", key.name.replace('.', "-"), key.namespace);
    let label = if plain.len() <= MAX_LABEL && !key.name.contains('.') {
        plain
    } else {
        // Not the standard library's hash: the name must stay the same through every version of Postern.
        let digest = digest(&SHA256, key.to_string().as_bytes());
        let hash = Hex(&digest.as_ref()[..HASH_BYTES]).to_string();
        let room = MAX_LABEL - 1 - hash.len();
        let short: String = plain.chars().take(room).collect();
        format!("{}-{hash}", short.trim_end_matches('-'))
    };
    format!("{label}.{apex}").parse()
}

fn rules(namespace: &str, spec: &DeploymentSpec, problems: &mut Vec<Problem>) -> (Vec<Targets>, Vec<Rule>) {
    let mut all_targets = Vec::new();
    let mut rules: Vec<Rule> = Vec::new();
    // Where the Deployment's own backends stand in `all_targets`; None: it has none that can be used.
    let own = match targets(namespace, None, spec.service.as_ref(), &spec.backends) {
        Ok(Some(targets)) => {
            all_targets.push(targets);
            Some(0)
        }
        Ok(None) => {
            if spec.paths.is_empty() {
                problems.push(Problem::invalid("spec: has neither service nor backends"));
            }
            None
        }
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    if let (true, Some(targets)) = (spec.paths.is_empty(), own) {
        rules.push(Rule {
            path: PathMatch::Prefix("/".into()),
            position: None,
            targets,
        });
    }
    let own_is_missing = spec.service.is_none() && spec.backends.is_empty();
    for (at, rule) in spec.paths.iter().enumerate().take(MAX_PATHS) {
        let PathRule {
            path,
            r#type,
            service,
            backends,
        } = rule;
        let field = format!("spec.paths[{at}]");
        let path = match parse_path(path, *r#type) {
            Ok(parsed) => parsed,
            Err(invalid) => {
                problems.push(Problem::invalid(format!("{field}.path: {} {invalid}", Quoted(path))));
                continue;
            }
        };
        if let Some(same) = rules.iter().find(|rule| rule.path == path) {
            let same = same.position.unwrap_or_default();
            problems.push(Problem::invalid(format!(
                "{field}.path: {} duplicates spec.paths[{same}], which is served",
                Quoted(&rule.path)
            )));
            continue;
        }
        let targets = match (targets(namespace, Some(at), service.as_ref(), backends), own) {
            (Ok(Some(targets)), _) => {
                all_targets.push(targets);
                all_targets.len() - 1
            }
            (Ok(None), Some(own)) => own,
            (Ok(None), None) => {
                problems.push(Problem::invalid(if own_is_missing {
                    format!("{field}: has neither service nor backends, and spec sets none for all paths")
                } else {
                    format!("{field}: has neither service nor backends, and those of spec are invalid")
                }));
                continue;
            }
            (Err(problem), _) => {
                problems.push(problem);
                continue;
            }
        };
        rules.push(Rule {
            path,
            position: Some(at),
            targets,
        });
    }
    too_many("spec.paths", spec.paths.len(), MAX_PATHS, problems);
    (all_targets, rules)
}

/// None: the place names no backend. One bad backend spoils its list: to leave it out would send its share to the others.
pub fn targets(
    namespace: &str,
    path: Option<usize>,
    service: Option<&ServiceRef>,
    backends: &[BackendRef],
) -> Result<Option<Targets>, Problem> {
    let field = path.map_or("spec".to_owned(), |path| format!("spec.paths[{path}]"));
    let (single, list) = match (service, backends) {
        (None, []) => return Ok(None),
        (Some(service), []) => (true, vec![target(namespace, &format!("{field}.service"), service, 1)?]),
        (None, backends) if backends.len() <= MAX_BACKENDS => {
            let targets = backends.iter().enumerate().map(|(at, backend)| {
                let field = format!("{field}.backends[{at}]");
                if backend.weight > MAX_WEIGHT {
                    let weight = backend.weight;
                    let text = format!("{field}.weight: {weight} is above the maximum of {MAX_WEIGHT}");
                    return Err(Problem::invalid(text));
                }
                target(namespace, &format!("{field}.service"), &backend.service, backend.weight)
            });
            (false, targets.collect::<Result<_, _>>()?)
        }
        (None, backends) => {
            let count = backends.len();
            let text = format!("{field}.backends: has {count} items, but at most {MAX_BACKENDS} are allowed");
            return Err(Problem::invalid(text));
        }
        (Some(_), _) => {
            let text =
                format!("{field}: has both service and backends, which are mutually exclusive: keep one of them");
            return Err(Problem::invalid(text));
        }
    };
    Ok(Some(Targets {
        path,
        single,
        list: list.into(),
    }))
}

pub fn target(namespace: &str, field: &str, service: &ServiceRef, weight: u32) -> Result<Target, Problem> {
    let invalid = |text: String| Problem::invalid(format!("{field}.{text}"));
    if !is_label(&service.name) {
        let name = Quoted(&service.name);
        return Err(invalid(format!("name: {name} is not a valid Service name")));
    }
    let port = port_ref(&service.port).map_err(|error| invalid(format!("port: {error}")))?;
    Ok(Target {
        service: ObjectKey::new(namespace, &service.name),
        port,
        weight,
    })
}

/// A broken id costs only itself: the Deployment keeps the one that it has by default.
fn id(key: &ObjectKey, spec: &DeploymentSpec, problems: &mut Vec<Problem>) -> HeaderValue {
    if let Some(id) = &spec.deployment_id {
        if let Some(value) = header_value(id) {
            return value;
        }
        problems.push(Problem::invalid(format!(
            "spec.deploymentId: {} is not 1 to {MAX_ID} printable ASCII characters without spaces around them; \
             metadata.name is sent instead",
            Quoted(id)
        )));
    }
    // An apiserver's name is one; a file can hold anything.
    header_value(&key.name).unwrap_or_else(|| HeaderValue::from_static("invalid"))
}

fn header_value(text: &str) -> Option<HeaderValue> {
    let printable = text.bytes().all(|b| matches!(b, b' '..=b'~'));
    let valid = (1..=MAX_ID).contains(&text.len()) && printable && text.trim() == text;
    valid.then(|| HeaderValue::from_str(text).ok())?
}

fn timeouts(spec: &DeploymentSpec) -> Timeouts {
    let limit = |duration: crate::api::duration::Duration| (duration.0 > Duration::ZERO).then_some(duration.0);
    Timeouts {
        connect: limit(spec.timeouts.connect),
        dial_budget: limit(spec.timeouts.dial_budget),
        response: limit(spec.timeouts.response),
        idle: limit(spec.timeouts.idle),
        total: limit(spec.timeouts.total),
        handshake: limit(spec.web_socket.handshake_timeout),
    }
}

fn too_many(field: &str, count: usize, max: usize, problems: &mut Vec<Problem>) {
    if count > max {
        let text = format!("{field}: has {count} items, but only the first {max} are served");
        problems.push(Problem::invalid(text));
    }
}
