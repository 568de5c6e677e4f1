use super::*;
use crate::object::Kind;
use proptest::prelude::*;

const DAY: i64 = 24 * HOUR;
const NOW: i64 = 1_800_000_000;

fn id(name: &str) -> ObjectId {
    ObjectId::new(Kind::Deployment, key(name))
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("n", name)
}

fn wanted(name: &str, validity: Option<Validity>) -> Wanted {
    Wanted {
        hostname: format!("{name}.example.com").into(),
        secret: key(name),
        validity,
    }
}

fn ninety_days(not_before: i64) -> Validity {
    Validity {
        not_before,
        not_after: not_before + 90 * DAY,
    }
}

/// A schedule with one certificate that does not exist yet.
fn one() -> Schedule {
    let mut schedule = Schedule::default();
    schedule.track(id("app"), vec![wanted("a", None)], NOW);
    schedule
}

fn name(job: Option<Job>) -> Option<String> {
    job.map(|job| job.secret.name.to_string())
}

#[test]
fn what_does_not_exist_is_ordered_at_once_and_once() {
    let mut schedule = one();
    assert!(schedule.wake(NOW).is_some_and(|at| at <= NOW));
    let job = schedule.begin(NOW).unwrap();
    assert_eq!(&*job.hostname, "a.example.com");
    assert_eq!(schedule.begin(NOW), None);
    // What the watch says meanwhile changes nothing.
    schedule.track(id("app"), vec![wanted("a", None)], NOW);
    assert_eq!(schedule.begin(NOW), None);
}

#[test]
fn a_certificate_is_renewed_at_two_thirds_of_its_lifetime_and_at_most_four_hours_later() {
    let mut schedule = one();
    schedule.begin(NOW);
    schedule.succeed(&key("a"), ninety_days(NOW), NOW);
    let at = schedule.wake(NOW).unwrap();
    assert!((NOW + 60 * DAY..NOW + 60 * DAY + 4 * HOUR).contains(&at));
    assert_eq!(schedule.begin(at - 1), None);
    assert_eq!(name(schedule.begin(at)).as_deref(), Some("a"));
}

#[test]
fn renewals_of_one_moment_are_spread() {
    let times: BTreeSet<_> = (0..100)
        .map(|i| ninety_days(NOW).renewal(&format!("{i}.example.com")))
        .collect();
    assert!(times.len() > 90);
    assert!(times.last().unwrap() - times.first().unwrap() > 3 * HOUR);
}

#[test]
fn a_short_lifetime_bounds_the_spread() {
    for lifetime in [0, 1, 5, 60, 600, HOUR, DAY] {
        let validity = Validity {
            not_before: NOW,
            not_after: NOW + lifetime,
        };
        let at = validity.renewal("a.example.com");
        assert!((NOW..=NOW + lifetime * 3 / 4).contains(&at), "{lifetime}: {}", at - NOW);
    }
    let odd = Validity {
        not_before: i64::MAX,
        not_after: i64::MIN,
    };
    odd.renewal("a.example.com");
}

#[test]
fn failures_are_followed_by_longer_rests_from_one_minute_to_six_hours() {
    let mut schedule = one();
    let mut now = NOW;
    let mut rests = Vec::new();
    for attempt in 0..9 {
        assert_eq!(name(schedule.begin(now)).as_deref(), Some("a"), "{attempt}");
        let rest = schedule.fail(&key("a"), Setback::Ordinary, now, 0.99);
        assert_eq!(schedule.wake(now), Some(now + rest));
        assert_eq!(schedule.begin(now + rest - 1), None);
        rests.push(rest);
        now += rest;
    }
    assert!(rests.is_sorted());
    assert!((60..=72).contains(&rests[0]));
    assert!((5 * HOUR..=6 * HOUR).contains(&rests[8]));
    // No more than Let's Encrypt takes: five failed validations of a hostname in an hour.
    assert!(rests[..5].iter().sum::<i64>() > HOUR);
    schedule.begin(now);
    schedule.succeed(&key("a"), ninety_days(now), now);
    let renewal = schedule.wake(now).unwrap();
    schedule.begin(renewal);
    assert!(
        schedule.fail(&key("a"), Setback::Ordinary, renewal, 0.0) == 60,
        "forgiven"
    );
}

#[test]
fn a_rate_limit_is_respected_for_an_hour_at_least() {
    let mut schedule = one();
    schedule.begin(NOW);
    assert_eq!(schedule.fail(&key("a"), Setback::RateLimited, NOW, 0.0), HOUR);
}

#[test]
fn deleting_and_creating_an_object_is_no_way_around_the_back_off() {
    let mut schedule = one();
    schedule.begin(NOW);
    let rest = schedule.fail(&key("a"), Setback::Ordinary, NOW, 0.0);
    schedule.track(id("app"), Vec::new(), NOW);
    schedule.track(id("app"), vec![wanted("a", None)], NOW);
    assert_eq!(schedule.begin(NOW + rest - 1), None);
    schedule.track(id("app"), Vec::new(), NOW);
    assert_eq!(schedule.begin(NOW + rest), None);
    assert!(schedule.entries.is_empty() && schedule.queue.is_empty(), "forgotten");
}

