//! Reads the Deployment kind.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;

use super::deployment_tls;
use super::reading::{Asked, Candidate, Reading, Source, Undecodable, right, right_to_assigned};
use crate::api::deployment::{self, BackendRef, DeploymentSpec, PathRule, PathType, ServiceRef};
use crate::compile::intent::{BackendIntent, BackendList, HostnameIntent, Intent, Parent, PolicyIntent, RuleIntent};
use crate::compile::problem::{Problem, Quoted};
use crate::compile::syntax::{exact_path, is_label, path_prefix, port_ref};
use crate::condition::ConditionReason;
use crate::config::Routing;
use crate::hostname::{self, HostName};
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::policy::path::AmbiguousPaths;
use crate::runtime::Slot;
use crate::snapshot::{self, PathMatch, RunState, Timeouts};
use crate::store::{self, Undecoded};
use crate::text::Hex;
use crate::upstream::balance::Strategy;

// As the CRD's schema has them.
/// Hostnames of one Deployment.
pub const MAX_HOSTNAMES: usize = 16;
/// Paths of one Deployment.
pub const MAX_PATHS: usize = 32;
/// Backends of one list.
pub const MAX_BACKENDS: usize = 16;
/// The share of one backend.
pub const MAX_WEIGHT: u32 = 1000;
/// Characters of a deploymentId.
pub const MAX_ID: usize = 253;

/// Deployments, by their className.
pub const SOURCE: Source = Source {
    kind: Kind::Deployment,
    read: |store, key, routing| Some(read(store.deployment(key)?, routing)),
};

fn read(object: &store::Deployment, routing: &Routing) -> Reading {
    let (spec, error) = match &object.spec {
        Ok(spec) => (Some(spec), None),
        Err(Undecoded { error, claims }) => (claims.as_ref(), Some(error)),
    };
    let names = spec.map_or(&[][..], |spec| &spec.policies);
    Reading {
        candidate: Candidate {
            created: object.created,
            labels: object.labels.clone(),
            policies: names
                .iter()
                .map(|name| ObjectKey::new(&object.key.namespace, name))
                .collect(),
            class: spec.map(|spec| spec.class_name.as_str().into()),
        },
        asked: match spec {
            Some(spec) if *spec.class_name == *routing.class => {
                Asked::Intent(Box::new(intent(object, spec, error, routing)))
            }
            Some(_) => Asked::Nothing,
            None => Asked::Undecodable(Undecodable {
                uid: object.uid.clone(),
                generation: object.generation,
                error: error.cloned().unwrap_or_default(),
            }),
        },
    }
}

