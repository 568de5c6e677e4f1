//! What a report says as a status, and how that differs from the one that stands on the object. No client, no clock.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::condition::{ConditionReason, ConditionType};
use crate::api::deployment::{DeploymentStatus, EndpointCounts};
use crate::compile::report::Report;

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

/// `before` is the status that stands there: a condition that keeps its status keeps its time. The report is of the
/// snapshot that is served, so what it accepts is programmed.
pub fn status(
    report: &Report,
    before: Option<&DeploymentStatus>,
    addresses: &[String],
    now: Timestamp,
) -> DeploymentStatus {
    let accepted = report
        .conditions
        .iter()
        .find(|finding| finding.r#type == ConditionType::Accepted)
        .is_some_and(|finding| finding.status);
    let programmed = if accepted {
        (true, ConditionReason::Programmed, "this generation is served")
    } else {
        (
            false,
            ConditionReason::Invalid,
            "nothing of this generation is served: see Accepted",
        )
    };
    let condition = |r#type: ConditionType, status: bool, reason: ConditionReason, message: &str| {
        let r#type = r#type.to_string();
        let status = if status { "True" } else { "False" };
        let kept = before
            .and_then(|before| before.conditions.iter().find(|old| old.type_ == r#type))
            .filter(|old| old.status == status)
            .map(|old| old.last_transition_time.clone());
        Condition {
            type_: r#type,
            status: status.to_owned(),
            reason: reason.to_string(),
            message: cut(message, MAX_MESSAGE),
            observed_generation: Some(report.generation),
            last_transition_time: kept.unwrap_or_else(|| Time(whole_seconds(now))),
        }
    };
    let found = report
        .conditions
        .iter()
        .map(|finding| condition(finding.r#type, finding.status, finding.reason, &finding.message));
    let programmed = condition(ConditionType::Programmed, programmed.0, programmed.1, programmed.2);
    DeploymentStatus {
        conditions: found.chain([programmed]).collect(),
        endpoints: Some(EndpointCounts {
            ready: report.endpoints.ready,
            total: report.endpoints.total,
        }),
        hostnames: report.hostnames.iter().map(|name| name.to_string()).collect(),
        addresses: addresses.to_vec(),
    }
}

/// Only what is ours is compared: others may put conditions of their own beside them.
pub fn difference(wanted: &DeploymentStatus, found: Option<&DeploymentStatus>) -> Option<Difference> {
    let Some(found) = found else {
        return Some(Difference::Conditions);
    };
    let same =
        ours(wanted) == ours(found) && wanted.hostnames == found.hostnames && wanted.addresses == found.addresses;
    match (same, wanted.endpoints == found.endpoints) {
        (false, _) => Some(Difference::Conditions),
        (true, false) => Some(Difference::Counts),
        (true, true) => None,
    }
}

/// What changed for whoever reads Events: a condition that turned bad or changed its reason, and the return to good.
/// Programmed says the same as Accepted when it is False.
pub fn transitions(before: Option<&DeploymentStatus>, after: &DeploymentStatus) -> Vec<Transition> {
    let is = |condition: &Condition, r#type: ConditionType| condition.type_ == r#type.to_string();
    let good = |condition: &Condition| (condition.status == "True") != is(condition, ConditionType::PartiallyInvalid);
    let changed = after.conditions.iter().filter(|new| {
        let programmed = is(new, ConditionType::Programmed);
        match before.and_then(|before| before.conditions.iter().find(|old| old.type_ == new.type_)) {
            Some(old) if programmed => good(new) && !good(old),
            Some(old) => old.status != new.status || old.reason != new.reason,
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

fn ours(status: &DeploymentStatus) -> Vec<&Condition> {
    let mut conditions: Vec<_> = status
        .conditions
        .iter()
        .filter(|condition| OURS.iter().any(|r#type| condition.type_ == r#type.to_string()))
        .collect();
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    conditions
}

/// At most `max` bytes, whole characters.
pub fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mark = "…";
    format!("{}{mark}", &text[..text.floor_char_boundary(max - mark.len())])
}

/// metav1.Time knows no finer ones: what is read back is what was written.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

const OURS: [ConditionType; 4] = [
    ConditionType::Accepted,
    ConditionType::PartiallyInvalid,
    ConditionType::ResolvedRefs,
    ConditionType::Programmed,
];

const MAX_MESSAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::report::{Counts, Finding};
    use crate::store::ObjectKey;

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
            key: ObjectKey::new("n", "a"),
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
        let status = status(&report(7, true), None, &[], now());
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
        let before = status(&report(1, true), None, &[], THEN);
        let after = status(&report(2, false), Some(&before), &[], now());
        let second = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(
            times(&after),
            [("Accepted", second), ("ResolvedRefs", THEN), ("Programmed", second)]
        );
    }

    #[test]
    fn a_status_read_back_is_no_difference() {
        let written = status(&report(1, true), None, &["192.0.2.1".into()], now());
        let mut read: DeploymentStatus = serde_json::from_value(serde_json::to_value(&written).unwrap()).unwrap();
        read.conditions.reverse();
        read.conditions.push(Condition {
            type_: "example.com/Theirs".into(),
            ..read.conditions[0].clone()
        });
        let wanted = status(&report(1, true), Some(&read), &["192.0.2.1".into()], Timestamp::MAX);
        assert_eq!(difference(&wanted, Some(&read)), None);
    }

    #[test]
    fn counts_are_the_lesser_difference() {
        let written = status(&report(1, true), None, &[], now());
        let mut counted = written.clone();
        counted.endpoints = Some(EndpointCounts { ready: 0, total: 2 });
        assert_eq!(difference(&counted, Some(&written)), Some(Difference::Counts));
        counted.hostnames.clear();
        assert_eq!(difference(&counted, Some(&written)), Some(Difference::Conditions));
        assert_eq!(difference(&written, None), Some(Difference::Conditions));
    }

    #[test]
    fn events_tell_the_first_success_every_failure_and_the_return() {
        let good = status(&report(1, true), None, &[], THEN);
        let bad = status(&report(2, false), Some(&good), &[], THEN);
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
    fn texts_are_cut_at_characters() {
        assert_eq!(cut("äöü", 6), "äöü");
        assert_eq!(cut("äöü", 5), "ä…");
    }
}
