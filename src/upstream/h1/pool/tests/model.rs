//! The list of idle connections against a naive model: whatever the order of the steps, both say the same.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Dial,
    /// Of one of those in use.
    Put(usize),
    Drop(usize),
    Limit(usize, u64),
    Take,
    /// The task of any connection.
    Check(usize),
    End(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Dial),
        4 => (0..8usize).prop_map(Step::Put),
        1 => (0..8usize).prop_map(Step::Drop),
        1 => (0..8usize, 1..6000u64).prop_map(|(which, limit)| Step::Limit(which, limit)),
        3 => Just(Step::Take),
        3 => (0..8usize).prop_map(Step::Check),
        1 => (0..8usize).prop_map(Step::End),
        3 => (0..3000u64).prop_map(Step::Pass),
    ]
}

/// A connection as the table of `idle` has it, with plain fields. Times in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Model {
    phase: Phase,
    since: u64,
    limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Busy,
    Idle,
    Closed,
}

proptest! {
    #[test]
    fn steps_do_what_the_table_says(steps in prop::collection::vec(step(), 1..80)) {
        let start = Instant::now();
        let at = |now: u64| start + Duration::from_millis(now);
        let list = IdleList::default();
        let mut now = 0;
        let mut states: Vec<Arc<ConnectionState>> = Vec::new();
        let mut models: Vec<Model> = Vec::new();
        // In use, and idle from the oldest to the latest.
        let (mut using, mut idle) = (Vec::<Kept<usize>>::new(), Vec::<usize>::new());
        for step in steps {
            match step {
                Step::Dial => {
                    let kept = busy(states.len(), at(now));
                    states.push(kept.state.clone());
                    models.push(Model { phase: Phase::Busy, since: 0, limit: IDLE_LIMIT.as_millis() as u64 });
                    using.push(kept);
                }
                Step::Put(which) if which < using.len() => {
                    let kept = using.remove(which);
                    let number = kept.connection;
                    list.put(kept, at(now));
                    let model = &mut models[number];
                    if model.phase == Phase::Busy {
                        (model.phase, model.since) = (Phase::Idle, now);
                        idle.push(number);
                    }
                }
                Step::Drop(which) if which < using.len() => {
                    let kept = using.remove(which);
                    kept.state.close();
                    models[kept.connection].phase = Phase::Closed;
                }
                Step::Limit(which, limit) if which < using.len() => {
                    using[which].state.limit_idling(Duration::from_millis(limit));
                    models[using[which].connection].limit = limit;
                }
                Step::Take => {
                    let mut expected = None;
                    while let Some(number) = idle.pop() {
                        let model = &mut models[number];
                        if model.phase == Phase::Idle && model.since + model.limit > now {
                            model.phase = Phase::Busy;
                            expected = Some(number);
                            break;
                        }
                        model.phase = Phase::Closed;
                    }
                    let taken = list.take(at(now), |_| true);
                    prop_assert_eq!(taken.as_ref().map(|kept| kept.connection), expected);
                    using.extend(taken);
                }
                Step::Check(number) if number < states.len() => {
                    let model = &mut models[number];
                    let due = model.since + model.limit;
                    let expected = match model.phase {
                        Phase::Busy => Look::Busy,
                        Phase::Idle if due > now => Look::Idle(at(due)),
                        _ => Look::Closed,
                    };
                    prop_assert_eq!(states[number].check(at(now)), expected);
                    if expected == Look::Closed {
                        model.phase = Phase::Closed;
                        states[number].end();
                        list.sweep();
                        idle.retain(|other| *other != number);
                    }
                }
                Step::End(number) if number < states.len() => {
                    states[number].end();
                    list.sweep();
                    models[number].phase = Phase::Closed;
                    idle.retain(|other| *other != number);
                }
                Step::Pass(millis) => now += millis,
                _ => {}
            }
            prop_assert_eq!(listed(&list, at(now)), idle.clone());
            for (state, model) in states.iter().zip(&models) {
                // At the start nothing is due.
                prop_assert_eq!(state.check(start) == Look::Closed, model.phase == Phase::Closed);
            }
        }
    }
}
