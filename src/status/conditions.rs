//! What a report says as a status, and how that differs from the one that stands on the object. No client, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::update::Status;
use crate::api::condition::{ConditionReason, ConditionType};
use crate::api::deployment::{DeploymentStatus, EndpointCounts};
use crate::api::policy::SentinelPolicyStatus;
use crate::compile::problem::Finding;
use crate::compile::report::Report;
use crate::compile::subject::Subject;
use crate::compile::tls::report::Served;
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
    subject: &Subject,
    failures: &BTreeMap<Arc<str>, String>,
    before: Option<&Status>,
    addresses: &[String],
    now: Timestamp,
) -> Status {
    let mut findings = subject.findings().to_vec();
    if let Subject::Deployment(report) = subject {
        tell_failures(&mut findings, report, failures);
        findings.extend(expiring(report, now));
    }
    findings.push(programmed(&findings));
    let before = before.map_or(&[][..], Status::conditions);
    let conditions = findings
        .iter()
        .map(|finding| condition(finding, subject.generation(), before, now));
    let conditions = conditions.collect();
    match subject {
        Subject::Deployment(report) => Status::Deployment(Arc::new(DeploymentStatus {
            conditions,
            endpoints: Some(EndpointCounts {
                ready: report.endpoints.ready,
                total: report.endpoints.total,
            }),
            hostnames: report.hostnames.iter().map(|name| name.to_string()).collect(),
            addresses: addresses.to_vec(),
        })),
        Subject::SentinelPolicy(report) => Status::SentinelPolicy(Arc::new(SentinelPolicyStatus {
            conditions,
            targets: Some(report.targets),
            rules: Some(report.rules),
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
fn tell_failures(findings: &mut [Finding], report: &Report, failures: &BTreeMap<Arc<str>, String>) {
    let resolved = findings
        .iter_mut()
        .find(|finding| finding.r#type == ConditionType::ResolvedRefs);
    let Some(resolved) = resolved else { return };
    let failed: Vec<String> = report
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
fn expiring(report: &Report, now: Timestamp) -> Option<Finding> {
    let until = |served: &&Served| served.not_after.saturating_sub(now.as_second());
    let near: Vec<_> = report
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
pub fn turn(subject: &Subject, now: Timestamp) -> Option<Duration> {
    let Subject::Deployment(report) = subject else {
        return None;
    };
    let now = now.as_second();
    let soon = SOON.as_secs() as i64;
    let turns = report
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

const MAX_MESSAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::acme::Order;
    use crate::compile::policy::report::PolicyReport;
    use crate::compile::report::Counts;
    use crate::object::{Kind, ObjectId, ObjectKey};

    /// The status of a Deployment, as it is written to the object.
    fn status(
        report: &Report,
        failures: &BTreeMap<Arc<str>, String>,
        before: Option<&DeploymentStatus>,
        addresses: &[String],
        now: Timestamp,
    ) -> DeploymentStatus {
        let before = before.map(told);
        match super::status(&subject(report), failures, before.as_ref(), addresses, now) {
            Status::Deployment(status) => Arc::unwrap_or_clone(status),
            Status::SentinelPolicy(_) => unreachable!("a Deployment's status is one"),
        }
    }

    fn subject(report: &Report) -> Subject {
        Subject::Deployment(Arc::new(report.clone()))
    }

    fn told(status: &DeploymentStatus) -> Status {
        Status::Deployment(Arc::new(status.clone()))
    }

    fn difference(wanted: &DeploymentStatus, found: Option<&DeploymentStatus>) -> Option<Difference> {
        super::difference(&told(wanted), found.map(told).as_ref())
    }

    fn transitions(before: Option<&DeploymentStatus>, after: &DeploymentStatus) -> Vec<Transition> {
        super::transitions(before.map(told).as_ref(), &told(after))
    }

    #[test]
    fn a_policys_targets_are_counts_and_its_conditions_go_first() {
        let report = PolicyReport {
            id: ObjectId::new(Kind::SentinelPolicy, ObjectKey::new("n", "p")),
            uid: "u".into(),
            generation: 3,
            conditions: vec![Finding {
                r#type: ConditionType::Accepted,
                status: false,
                reason: ConditionReason::ServingLastGood,
                message: "m".to_owned(),
            }],
            targets: 2,
            rules: 1,
            ours: true,
        };
        let status = |targets, addresses: &[String]| {
            let subject = Subject::SentinelPolicy(Arc::new(PolicyReport {
                targets,
                ..report.clone()
            }));
            super::status(&subject, &NONE, None, addresses, THEN)
        };
        let written = status(2, &[]);
        let said = serde_json::to_value(&written).unwrap();
        assert_eq!((&said["targets"], &said["rules"]), (&2.into(), &1.into()));
        let conditions: Vec<_> = written.conditions().iter().map(|c| (&*c.type_, &*c.status)).collect();
        assert_eq!(conditions, [("Accepted", "False"), ("Programmed", "False")]);
        // Addresses are the Deployments'.
        assert_eq!(super::difference(&status(2, &["a".to_owned()]), Some(&written)), None);
        assert_eq!(
            super::difference(&status(3, &[]), Some(&written)),
            Some(Difference::Counts)
        );
        assert_eq!(super::difference(&written, None), Some(Difference::Conditions));
        let events = super::transitions(None, &written);
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].reason.as_str(), events[0].good), ("ServingLastGood", false));
    }

    const NONE: BTreeMap<Arc<str>, String> = BTreeMap::new();
    const THEN: Timestamp = Timestamp::UNIX_EPOCH;

    fn now() -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_123).unwrap()
    }

    fn report(generation: i64, accepted: bool) -> Report {
        let finding = |r#type, status, reason| Finding {
            r#type,
            status,
            reason,
            message: format!("m{status}"),
        };
        Report {
            id: ObjectId::new(Kind::Deployment, ObjectKey::new("n", "a")),
            uid: "u".into(),
            generation,
            conditions: vec![
                finding(
                    ConditionType::Accepted,
                    accepted,
                    if accepted {
                        ConditionReason::Accepted
                    } else {
                        ConditionReason::HostnameConflict
                    },
                ),
                finding(ConditionType::ResolvedRefs, true, ConditionReason::ResolvedRefs),
            ],
            endpoints: Counts { ready: 1, total: 2 },
            hostnames: vec!["a.example.com".into()],
            certificates: Vec::new(),
            orders: Vec::new(),
        }
    }

    fn times(status: &DeploymentStatus) -> Vec<(&str, Timestamp)> {
        status
            .conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.last_transition_time.0))
            .collect()
    }

    #[test]
    fn every_condition_carries_the_generation_that_was_compiled() {
        let status = status(&report(7, true), &NONE, None, &[], now());
        assert!(
            status
                .conditions
                .iter()
                .all(|condition| condition.observed_generation == Some(7))
        );
        assert_eq!(status.conditions.len(), 3);
    }

    #[test]
    fn only_a_changed_status_changes_the_time() {
        let before = status(&report(1, true), &NONE, None, &[], THEN);
        let after = status(&report(2, false), &NONE, Some(&before), &[], now());
        let second = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(
            times(&after),
            [("Accepted", second), ("ResolvedRefs", THEN), ("Programmed", second)]
        );
    }

    #[test]
    fn a_status_read_back_is_no_difference() {
        let written = status(&report(1, true), &NONE, None, &["192.0.2.1".into()], now());
        let mut read: DeploymentStatus = serde_json::from_value(serde_json::to_value(&written).unwrap()).unwrap();
        read.conditions.reverse();
        read.conditions.push(Condition {
            type_: "example.com/Theirs".into(),
            ..read.conditions[0].clone()
        });
        let wanted = status(
            &report(1, true),
            &NONE,
            Some(&read),
            &["192.0.2.1".into()],
            Timestamp::MAX,
        );
        assert_eq!(difference(&wanted, Some(&read)), None);
    }

    #[test]
    fn counts_are_the_lesser_difference() {
        let written = status(&report(1, true), &NONE, None, &[], now());
        let mut counted = written.clone();
        counted.endpoints = Some(EndpointCounts { ready: 0, total: 2 });
        assert_eq!(difference(&counted, Some(&written)), Some(Difference::Counts));
        counted.hostnames.clear();
        assert_eq!(difference(&counted, Some(&written)), Some(Difference::Conditions));
        assert_eq!(difference(&written, None), Some(Difference::Conditions));
    }

    #[test]
    fn events_tell_the_first_success_every_failure_and_the_return() {
        let good = status(&report(1, true), &NONE, None, &[], THEN);
        let bad = status(&report(2, false), &NONE, Some(&good), &[], THEN);
        let told = |before: Option<&DeploymentStatus>, after: &DeploymentStatus| {
            let told = transitions(before, after)
                .into_iter()
                .map(|t| format!("{}{}", if t.good { "" } else { "!" }, t.reason));
            told.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(None, &good), "Programmed");
        assert_eq!(told(None, &bad), "!HostnameConflict");
        assert_eq!(told(Some(&good), &bad), "!HostnameConflict");
        assert_eq!(told(Some(&bad), &bad), "");
        assert_eq!(told(Some(&bad), &good), "Accepted Programmed");
    }

    #[test]
    fn expiry_is_told_from_fourteen_days_before() {
        const DAY: i64 = 24 * 60 * 60;
        let start = now().as_second();
        let served = |name: &str, days: i64| Served {
            secret: ObjectKey::new("n", name),
            hostnames: vec!["a.example.com".into()],
            not_after: start + days * DAY,
        };
        let mut report = report(1, true);
        let told = |report: &Report, days: i64| {
            let now = Timestamp::from_second(start + days * DAY).unwrap();
            let told = expiring(report, now).map(|finding| (finding.reason, finding.message));
            (
                told,
                turn(&subject(report), now).map(|wait| wait.as_secs() as i64 / DAY),
            )
        };
        assert_eq!(told(&report, 0), (None, None));
        report.certificates = vec![served("one", 15), served("two", 100)];
        assert_eq!(told(&report, 0), (None, Some(1)));
        let (first, turn) = told(&report, 1);
        let (reason, message) = first.unwrap();
        assert_eq!((reason, turn), (ConditionReason::CertificateExpiring, Some(14)));
        assert_eq!(
            message,
            "Secret n/one (for a.example.com) expires at 2023-11-29T22:13:20Z"
        );
        let (expired, turn) = told(&report, 15);
        assert_eq!(
            (expired.unwrap().0, turn),
            (ConditionReason::CertificateExpired, Some(71))
        );
        let (both, turn) = told(&report, 100);
        assert!(both.unwrap().1.contains("Secret n/two (for a.example.com) expired at"));
        assert_eq!(turn, None);
        let status = status(&report, &NONE, None, &[], Timestamp::from_second(start + DAY).unwrap());
        let events: Vec<_> = transitions(None, &status)
            .into_iter()
            .map(|t| (t.reason, t.good))
            .collect();
        let expected = [("CertificateExpiring", false), ("Programmed", true)];
        assert_eq!(events, expected.map(|(reason, good)| (reason.to_owned(), good)));
    }

    #[test]
    fn a_failed_order_is_told_where_it_is_still_wanted() {
        let order = |name: &str| Order {
            hostname: name.parse().unwrap(),
            secret: ObjectKey::new("n", name),
            current: None,
        };
        let failures = BTreeMap::from([
            ("a.test".into(), "no".to_owned()),
            ("b.test".into(), "never".to_owned()),
        ]);
        let mut report = report(1, true);
        let told = |report: &Report| {
            let status = status(report, &failures, None, &[], THEN);
            let resolved = status
                .conditions
                .into_iter()
                .find(|c| c.type_ == "ResolvedRefs")
                .unwrap();
            format!("{} {}: {}", resolved.status, resolved.reason, resolved.message)
        };
        assert_eq!(told(&report), "True ResolvedRefs: mtrue");
        report.orders = vec![order("a.test"), order("c.test")];
        let failed = "the certificate for \"a.test\" could not be ordered: no";
        assert_eq!(told(&report), format!("False CertificateFailed: {failed}"));
        for (before, after) in [
            (ConditionReason::CertificatePending, "CertificateFailed"),
            (ConditionReason::ServiceNotFound, "ServiceNotFound"),
        ] {
            report.conditions[1].status = false;
            report.conditions[1].reason = before;
            assert_eq!(told(&report), format!("False {after}: {failed}; mtrue"));
        }
    }
}
