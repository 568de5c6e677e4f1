//! What is to be told of a policy: whether it is in force, what it refers to in vain, and how many Deployments it stands before.

use super::attach::Attachments;
use super::known::{Known, Standing};
use crate::compile::intent::Parent;
use crate::compile::problem::{Finding, Problem, count, cut_message, join};
use crate::compile::report::{Details, ParentReport, PolicyDetails, Report};
use crate::condition::{ConditionReason, ConditionType};
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::store::Targets;

/// In a word, for figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Accepted,
    Rejected,
    /// Rejected, with its last good version in force.
    LastGood,
}

impl State {
    /// `report` is a policy's.
    pub fn of(report: &Report) -> Self {
        match report.findings().first() {
            Some(accepted) if accepted.status => Self::Accepted,
            Some(accepted) if accepted.reason == ConditionReason::ServingLastGood => Self::LastGood,
            _ => Self::Rejected,
        }
    }
}

pub(super) fn report(known: &Known, attachments: &Attachments, class: &str) -> Report {
    let object = &known.object;
    let targets = attachments.behind(&object.key).len();
    let mut findings = vec![accepted(known, attachments, targets)];
    let spec = object.spec.as_ref().ok();
    if spec.is_some() {
        findings.push(resolved(known));
    }
    let enabled = spec.map_or(0, |spec| spec.rules.iter().filter(|rule| rule.enabled).count());
    Report {
        id: ObjectId::new(Kind::SentinelPolicy, object.key.clone()),
        uid: object.uid.clone(),
        generation: object.generation,
        parents: vec![ParentReport {
            parent: Parent::Installation,
            findings,
        }],
        details: Details::Policy(PolicyDetails {
            targets: count(targets),
            rules: count(enabled),
            ours: attachments.tells(&object.key, class),
        }),
    }
}

fn accepted(known: &Known, attachments: &Attachments, targets: usize) -> Finding {
    let found = &known.found;
    let accepted = |status, reason, message: String| Finding {
        r#type: ConditionType::Accepted,
        status,
        reason,
        message: cut_message(message),
    };
    if !found.broken.is_empty() {
        let (reason, cost) = match &found.standing {
            Standing::InForce(_) => (
                ConditionReason::ServingLastGood,
                "the rules of the last good version stay in force",
            ),
            Standing::Refusing => (
                ConditionReason::Invalid,
                match known.object.targets {
                    Ok(_) => "requests to its targets are answered 503 policy_invalid",
                    Err(_) => "requests to every Deployment in its namespace are answered 503 policy_invalid",
                },
            ),
            Standing::Absent => (
                ConditionReason::Invalid,
                "no response changes, because the policy is in Shadow mode",
            ),
        };
        return accepted(false, reason, format!("{}; {cost}", join(&found.broken)));
    }
    let missing: Vec<_> = match known.object.targets.as_deref() {
        Ok(Targets::Named(names)) => {
            let id = |name: &str| ObjectId::new(Kind::Deployment, ObjectKey::new(&known.object.key.namespace, name));
            let missing = names.iter().filter(|name| !attachments.is_there(&id(name)));
            missing.map(|name| format!("{name:?}")).collect()
        }
        _ => Vec::new(),
    };
    if targets == 0 {
        let message = match &missing[..] {
            [] => "no Deployment in its namespace has the labels of targetSelector".to_owned(),
            missing => format!("Deployment {} does not exist", missing.join(", ")),
        };
        return accepted(false, ConditionReason::TargetNotFound, message);
    }
    let mut message = format!("applies to {targets} Deployment{}", if targets == 1 { "" } else { "s" });
    if !missing.is_empty() {
        message.push_str(&format!("; Deployment {} does not exist", missing.join(", ")));
    }
    if !found.left_out.is_empty() {
        message.push_str("; invalid rules in Shadow mode, which are ignored: ");
        message.push_str(&join(&found.left_out));
    }
    accepted(true, ConditionReason::Accepted, message)
}

/// What is wrong with the rules themselves is Accepted's to tell.
fn resolved(known: &Known) -> Finding {
    let found = &known.found;
    let all = found.broken.iter().chain(&found.left_out).chain(&found.notes);
    let problems: Vec<Problem> = all
        .filter(|problem| problem.reason != ConditionReason::Invalid)
        .cloned()
        .collect();
    let (reason, message) = match problems.first() {
        Some(first) => (first.reason, join(&problems)),
        None => (ConditionReason::ResolvedRefs, "all references are resolved".to_owned()),
    };
    Finding {
        r#type: ConditionType::ResolvedRefs,
        status: problems.is_empty(),
        reason,
        message,
    }
}
