//! What is to be told of an object that asks for routes: what of it is served, what is not and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend::{Found, Services};
use super::endpoint::Condition;
use super::host::{HostnameTls, Names, Outcome};
use super::intent::{BackendIntent, HostnameIntent, Intent, Parent};
use super::policy::Policies;
use super::problem::{Finding, Problem, count, cut_message, join};
use super::report::{Counts, Details, ParentReport, Report, RouteDetails};
use super::source::Undecodable;
use super::tls::report::{Findings, findings};
use super::tls::{Materials, ResolvedTls};
use crate::condition::{ConditionReason, ConditionType};
use crate::hostname::HostName;
use crate::object::ObjectId;
use crate::snapshot::RunState;
use crate::tls::Certificate;

/// All that a report draws on.
pub struct Sources<'a> {
    pub names: &'a Names,
    pub services: &'a Services,
    pub materials: &'a Materials,
    pub policies: &'a Policies,
    pub require_policy: bool,
    pub default_certificates: &'a [Arc<Certificate>],
}

/// Every claim must have been settled and every reference resolved before.
pub fn report(intent: &Intent, tls: &ResolvedTls, sources: &Sources<'_>) -> Report {
    if let (RunState::Undecodable, [problem]) = (intent.deployment.state, &*intent.problems) {
        let object = Undecodable {
            uid: intent.deployment.uid.clone(),
            generation: intent.generation,
            error: problem.message.as_str().into(),
        };
        return undecodable(&intent.id, &object, "its requests are answered 503 deployment_invalid");
    }
    let mut problems = intent.problems.to_vec();
    let mut served: Vec<(HostName, &HostnameTls)> = Vec::new();
    for hostname in &intent.hostnames {
        if let Some(tls) = claim(intent, hostname, sources.names, &mut problems) {
            served.push((hostname.name.clone(), tls));
        }
    }
    let mut hostnames: Vec<Arc<str>> = served.iter().map(|(name, _)| name.to_string().into()).collect();
    hostnames.sort();
    let (unresolved, endpoints) = references(intent, sources.services, &mut problems);
    let mut tls = findings(intent, tls, &served, sources.materials, sources.default_certificates);
    tls.unresolved.splice(0..0, unresolved);
    let closed = sources.policies.problems(intent, sources.require_policy);
    tls.unresolved.splice(0..0, closed);
    let mut findings = accepted(intent, hostnames.is_empty(), &problems);
    findings.push(resolved(&tls));
    Report {
        id: intent.id.clone(),
        uid: intent.deployment.uid.clone(),
        generation: intent.generation,
        parents: parents(&intent.parents, &findings),
        details: Details::Routes(RouteDetails {
            endpoints,
            hostnames,
            certificates: tls.certificates,
            orders: tls.orders,
        }),
    }
}

/// Little is known of an object that cannot be decoded. `cost` is what comes of that.
pub fn undecodable(id: &ObjectId, object: &Undecodable, cost: &str) -> Report {
    let message = format!("the object cannot be decoded, so {cost}: {}", object.error);
    let accepted = Finding {
        r#type: ConditionType::Accepted,
        status: false,
        reason: ConditionReason::Invalid,
        message: cut_message(message),
    };
    Report {
        id: id.clone(),
        uid: object.uid.clone(),
        generation: object.generation,
        parents: parents(&[Parent::Installation], &[accepted]),
        details: Details::Routes(RouteDetails::default()),
    }
}

/// The installation serves all of an object or refuses it for every parent alike.
fn parents(parents: &[Parent], findings: &[Finding]) -> Vec<ParentReport> {
    let report = |parent: &Parent| ParentReport {
        parent: *parent,
        findings: findings.to_vec(),
    };
    parents.iter().map(report).collect()
}