/// With an error, `spec` is what the object is about: its requests are refused, and nothing else is said of it.
fn intent(object: &store::Deployment, spec: &DeploymentSpec, error: Option<&Arc<str>>, routing: &Routing) -> Intent {
    let namespace = &object.key.namespace;
    let mut problems = Vec::new();
    let hostnames = hostnames(&object.key, spec, routing, &mut problems);
    let (backends, rules) = rules(namespace, spec, error.is_some(), &mut problems);
    let tls = deployment_tls::parse(namespace, spec, &hostnames, &mut problems);
    let policies = spec.policies.iter().enumerate().map(|(at, name)| PolicyIntent {
        policy: ObjectKey::new(namespace, name),
        field: format!("spec.policies[{at}]").into(),
    });
    let id = ObjectId::new(Kind::Deployment, object.key.clone());
    let deployment = snapshot::Deployment {
        id: id.clone(),
        uid: object.uid.clone(),
        deployment_id: deployment_id(&object.key, spec, &mut problems),
        state: match spec.state {
            _ if error.is_some() => RunState::Undecodable,
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
    problems.extend(object.unknown.iter().map(|field| {
        let message = "is not known to this version of Postern and has no effect";
        Problem::at(field.clone(), ConditionReason::UnknownField, message)
    }));
    if let Some(error) = error {
        problems = vec![Problem::of_object(ConditionReason::Invalid, &**error)];
    }
    Intent {
        id,
        generation: object.generation,
        created: object.created,
        deployment: Arc::new(deployment),
        parents: [Parent::Installation].into(),
        hostnames: hostnames.into(),
        backends: backends.into(),
        rules: rules.into(),
        tls,
        policies: policies.collect(),
        problems: problems.into(),
    }
}

fn hostnames(
    key: &ObjectKey,
    spec: &DeploymentSpec,
    routing: &Routing,
    problems: &mut Vec<Problem>,
) -> Vec<HostnameIntent> {
    let mut names: Vec<HostnameIntent> = Vec::new();
    match routing.apex_domain.as_ref().map(|apex| assigned(key, apex)) {
        Some(Ok(name)) => names.push(HostnameIntent {
            right: right_to_assigned(&name, &key.namespace, routing),
            name,
            field: None,
        }),
        Some(Err(invalid)) => {
            let message = format!("the assigned hostname: {invalid}");
            problems.push(Problem::of_object(ConditionReason::Invalid, message));
        }
        None if spec.hostnames.is_empty() => problems.push(Problem::invalid(
            "spec.hostnames",
            "is empty, and this installation has no apex domain (--apex-domain) to assign a hostname from: list a hostname",
        )),
        None => {}
    }
    for (at, text) in spec.hostnames.iter().enumerate().take(MAX_HOSTNAMES) {
        let field = format!("spec.hostnames[{at}]");
        match text.parse::<HostName>() {
            // A name listed twice, or listed and assigned, is one claim.
            Ok(name) if names.iter().any(|known| known.name == name) => {}
            Ok(name) => names.push(HostnameIntent {
                right: right(&name, &key.namespace, routing),
                name,
                field: Some(field.into()),
            }),
            Err(invalid) => problems.push(Problem::invalid(field, invalid.to_string())),
        }
    }
    too_many("spec.hostnames", spec.hostnames.len(), MAX_HOSTNAMES, problems);
    names
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

/// The rules of an object, and the lists of backends that they share.
struct Rules<'a> {
    namespace: &'a str,
    spec: &'a DeploymentSpec,
    backends: Vec<BackendList>,
    /// Where the Deployment's own backends stand in `backends`. None: it has none that can be used.
    own: Option<usize>,
    rules: Vec<RuleIntent>,
}

/// What is `refused` needs no backend.
fn rules(
    namespace: &str,
    spec: &DeploymentSpec,
    refused: bool,
    problems: &mut Vec<Problem>,
) -> (Vec<BackendList>, Vec<RuleIntent>) {
    let mut made = Rules {
        namespace,
        spec,
        backends: Vec::new(),
        own: None,
        rules: Vec::new(),
    };
    match backends(namespace, "spec", spec.service.as_ref(), &spec.backends) {
        _ if refused => made.own = Some(made.keep(BackendList(Box::default()))),
        Ok(Some(own)) => made.own = Some(made.keep(own)),
        Ok(None) if spec.paths.is_empty() => {
            problems.push(Problem::invalid("spec", "has neither service nor backends"));
        }
        Ok(None) => {}
        Err(problem) => problems.push(problem),
    }
    if let (true, Some(own)) = (spec.paths.is_empty(), made.own) {
        made.rules.push(RuleIntent {
            matches: PathMatch::Prefix("/".into()).into(),
            backends: own,
            field: "spec.paths".into(),
            is_default: true,
        });
    }
    for (at, rule) in spec.paths.iter().enumerate().take(MAX_PATHS) {
        match made.rule(format!("spec.paths[{at}]"), rule) {
            Ok(rule) => made.rules.push(rule),
            Err(problem) => problems.push(problem),
        }
    }
    too_many("spec.paths", spec.paths.len(), MAX_PATHS, problems);
    (made.backends, made.rules)
}

impl Rules<'_> {
    fn rule(&mut self, field: String, rule: &PathRule) -> Result<RuleIntent, Problem> {
        let PathRule {
            path: text,
            r#type,
            service,
            backends,
        } = rule;
        let path = match r#type {
            PathType::Exact => exact_path(text),
            PathType::Prefix => path_prefix(text),
        };
        let path =
            path.map_err(|invalid| Problem::invalid(format!("{field}.path"), format!("{} {invalid}", Quoted(text))))?;
        if let Some(same) = self.rules.iter().find(|rule| rule.matches.path == path) {
            let message = format!("{} duplicates {}, which is served", Quoted(text), same.field);
            return Err(Problem::invalid(format!("{field}.path"), message));
        }
        let own_is_missing = self.spec.service.is_none() && self.spec.backends.is_empty();
        let backends = match (
            self::backends(self.namespace, &field, service.as_ref(), backends)?,
            self.own,
        ) {
            (Some(backends), _) => self.keep(backends),
            (None, Some(own)) => own,
            (None, None) => {
                return Err(Problem::invalid(
                    field,
                    if own_is_missing {
                        "has neither service nor backends, and spec sets none for all paths"
                    } else {
                        "has neither service nor backends, and those of spec are invalid"
                    },
                ));
            }
        };
        Ok(RuleIntent {
            matches: path.into(),
            backends,
            field: field.into(),
            is_default: false,
        })
    }

    fn keep(&mut self, list: BackendList) -> usize {
        self.backends.push(list);
        self.backends.len() - 1
    }
}

