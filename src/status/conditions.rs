//! What a report says as a status, and how that differs from the one that stands on the object. No client, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::update::Status;
use crate::api::deployment::{DeploymentStatus, EndpointCounts};
use crate::api::policy::SentinelPolicyStatus;
use crate::compile::problem::Finding;
use crate::compile::report::{Details, Report, RouteDetails};
use crate::compile::tls::report::Served;
use crate::condition::{ConditionReason, ConditionType, MAX_MESSAGE};
use crate::text::cut;

/// How urgent a difference is: conditions and names before counts, which only follow what happens anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    Conditions,
    Counts,
}

/// A condition that changed its meaning, for an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    pub r#type: String,
    pub reason: String,
    pub message: String,
    pub good: bool,
}

/// `before` is the status that stands there: a condition that keeps its status keeps its time. `failures`: why a hostname's
/// certificate was not ordered.
pub fn status(
    report: &Report,
    failures: &BTreeMap<Arc<str>, String>,
    before: Option<&Status>,
    addresses: &[String],
    now: Timestamp,
) -> Status {
    let mut findings = report.findings().to_vec();
    if let Some(details) = report.routes() {
        tell_failures(&mut findings, details, failures);
        findings.extend(expiring(details, now));
    }
    findings.push(programmed(&findings));
    let before = before.map_or(&[][..], Status::conditions);
    let conditions = findings
        .iter()
        .map(|finding| condition(finding, report.generation, before, now));
    let conditions = conditions.collect();
    match &report.details {
        Details::Routes(details) => Status::Deployment(Arc::new(DeploymentStatus {
            conditions,
            endpoints: Some(EndpointCounts {
                ready: details.endpoints.ready,
                total: details.endpoints.total,
            }),
            hostnames: details.hostnames.iter().map(|name| name.to_string()).collect(),
            addresses: addresses.to_vec(),
        })),
        Details::Policy(details) => Status::SentinelPolicy(Arc::new(SentinelPolicyStatus {
            conditions,
            targets: Some(details.targets),
            rules: Some(details.rules),
        })),
    }
}