/// None if nothing is served under the name; what is not becomes a problem.
fn claim<'a>(
    intent: &Intent,
    hostname: &HostnameIntent,
    names: &'a Names,
    problems: &mut Vec<Problem>,
) -> Option<&'a HostnameTls> {
    let HostnameIntent { name, field, .. } = hostname;
    let namespace = intent.id.namespace();
    let (reason, message) = match names.outcome(name, &intent.age()) {
        Some(Outcome::Served { lost, tls }) => {
            for lost in lost {
                let rule = &intent.rules[lost.rule];
                let message = format!(
                    "{rule}: the older {} already has this path at {:?}; change the path or the hostname of one of them",
                    lost.to,
                    name.to_string()
                );
                problems.push(Problem::at(rule.field.clone(), ConditionReason::RouteConflict, message));
            }
            return (lost.len() < intent.rules.len()).then_some(tls);
        }
        Some(Outcome::Conflict { owner }) => (
            ConditionReason::HostnameConflict,
            match field {
                Some(_) => format!(
                    "belongs to namespace {:?}: its {owner} is the oldest that lists this hostname",
                    owner.namespace()
                ),
                // Dashes within names can make two of them look alike.
                None => format!(
                    "belongs to namespace {:?}: its {owner} is older, and has the same name assigned or lists it; \
                     give this object another name, or list another hostname",
                    owner.namespace()
                ),
            },
        ),
        Some(Outcome::Outranked { owner }) => (
            ConditionReason::HostnameConflict,
            format!(
                "is granted to namespace {:?}, whose {owner} lists it: a grant goes before the assignment",
                owner.namespace()
            ),
        ),
        Some(Outcome::NotGranted) if field.is_none() => (
            ConditionReason::HostnameNotAllowed,
            format!(
                "is granted to another namespace by hostnameGrants in the settings of the installation, and so is not \
                 assigned to namespace {namespace:?}"
            ),
        ),
        Some(Outcome::NotGranted) => (
            ConditionReason::HostnameNotAllowed,
            format!(
                "is not granted to namespace {namespace:?}; an administrator can grant it by hostnameGrants in the settings of the installation"
            ),
        ),
        Some(Outcome::UnderWildcard { owner }) => (
            ConditionReason::HostnameNotAllowed,
            format!(
                "is covered by a wildcard of namespace {:?}, which its {owner} listed before; \
                 an administrator can grant it by hostnameGrants in the settings of the installation",
                owner.namespace()
            ),
        ),
        // Every claim is settled before reports are written; nothing is served that was not.
        None => return None,
    };
    let message = format!("{:?} {message}", name.to_string());
    problems.push(match field {
        Some(field) => Problem::at(field.clone(), reason, message),
        None => Problem::of_object(reason, format!("the assigned hostname {message}")),
    });
    None
}

/// What refers to nothing, and the endpoints of what refers to something.
fn references(intent: &Intent, services: &Services, problems: &mut Vec<Problem>) -> (Vec<Problem>, Counts) {
    let mut unresolved = Vec::new();
    let mut endpoints = BTreeMap::new();
    for backend in intent.backends() {
        match services.find(&backend.service, &backend.port) {
            Ok(found) => {
                problems.extend(refused(backend, found));
                for listed in &found.listed {
                    let ready = listed.condition == Condition::Ready && listed.refused.is_none();
                    *endpoints.entry(listed.address).or_insert(ready) |= ready;
                }
            }
            Err(error) => {
                let message = format!("Service {} {error}", backend.service);
                unresolved.push(Problem::at(backend.field.clone(), error.reason(), message));
            }
        }
    }
    let counts = Counts {
        ready: count(endpoints.values().filter(|ready| **ready).count()),
        total: count(endpoints.len()),
    };
    (unresolved, counts)
}

/// The reference itself is good, so this is no matter of ResolvedRefs: it is a part of what was asked for that is not served.
fn refused(backend: &BackendIntent, found: &Found) -> Option<Problem> {
    let mut refused = found.listed.iter().filter_map(|l| Some((l.address, l.refused?)));
    let (address, why) = refused.next()?;
    let more = match refused.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let message = format!(
        "endpoint {address} of Service {} receives no traffic, because it is {why}{more}",
        backend.service
    );
    Some(Problem::invalid(backend.field.clone(), message))
}

fn accepted(intent: &Intent, nothing_served: bool, problems: &[Problem]) -> Vec<Finding> {
    let accepted = |status, reason, message| Finding {
        r#type: ConditionType::Accepted,
        status,
        reason,
        message,
    };
    if nothing_served {
        // What keeps all of it from being served: an object without a usable path or name is invalid, whatever else is
        // wrong with it; else it is the claims.
        let invalid = intent.rules.is_empty() || intent.hostnames.is_empty();
        let claims = problems
            .iter()
            .map(|p| p.reason)
            .find(|r| !matches!(r, ConditionReason::Invalid | ConditionReason::UnknownField));
        let reason = claims.filter(|_| !invalid).unwrap_or(ConditionReason::Invalid);
        return vec![accepted(false, reason, join(problems))];
    }
    match problems.first() {
        None => vec![accepted(
            true,
            ConditionReason::Accepted,
            "all hostnames and paths are accepted".to_owned(),
        )],
        Some(first) => vec![
            accepted(
                true,
                ConditionReason::Accepted,
                "partially accepted: the condition PartiallyInvalid lists the parts that are not served".to_owned(),
            ),
            Finding {
                r#type: ConditionType::PartiallyInvalid,
                status: true,
                reason: first.reason,
                message: join(problems),
            },
        ],
    }
}

/// A hostname without a certificate is served all the same: that is said, and is no fault.
fn resolved(tls: &Findings) -> Finding {
    let problems: Vec<_> = tls.unresolved.iter().chain(&tls.stale).cloned().collect();
    let (reason, message) = match (problems.first(), &tls.without[..]) {
        (Some(first), _) => (first.reason, join(&problems)),
        (None, []) => (ConditionReason::ResolvedRefs, "all references are resolved".to_owned()),
        (None, without) => {
            let names: Vec<_> = without.iter().map(ToString::to_string).collect();
            (
                ConditionReason::NoCertificate,
                cut_message(format!(
                    "all references are resolved; TLS uses a self-signed certificate for {}",
                    names.join(", ")
                )),
            )
        }
    };
    Finding {
        r#type: ConditionType::ResolvedRefs,
        status: problems.is_empty(),
        reason,
        message,
    }
}
