use super::*;
use crate::compile::acme::Order;
use crate::compile::intent::Parent;
use crate::compile::report::{Counts, ParentReport, PolicyDetails};
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
    match super::status(report, failures, before.as_ref(), addresses, now) {
        Status::Deployment(status) => Arc::unwrap_or_clone(status),
        Status::SentinelPolicy(_) => unreachable!("a Deployment's status is one"),
    }
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
    let report = |targets| Report {
        id: ObjectId::new(Kind::SentinelPolicy, ObjectKey::new("n", "p")),
        uid: "u".into(),
        generation: 3,
        parents: alone(vec![Finding {
            r#type: ConditionType::Accepted,
            status: false,
            reason: ConditionReason::ServingLastGood,
            message: "m".to_owned(),
        }]),
        details: Details::Policy(PolicyDetails {
            targets,
            rules: 1,
            ours: true,
        }),
    };
    let status = |targets, addresses: &[String]| super::status(&report(targets), &NONE, None, addresses, THEN);
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
        parents: alone(vec![
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
        ]),
        details: Details::Routes(RouteDetails {
            endpoints: Counts { ready: 1, total: 2 },
            hostnames: vec!["a.example.com".into()],
            ..RouteDetails::default()
        }),
    }
}

fn alone(findings: Vec<Finding>) -> Vec<ParentReport> {
    vec![ParentReport {
        parent: Parent::Installation,
        findings,
    }]
}

fn details(report: &mut Report) -> &mut RouteDetails {
    match &mut report.details {
        Details::Routes(details) => details,
        Details::Policy(_) => unreachable!("a Deployment's report is one"),
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
        let told = expiring(report.routes().unwrap(), now).map(|finding| (finding.reason, finding.message));
        (told, turn(report, now).map(|wait| wait.as_secs() as i64 / DAY))
    };
    assert_eq!(told(&report, 0), (None, None));
    details(&mut report).certificates = vec![served("one", 15), served("two", 100)];
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
    details(&mut report).orders = vec![order("a.test"), order("c.test")];
    let failed = "the certificate for \"a.test\" could not be ordered: no";
    assert_eq!(told(&report), format!("False CertificateFailed: {failed}"));
    for (before, after) in [
        (ConditionReason::CertificatePending, "CertificateFailed"),
        (ConditionReason::ServiceNotFound, "ServiceNotFound"),
    ] {
        report.parents[0].findings[1].status = false;
        report.parents[0].findings[1].reason = before;
        assert_eq!(told(&report), format!("False {after}: {failed}; mtrue"));
    }
}