#[test]
fn a_shared_certificate_is_wanted_until_the_last_deployment_is_gone() {
    let mut schedule = one();
    schedule.track(id("other"), vec![wanted("a", None)], NOW);
    schedule.track(id("app"), Vec::new(), NOW);
    assert_eq!(schedule.wanted_by(&key("a")).collect::<Vec<_>>(), [&id("other")]);
    assert!(schedule.begin(NOW).is_some());
    schedule.track(id("other"), Vec::new(), NOW);
    schedule.fail(&key("a"), Setback::Ordinary, NOW, 0.0);
    assert_eq!(schedule.begin(NOW + DAY), None);
}

#[test]
fn what_was_obtained_is_believed_though_the_watch_lags_behind() {
    let mut schedule = one();
    schedule.begin(NOW);
    schedule.succeed(&key("a"), ninety_days(NOW), NOW);
    schedule.track(id("app"), vec![wanted("a", None)], NOW);
    assert_eq!(schedule.begin(NOW + 59), None);
    schedule.track(id("app"), vec![wanted("a", Some(ninety_days(NOW)))], NOW);
    assert_eq!(schedule.begin(NOW + HOUR), None);
    // And a certificate that is lost later is ordered anew.
    schedule.track(id("app"), vec![wanted("a", None)], NOW);
    assert!(schedule.begin(NOW + HOUR).is_some());
}

#[test]
fn those_that_fail_keep_none_that_would_succeed_waiting() {
    let mut schedule = one();
    schedule.begin(NOW);
    schedule.fail(&key("a"), Setback::Ordinary, NOW, 0.0);
    schedule.track(id("later"), vec![wanted("b", Some(ninety_days(NOW - 60 * DAY)))], NOW);
    let late = NOW + DAY;
    assert_eq!(name(schedule.begin(late)).as_deref(), Some("b"));
    assert_eq!(name(schedule.begin(late)).as_deref(), Some("a"));
}

#[test]
fn a_new_term_begins_again_what_was_on_its_way() {
    let mut schedule = one();
    schedule.begin(NOW);
    schedule.give_up_all();
    assert_eq!(name(schedule.begin(NOW)).as_deref(), Some("a"));
}

#[derive(Clone, Debug)]
enum Act {
    Want(u8, Vec<u8>),
    Succeed(u8),
    Fail(u8),
    GiveUp,
    Wait(i64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..6_u8, prop::collection::vec(0..40_u8, 0..8)).prop_map(|(who, what)| Act::Want(who, what)),
        (0..40_u8).prop_map(Act::Succeed),
        (0..40_u8).prop_map(Act::Fail),
        Just(Act::GiveUp),
        (1..3000_i64).prop_map(Act::Wait),
    ]
}

proptest! {
    /// Whatever happens: never more than four orders at once nor ninety in an hour, never two for one Secret, none that
    /// nobody wants; and what is due begins when `wake` says so.
    #[test]
    fn bounds_hold_whatever_happens(acts in prop::collection::vec(act(), 1..200)) {
        let mut schedule = Schedule::default();
        let mut now = NOW;
        let mut flying = BTreeSet::new();
        let mut begun: Vec<i64> = Vec::new();
        let mut wants: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        for act in acts {
            match act {
                Act::Want(who, what) => {
                    let list = what.iter().map(|i| wanted(&i.to_string(), None)).collect();
                    schedule.track(id(&format!("app-{who}")), list, NOW);
                    wants.insert(who, what);
                }
                Act::Succeed(i) => {
                    let secret = key(&i.to_string());
                    if flying.remove(&secret) {
                        schedule.succeed(&secret, ninety_days(now), now);
                    }
                }
                Act::Fail(i) => {
                    let secret = key(&i.to_string());
                    if flying.remove(&secret) {
                        schedule.fail(&secret, Setback::Ordinary, now, 0.5);
                    }
                }
                Act::GiveUp => {
                    flying.clear();
                    schedule.give_up_all();
                }
                Act::Wait(seconds) => now += seconds,
            }
            while let Some(job) = schedule.begin(now) {
                prop_assert!(wants.values().flatten().any(|i| i.to_string() == *job.secret.name));
                prop_assert!(flying.insert(job.secret), "twice at once");
                begun.push(now);
            }
            prop_assert!(flying.len() <= IN_FLIGHT);
            prop_assert!(begun.iter().filter(|at| **at > now - HOUR).count() <= PER_HOUR);
            if flying.len() < IN_FLIGHT && let Some(at) = schedule.wake(now) {
                prop_assert!(at > now, "nothing begins, and it does not wait");
            }
        }
    }
}
