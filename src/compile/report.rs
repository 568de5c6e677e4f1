//! What compile found out about one Deployment: the only output besides the snapshot. It becomes status and Events
//! in a cluster, and lines on the terminal in `postern check`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::acme::Order;
use super::backend::{Found, Services};
use super::endpoint::Condition;
use super::host::{HostTerms, Names, Outcome};
use super::policy::Policies;
use super::problem::{Finding, Problem, Quoted, count, cut_message, join};
use super::tls::{Materials, Terms};
use super::wanted::{Claimed, Rule, Source, Wanted};
use crate::api::condition::{ConditionReason, ConditionType};
use crate::compile::tls::report::{Findings, Served, findings};
use crate::hostname::HostName;
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::snapshot::PathMatch;
use crate::store;
use crate::tls::Certificate;

#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub id: ObjectId,
    pub uid: Arc<str>,
    /// The generation that was compiled: every condition's observedGeneration.
    pub generation: i64,
    /// Accepted, PartiallyInvalid (only when True) and ResolvedRefs, in this order. Programmed is the writer's: it knows what is
    /// served. An object that cannot be decoded has Accepted alone.
    pub conditions: Vec<Finding>,
    /// Over all its backends, each endpoint once. `total` counts every endpoint of the slices, ready or not.
    pub endpoints: Counts,
    /// The names that are served, sorted.
    pub hostnames: Vec<Arc<str>>,
    /// The certificates of its own that are served, sorted. Default ones are the installation's.
    pub certificates: Vec<Served>,
    /// Certificates to be had by ACME.
    pub orders: Vec<Order>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ready: u32,
    pub total: u32,
}

/// All that a report draws on.
pub struct Sources<'a> {
    pub names: &'a Names,
    pub services: &'a Services,
    pub materials: &'a Materials,
    pub policies: &'a Policies,
    pub require_policy: bool,
    pub default_certificates: &'a [Arc<Certificate>],
}

pub fn report(wanted: &Wanted, terms: &Terms, sources: &Sources<'_>) -> Report {
    let mut problems = wanted.problems.to_vec();
    let mut served: Vec<(HostName, &HostTerms)> = Vec::new();
    for claimed in &wanted.names {
        if let Some(tls) = claim(wanted, claimed, sources.names, &mut problems) {
            served.push((claimed.name.clone(), tls));
        }
    }
    let mut hostnames: Vec<Arc<str>> = served.iter().map(|(name, _)| name.to_string().into()).collect();
    hostnames.sort();
    let (unresolved, endpoints) = references(wanted, sources.services, &mut problems);
    let mut tls = findings(wanted, terms, &served, sources.materials, sources.default_certificates);
    tls.unresolved.splice(0..0, unresolved);
    let closed = sources.policies.problems(wanted, sources.require_policy);
    tls.unresolved.splice(0..0, closed);
    let mut conditions = accepted(wanted, hostnames.is_empty(), &problems);
    conditions.push(resolved(&tls));
    Report {
        certificates: tls.certificates,
        orders: tls.orders,
        id: wanted.id.clone(),
        uid: wanted.part.uid.clone(),
        generation: wanted.generation,
        conditions,
        endpoints,
        hostnames,
    }
}

/// None: it can be decoded.
pub fn undecodable(object: &store::Deployment) -> Option<Report> {
    let error = object.spec.as_ref().err()?;
    let message = format!("the object cannot be decoded, so nothing of it is served: {error}");
    Some(Report {
        id: ObjectId::new(Kind::Deployment, object.key.clone()),
        uid: object.uid.clone(),
        generation: object.generation,
        conditions: vec![Finding {
            r#type: ConditionType::Accepted,
            status: false,
            reason: ConditionReason::Invalid,
            message: cut_message(message),
        }],
        endpoints: Counts::default(),
        hostnames: Vec::new(),
        certificates: Vec::new(),
        orders: Vec::new(),
    })
}

/// None if nothing is served under the name; what is not becomes a problem.
fn claim<'a>(
    wanted: &Wanted,
    claimed: &Claimed,
    names: &'a Names,
    problems: &mut Vec<Problem>,
) -> Option<&'a HostTerms> {
    let Claimed { name, source, .. } = claimed;
    let namespace = wanted.id.namespace();
    let (reason, message) = match names.outcome(name, &wanted.age()) {
        Some(Outcome::Served { lost, tls }) => {
            for lost in lost {
                let rule = &wanted.rules[lost.rule];
                problems.push(Problem {
                    reason: ConditionReason::RouteConflict,
                    message: format!(
                        "{rule}: the older {} already has this path at {:?}; change the path or the hostname of one of them",
                        lost.to,
                        name.to_string()
                    ),
                });
            }
            return (lost.len() < wanted.rules.len()).then_some(tls);
        }
        Some(Outcome::Conflict { owner }) => (
            ConditionReason::HostnameConflict,
            format!(
                "belongs to namespace {:?}: its {owner} is the oldest that lists this hostname",
                owner.namespace()
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
    let message = match source {
        Source::Listed(at) => format!("spec.hostnames[{at}]: {:?} {message}", name.to_string()),
        Source::Assigned => format!("the assigned hostname {:?} {message}", name.to_string()),
    };
    problems.push(Problem { reason, message });
    None
}

/// What refers to nothing, and the endpoints of what refers to something.
fn references(wanted: &Wanted, services: &Services, problems: &mut Vec<Problem>) -> (Vec<Problem>, Counts) {
    let mut unresolved = Vec::new();
    let mut endpoints = BTreeMap::new();
    for targets in &wanted.targets {
        for (at, target) in targets.list.iter().enumerate() {
            match services.find(&target.service, &target.port) {
                Ok(found) => {
                    problems.extend(refused(targets.field(at), &target.service, found));
                    for listed in &found.listed {
                        let ready = listed.condition == Condition::Ready && listed.refused.is_none();
                        *endpoints.entry(listed.address).or_insert(ready) |= ready;
                    }
                }
                Err(error) => unresolved.push(Problem {
                    reason: error.reason(),
                    message: format!("{}: Service {} {error}", targets.field(at), target.service),
                }),
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
fn refused(field: impl fmt::Display, service: &ObjectKey, found: &Found) -> Option<Problem> {
    let mut refused = found.listed.iter().filter_map(|l| Some((l.address, l.refused?)));
    let (address, why) = refused.next()?;
    let more = match refused.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(Problem::invalid(format!(
        "{field}: endpoint {address} of Service {service} receives no traffic, because it is {why}{more}"
    )))
}

fn accepted(wanted: &Wanted, nothing_served: bool, problems: &[Problem]) -> Vec<Finding> {
    let accepted = |status, reason, message| Finding {
        r#type: ConditionType::Accepted,
        status,
        reason,
        message,
    };
    if nothing_served {
        // What keeps all of it from being served: a Deployment without a usable path or name is invalid, whatever else is
        // wrong with it; else it is the claims.
        let invalid = wanted.rules.is_empty() || wanted.names.is_empty();
        let claims = problems
            .iter()
            .map(|p| p.reason)
            .find(|r| *r != ConditionReason::Invalid);
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

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path) = match &self.path {
            PathMatch::Exact(path) => ("Exact", &**path),
            PathMatch::Prefix(path) => ("Prefix", &**path),
            PathMatch::Regex(regex) => ("Regex", regex.as_str()),
        };
        match self.position {
            Some(at) => write!(f, "spec.paths[{at}]: {kind} {}", Quoted(path)),
            None => write!(f, "spec.paths: the default, {kind} {}", Quoted(path)),
        }
    }
}