/// The report is of the snapshot that is served, so what it accepts is programmed.
fn programmed(findings: &[Finding]) -> Finding {
    let accepted = findings
        .iter()
        .any(|finding| finding.r#type == ConditionType::Accepted && finding.status);
    let (reason, message) = if accepted {
        (ConditionReason::Programmed, "this generation is served")
    } else {
        (
            ConditionReason::Invalid,
            "this generation is not served: see the condition Accepted",
        )
    };
    Finding {
        r#type: ConditionType::Programmed,
        status: accepted,
        reason,
        message: message.to_owned(),
    }
}

fn condition(finding: &Finding, generation: i64, before: &[Condition], now: Timestamp) -> Condition {
    let r#type = finding.r#type.to_string();
    let status = if finding.status { "True" } else { "False" };
    let kept = before
        .iter()
        .find(|old| old.type_ == r#type)
        .filter(|old| old.status == status)
        .map(|old| old.last_transition_time.clone());
    Condition {
        type_: r#type,
        status: status.to_owned(),
        reason: finding.reason.to_string(),
        message: cut(&finding.message, MAX_MESSAGE).into_owned(),
        observed_generation: Some(generation),
        last_transition_time: kept.unwrap_or_else(|| Time(whole_seconds(now))),
    }
}

/// An order that fails is why a certificate is pending, or will not be renewed. Entries that nothing asks for any more say
/// nothing.
fn tell_failures(findings: &mut [Finding], details: &RouteDetails, failures: &BTreeMap<Arc<str>, String>) {
    let resolved = findings
        .iter_mut()
        .find(|finding| finding.r#type == ConditionType::ResolvedRefs);
    let Some(resolved) = resolved else { return };
    let failed: Vec<String> = details
        .orders
        .iter()
        .filter_map(|order| {
            let name = order.hostname.to_string();
            let why = failures.get(&*name)?;
            Some(format!("the certificate for {name:?} could not be ordered: {why}"))
        })
        .collect();
    if failed.is_empty() {
        return;
    }
    let mut messages = failed;
    if resolved.status || resolved.reason == ConditionReason::CertificatePending {
        resolved.reason = ConditionReason::CertificateFailed;
    }
    if !resolved.status {
        messages.push(std::mem::take(&mut resolved.message));
    }
    resolved.status = false;
    resolved.message = messages.join("; ");
}

/// Certificates that expire soon, and those that have. None: there are no such.
fn expiring(details: &RouteDetails, now: Timestamp) -> Option<Finding> {
    let until = |served: &&Served| served.not_after.saturating_sub(now.as_second());
    let near: Vec<_> = details
        .certificates
        .iter()
        .filter(|s| until(s) <= SOON.as_secs() as i64)
        .collect();
    let expired = near.iter().any(|served| until(served) <= 0);
    let tell = |served: &&Served| {
        let at = Timestamp::from_second(served.not_after).map_or("never".to_owned(), |at| at.to_string());
        let verb = if until(served) <= 0 { "expired" } else { "expires" };
        format!(
            "Secret {} (for {}) {verb} at {at}",
            served.secret,
            served.hostnames.join(", ")
        )
    };
    (!near.is_empty()).then(|| Finding {
        r#type: ConditionType::CertificateExpiring,
        status: true,
        reason: if expired {
            ConditionReason::CertificateExpired
        } else {
            ConditionReason::CertificateExpiring
        },
        message: near.iter().map(tell).collect::<Vec<_>>().join("; "),
    })
}

/// How long until `expiring` says something else of the same report.
pub fn turn(report: &Report, now: Timestamp) -> Option<Duration> {
    let details = report.routes()?;
    let now = now.as_second();
    let soon = SOON.as_secs() as i64;
    let turns = details
        .certificates
        .iter()
        .flat_map(|served| [served.not_after.saturating_sub(soon), served.not_after]);
    let waits = turns.filter_map(|at| u64::try_from(at.saturating_sub(now)).ok().filter(|wait| *wait > 0));
    waits.min().map(Duration::from_secs)
}

/// Only what is ours is compared: others may put conditions of their own beside them.
pub fn difference(wanted: &Status, found: Option<&Status>) -> Option<Difference> {
    let Some(found) = found else {
        return Some(Difference::Conditions);
    };
    let (same, same_counts) = match (wanted, found) {
        (Status::Deployment(wanted), Status::Deployment(found)) => (
            wanted.hostnames == found.hostnames && wanted.addresses == found.addresses,
            wanted.endpoints == found.endpoints,
        ),
        (Status::SentinelPolicy(wanted), Status::SentinelPolicy(found)) => {
            (true, (wanted.targets, wanted.rules) == (found.targets, found.rules))
        }
        _ => (false, false),
    };
    match (same && ours(wanted) == ours(found), same_counts) {
        (false, _) => Some(Difference::Conditions),
        (true, false) => Some(Difference::Counts),
        (true, true) => None,
    }
}

/// What changed for whoever reads Events: a condition that turned bad or changed its reason, and the return to good.
/// Programmed says the same as Accepted when it is False.
pub fn transitions(before: Option<&Status>, after: &Status) -> Vec<Transition> {
    let is = |condition: &Condition, r#type: ConditionType| condition.type_ == r#type.to_string();
    let negative = |condition: &Condition| {
        [ConditionType::PartiallyInvalid, ConditionType::CertificateExpiring]
            .iter()
            .any(|r#type| is(condition, *r#type))
    };
    let good = |condition: &Condition| (condition.status == "True") != negative(condition);
    let changed = after.conditions().iter().filter(|new| {
        let programmed = is(new, ConditionType::Programmed);
        match before.and_then(|before| before.conditions().iter().find(|old| old.type_ == new.type_)) {
            Some(old) if programmed => good(new) && !good(old),
            // Good for another reason (NoCertificate) is no news.
            Some(old) => old.status != new.status || old.reason != new.reason && !good(new),
            None => programmed == good(new),
        }
    });
    changed
        .map(|condition| Transition {
            r#type: condition.type_.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            good: good(condition),
        })
        .collect()
}

fn ours(status: &Status) -> Vec<&Condition> {
    let mut conditions: Vec<_> = status
        .conditions()
        .iter()
        .filter(|condition| OURS.iter().any(|r#type| condition.type_ == r#type.to_string()))
        .collect();
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    conditions
}

/// metav1.Time knows no finer ones: what is read back is what was written.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// How long before its expiry a certificate is told about.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

const OURS: [ConditionType; 5] = [
    ConditionType::Accepted,
    ConditionType::PartiallyInvalid,
    ConditionType::ResolvedRefs,
    ConditionType::CertificateExpiring,
    ConditionType::Programmed,
];

#[cfg(test)]
mod tests;
