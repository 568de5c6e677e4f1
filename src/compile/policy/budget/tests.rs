use proptest::prelude::*;

use super::*;

const MIB: usize = 1024 * 1024;

fn key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(namespace, name)
}

fn memory(mib: usize) -> Memory {
    Memory {
        regexes: mib * MIB,
        ..Memory::default()
    }
}

fn take(budgets: &mut Budgets, namespace: &str, name: &str, created: i64, mib: &[usize]) -> Option<usize> {
    let versions: Vec<_> = mib.iter().map(|mib| memory(*mib)).collect();
    budgets.take(&key(namespace, name), created, &versions)
}

#[test]
fn in_a_namespace_the_older_ones_go_first_and_the_others_say_why() {
    let mut budgets = Budgets::default();
    take(&mut budgets, "a", "young", 3, &[10]);
    take(&mut budgets, "a", "old", 1, &[20]);
    take(&mut budgets, "a", "small", 4, &[1]);
    assert_eq!(
        take(&mut budgets, "a", "middle", 2, &[10]),
        None,
        "there is no room yet"
    );
    assert_eq!(budgets.settle(), [key("a", "young"), key("a", "middle")]);
    assert_eq!(take(&mut budgets, "a", "young", 3, &[10]), None);
    let text = format!("{:?}", budgets.problem(&key("a", "young"), memory(10)));
    assert!(
        text.contains("would take 10240 KiB") && text.contains("take 31744 KiB of the 32768 KiB"),
        "{text}"
    );
    budgets.forget(&key("a", "old"));
    assert_eq!(budgets.settle(), [key("a", "young")]);
    assert_eq!(take(&mut budgets, "a", "young", 3, &[10]), Some(0));
}

#[test]
fn where_there_is_no_room_for_an_edit_the_last_good_version_stays_and_counts() {
    let mut budgets = Budgets::default();
    assert_eq!(take(&mut budgets, "a", "p", 1, &[20]), Some(0));
    assert_eq!(take(&mut budgets, "a", "q", 2, &[10]), Some(0));
    assert_eq!(take(&mut budgets, "a", "q", 2, &[30]), None);
    assert_eq!(take(&mut budgets, "a", "q", 2, &[30, 10]), Some(1));
    assert_eq!((budgets.settle(), budgets.all), (vec![], 30 * MIB));
    budgets.forget(&key("a", "p"));
    assert_eq!(budgets.settle(), [key("a", "q")]);
    assert_eq!(take(&mut budgets, "a", "q", 2, &[30]), Some(0));
}

#[test]
fn many_namespaces_that_want_all_they_may_leave_a_small_one_what_it_wants() {
    let mut budgets = Budgets::default();
    for hostile in 0..20 {
        for nth in 0..8 {
            take(
                &mut budgets,
                &format!("hostile-{hostile}"),
                &format!("p{nth}"),
                nth,
                &[4],
            );
        }
    }
    take(&mut budgets, "quiet", "p", 99, &[4]);
    budgets.settle();
    assert_eq!(take(&mut budgets, "quiet", "p", 99, &[4]), Some(0));
    assert!(budgets.all <= MAX_PROCESS);
    assert!(budgets.by_namespace().values().all(|taken| *taken >= 4 * MIB));
}

proptest! {
    /// Whatever comes and goes in whatever order, what is in force depends on what there is, and nothing goes past a bound.
    #[test]
    fn the_order_of_events_does_not_matter(
        steps in prop::collection::vec((0..4usize, 0..6usize, 0..3i64, prop::collection::vec(1..40usize, 0..3), any::<bool>()), 0..60)
    ) {
        let (mut budgets, mut last) = (Budgets::default(), BTreeMap::new());
        for (namespace, name, created, mib, settles) in steps {
            let (namespace, name) = (format!("n{namespace}"), format!("p{name}"));
            if mib.is_empty() {
                budgets.forget(&key(&namespace, &name));
                last.remove(&(namespace, name));
            } else {
                budgets.forget(&key(&namespace, &name));
                take(&mut budgets, &namespace, &name, created, &mib);
                last.insert((namespace, name), (created, mib));
            }
            prop_assert!(budgets.all <= MAX_PROCESS);
            if settles {
                budgets.settle();
            }
        }
        budgets.settle();
        prop_assert!(budgets.settle().is_empty());
        prop_assert_eq!(budgets.all, budgets.wanted.values().map(|wanted| wanted.memory().total()).sum::<usize>());
        let mut fresh = Budgets::default();
        for ((namespace, name), (created, mib)) in &last {
            take(&mut fresh, namespace, name, *created, mib);
        }
        fresh.settle();
        let taken = |budgets: &Budgets| budgets.wanted.iter().map(|(key, wanted)| (key.clone(), wanted.taken)).collect::<Vec<_>>();
        prop_assert_eq!(taken(&budgets), taken(&fresh));
        prop_assert!(budgets.all <= MAX_PROCESS);
        prop_assert!(budgets.by_namespace().values().all(|taken| *taken <= MAX_NAMESPACE));
    }
}