/// None: `field` names no backend. One bad backend spoils its list: to leave it out would send its share to the others.
fn backends(
    namespace: &str,
    field: &str,
    service: Option<&ServiceRef>,
    backends: &[BackendRef],
) -> Result<Option<BackendList>, Problem> {
    let list: Box<[BackendIntent]> = match (service, backends) {
        (None, []) => return Ok(None),
        (Some(service), []) => [backend(namespace, format!("{field}.service"), service, 1)?].into(),
        (None, backends) if backends.len() <= MAX_BACKENDS => {
            let list = backends.iter().enumerate().map(|(at, backend)| {
                let field = format!("{field}.backends[{at}]");
                if backend.weight > MAX_WEIGHT {
                    let message = format!("{} is above the maximum of {MAX_WEIGHT}", backend.weight);
                    return Err(Problem::invalid(format!("{field}.weight"), message));
                }
                self::backend(namespace, format!("{field}.service"), &backend.service, backend.weight)
            });
            list.collect::<Result<_, _>>()?
        }
        (None, backends) => {
            let count = backends.len();
            let message = format!("has {count} items, but at most {MAX_BACKENDS} are allowed");
            return Err(Problem::invalid(format!("{field}.backends"), message));
        }
        (Some(_), _) => {
            let message = "has both service and backends, which are mutually exclusive: keep one of them";
            return Err(Problem::invalid(field, message));
        }
    };
    Ok(Some(BackendList(list)))
}

fn backend(namespace: &str, field: String, service: &ServiceRef, weight: u32) -> Result<BackendIntent, Problem> {
    if !is_label(&service.name) {
        let message = format!("{} is not a valid Service name", Quoted(&service.name));
        return Err(Problem::invalid(format!("{field}.name"), message));
    }
    let port = port_ref(&service.port).map_err(|error| Problem::invalid(format!("{field}.port"), error))?;
    Ok(BackendIntent {
        service: ObjectKey::new(namespace, &service.name),
        port,
        weight,
        field: field.into(),
    })
}

/// A broken id costs only itself: the Deployment keeps the one that it has by default.
fn deployment_id(key: &ObjectKey, spec: &DeploymentSpec, problems: &mut Vec<Problem>) -> HeaderValue {
    if let Some(id) = &spec.deployment_id {
        if let Some(value) = header_value(id) {
            return value;
        }
        let message = format!(
            "{} is not 1 to {MAX_ID} printable ASCII characters without spaces around them; \
             metadata.name is sent instead",
            Quoted(id)
        );
        problems.push(Problem::invalid("spec.deploymentId", message));
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
        let message = format!("has {count} items, but only the first {max} are served");
        problems.push(Problem::invalid(field, message));
    }
}
