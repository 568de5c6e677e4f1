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

/// A certificate of another namespace.
fn of(namespace: &str, wanted: Wanted) -> Wanted {
    Wanted {
        secret: ObjectKey::new(namespace, &wanted.secret.name),
        ..wanted
    }
}

/// So many new names of one namespace.
fn flood(schedule: &mut Schedule, namespace: &str, count: usize) {
    let names = (0..count).map(|number| of(namespace, wanted(&format!("{namespace}-{number:04}"), None)));
    let id = ObjectId::new(Kind::Deployment, ObjectKey::new(namespace, "flood"));
    schedule.track(id, names.collect(), NOW);
}

/// Begins what may begin now, and has it succeed at once.
fn begun(schedule: &mut Schedule, now: i64) -> Vec<ObjectKey> {
    let mut begun = Vec::new();
    while let Some(job) = schedule.begin(now) {
        schedule.succeed(&job.secret, ninety_days(now), now);
        begun.push(job.secret);
    }
    begun
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
fn new_names_of_one_namespace_keep_no_other_waiting() {
    let mut schedule = Schedule::default();
    flood(&mut schedule, "hostile", 200);
    let due = ninety_days(NOW - 61 * DAY);
    schedule.track(id("app"), vec![wanted("renewed", Some(due)), wanted("new", None)], NOW);
    let first: Vec<_> = (0..4)
        .filter_map(|_| schedule.begin(NOW))
        .map(|job| job.secret)
        .collect();
    assert!(
        first.contains(&key("renewed")) && first.contains(&key("new")),
        "{first:?}"
    );
}

#[test]
fn new_names_however_many_leave_room_for_what_comes_within_the_hour() {
    let mut schedule = Schedule::default();
    flood(&mut schedule, "hostile", 200);
    assert_eq!(begun(&mut schedule, NOW).len(), NAMESPACE_PER_HOUR);
    // Another's new name, at once.
    schedule.track(id("app"), vec![wanted("new", None)], NOW);
    assert_eq!(begun(&mut schedule, NOW + 1), [key("new")]);
    for number in 0..10 {
        flood(&mut schedule, &format!("hostile-{number}"), 200);
    }
    let more = NEW_PER_HOUR - NAMESPACE_PER_HOUR - 1;
    assert_eq!(begun(&mut schedule, NOW + 2).len(), more);
    // A renewal, though there is no room for new names any more.
    let due = ninety_days(NOW - 61 * DAY);
    schedule.track(
        id("later"),
        vec![wanted("renewed", Some(due)), wanted("newer", None)],
        NOW,
    );
    assert_eq!(begun(&mut schedule, NOW + 3), [key("renewed")]);
    // When there is, the namespaces that had the fewest come first.
    assert_eq!(schedule.wake(NOW + 3), Some(NOW + HOUR));
    assert!(begun(&mut schedule, NOW + HOUR).contains(&key("newer")));
}

#[test]
fn namespaces_have_as_many_each_as_all_of_them_want() {
    let mut schedule = Schedule::default();
    let namespaces = ["a", "b", "c"];
    for namespace in namespaces {
        flood(&mut schedule, namespace, 200);
    }
    let begun = begun(&mut schedule, NOW);
    for namespace in namespaces {
        let own = begun.iter().filter(|secret| &*secret.namespace == namespace);
        assert_eq!(own.count(), NEW_PER_HOUR / 3);
    }
}

#[test]
fn renewals_of_one_namespace_are_bounded_too() {
    let mut schedule = Schedule::default();
    let due = ninety_days(NOW - 61 * DAY);
    let many = (0..200).map(|number| of("hostile", wanted(&format!("{number}"), Some(due))));
    schedule.track(id("hostile"), many.collect(), NOW);
    assert_eq!(begun(&mut schedule, NOW).len(), NAMESPACE_PER_HOUR);
    schedule.track(id("app"), vec![wanted("renewed", Some(due))], NOW);
    assert_eq!(begun(&mut schedule, NOW + 1), [key("renewed")]);
}

#[test]
fn what_failed_has_its_namespaces_turn() {
    let mut schedule = one();
    schedule.begin(NOW);
    let rest = schedule.fail(&key("a"), Setback::Ordinary, NOW, 0.0);
    flood(&mut schedule, "hostile", 200);
    begun(&mut schedule, NOW);
    let namespaces = [(); 2].map(|()| schedule.begin(NOW + HOUR).unwrap().secret.namespace);
    assert!(rest < HOUR && namespaces.contains(&"n".into()), "{namespaces:?}");
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
    SucceedAll,
    Fail(u8),
    GiveUp,
    Wait(i64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => (0..6_u8, prop::collection::vec(any::<u8>(), 0..80)).prop_map(|(who, what)| Act::Want(who, what)),
        8 => Just(Act::SucceedAll),
        3 => any::<u8>().prop_map(Act::Fail),
        1 => Just(Act::GiveUp),
        2 => (1..900_i64).prop_map(Act::Wait),
    ]
}

/// A fifth of them renewals; half of them of one namespace.
fn numbered(number: u8) -> Wanted {
    let due = number.is_multiple_of(5).then(|| ninety_days(NOW - 61 * DAY));
    let namespace = ["a", "a", "b", "c"][usize::from(number % 4)];
    of(namespace, wanted(&number.to_string(), due))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happens: never more than four orders at once, nor more in an hour than all, new names and a namespace may
    /// have; never two for one Secret, none that nobody wants; what begins is of a namespace that had the fewest of all that
    /// could; and what is due begins when `wake` says so.
    #[test]
    fn bounds_hold_whatever_happens(acts in prop::collection::vec(act(), 1..200)) {
        let mut schedule = Schedule::default();
        let mut now = NOW;
        let mut flying = BTreeSet::new();
        let mut begun: Vec<Begun> = Vec::new();
        let mut wants: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        for act in acts {
            match act {
                Act::Want(who, what) => {
                    let list = what.iter().map(|number| numbered(*number)).collect();
                    schedule.track(id(&format!("app-{who}")), list, now);
                    wants.insert(who, what);
                }
                Act::SucceedAll => {
                    for secret in std::mem::take(&mut flying) {
                        // Not for long, so that they come again.
                        let validity = Validity { not_before: now, not_after: now + 600 };
                        schedule.succeed(&secret, validity, now);
                    }
                }
                Act::Fail(number) => {
                    let secret = numbered(number).secret;
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
            let count = |begun: &[Begun], alike: &dyn Fn(&Begun) -> bool| {
                begun.iter().filter(|one| one.at > now - HOUR && alike(one)).count()
            };
            loop {
                let own = ["a", "b", "c"].map(|namespace| count(&begun, &|one| *one.namespace == *namespace));
                let own = |namespace: &str| own[usize::from(namespace.as_bytes()[0] - b'a')];
                let new_names = count(&begun, &|one| one.new);
                let may_begin = |secret: &ObjectKey, is_new: bool| {
                    own(&secret.namespace) < NAMESPACE_PER_HOUR && !(is_new && new_names >= NEW_PER_HOUR)
                };
                let due: Vec<_> = schedule.queue.iter().filter(|(due, _)| *due <= now).cloned().collect();
                let wanted = due.iter().filter_map(|(_, secret)| {
                    let entry = &schedule.entries[secret];
                    (!entry.wanted_by.is_empty()).then(|| (secret.clone(), entry.validity.is_none()))
                });
                let could: Vec<_> = wanted.filter(|(secret, is_new)| may_begin(secret, *is_new)).collect();
                let fewest = could.iter().map(|(secret, _)| own(&secret.namespace)).min();
                let Some(job) = schedule.begin(now) else {
                    let full = flying.len() >= IN_FLIGHT || count(&begun, &|_| true) >= PER_HOUR;
                    prop_assert!(could.is_empty() || full, "something is idle");
                    break;
                };
                let chosen = could.iter().find(|(secret, _)| *secret == job.secret);
                prop_assert_eq!(Some(own(&job.secret.namespace)), fewest);
                prop_assert!(wants.values().flatten().any(|number| numbered(*number).secret == job.secret));
                begun.push(Begun {
                    at: now,
                    namespace: job.secret.namespace.clone(),
                    new: chosen.expect("it could begin").1,
                });
                prop_assert!(flying.insert(job.secret), "twice at once");
            }
            prop_assert!(flying.len() <= IN_FLIGHT);
            prop_assert!(count(&begun, &|_| true) <= PER_HOUR);
            if flying.len() < IN_FLIGHT && let Some(at) = schedule.wake(now) {
                prop_assert!(at > now, "nothing begins, and it does not wait");
            }
        }
    }
}
