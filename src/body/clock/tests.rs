use std::future::{pending, ready};
use std::pin::Pin;

use futures_util::poll;
use proptest::prelude::*;
use tokio::sync::oneshot;
use tokio::time::advance;

use super::*;

const KEEP_ALIVE: Duration = Duration::from_secs(75);
const IDLE: Duration = Duration::from_secs(30);
const MILLI: Duration = Duration::from_millis(1);

/// Runs a test on a paused clock that begins after the epoch.
fn paused<T>(test: impl Future<Output = T>) -> T {
    epoch();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(test)
}

/// Lets all of `limit` pass but a millisecond, sees that the clock is not over, and then that it is, in `phase`.
async fn lasts(clock: &Clock, phase: Phase, limit: Duration) {
    advance(limit - MILLI).await;
    let next = clock.check().expect("not over yet");
    assert!(next > now() && next <= now() + MILLI, "looks again when it is over");
    advance(MILLI).await;
    assert_eq!(clock.check(), Err(phase));
}

#[test]
fn a_new_connection_has_the_time_of_a_head() {
    paused(async { lasts(&Clock::new(KEEP_ALIVE), Phase::Head, HEAD_TIMEOUT).await });
}

#[test]
fn bytes_do_not_prolong_a_head() {
    paused(async {
        let clock = Clock::new(KEEP_ALIVE);
        advance(HEAD_TIMEOUT / 2).await;
        clock.heard(false);
        clock.heard(true);
        clock.wrote();
        lasts(&clock, Phase::Head, HEAD_TIMEOUT / 2).await;
    });
}

#[test]
fn a_request_under_way_is_never_over_of_itself() {
    paused(async {
        let clock = Clock::new(KEEP_ALIVE);
        clock.busy();
        for _ in 0..100 {
            advance(HEAD_TIMEOUT).await;
            clock.heard(false);
            clock.wrote();
            assert_eq!(clock.check(), Ok(now() + COARSE));
        }
    });
}

#[test]
fn a_body_is_over_after_its_pause_and_each_movement_restarts_it() {
    paused(async {
        let clock = Clock::new(KEEP_ALIVE);
        clock.busy();
        clock.sending(Some(IDLE));
        for blocked in [false, true] {
            advance(IDLE - MILLI).await;
            clock.heard(blocked);
            advance(IDLE - MILLI).await;
            assert!(clock.check().is_ok());
            clock.wrote();
        }
        lasts(&clock, Phase::Sending, IDLE).await;
    });
}

#[test]
fn a_body_without_a_limit_may_pause_for_ever() {
    for idle in [None, Some(Duration::ZERO)] {
        paused(async {
            let clock = Clock::new(KEEP_ALIVE);
            clock.sending(Some(IDLE));
            clock.sending(idle);
            advance(KEEP_ALIVE * 1000).await;
            assert_eq!(clock.check(), Ok(now() + COARSE));
        });
    }
}

#[test]
fn an_idle_connection_is_over_after_its_keep_alive_time() {
    paused(async {
        let clock = Clock::new(KEEP_ALIVE);
        clock.sending(Some(IDLE));
        clock.idle();
        lasts(&clock, Phase::Idle, KEEP_ALIVE).await;
    });
}

#[test]
fn the_first_byte_of_a_next_head_begins_its_time() {
    paused(async {
        let clock = Clock::new(KEEP_ALIVE);
        clock.idle();
        advance(KEEP_ALIVE - MILLI).await;
        clock.heard(false);
        lasts(&clock, Phase::Head, HEAD_TIMEOUT).await;
    });
}

#[test]
fn an_answer_that_is_still_being_written_keeps_the_connection_idle() {
    paused(async {
        let clock = Clock::new(KEEP_ALIVE);
        clock.idle();
        advance(KEEP_ALIVE - MILLI).await;
        // A pipelined head behind a blocked answer: its own time begins when the answer is out.
        clock.heard(true);
        advance(KEEP_ALIVE - MILLI).await;
        clock.wrote();
        lasts(&clock, Phase::Idle, KEEP_ALIVE).await;
    });
}

#[test]
fn an_accepted_upgrade_must_be_taken_as_soon_as_a_head_must_come() {
    paused(async {
        let clock = Clock::new(KEEP_ALIVE);
        clock.busy();
        advance(KEEP_ALIVE).await;
        clock.switching();
        lasts(&clock, Phase::Head, HEAD_TIMEOUT).await;
    });
}

#[test]
fn the_tick_is_coarse_but_for_a_short_keep_alive_time() {
    paused(async {
        let clock = Clock::new(KEEP_ALIVE);
        assert_eq!(clock.pace(), COARSE);
        clock.idle();
        assert_eq!(clock.check(), Ok(now() + COARSE));

        let short = Clock::new(Duration::from_secs(2));
        short.busy();
        assert_eq!(short.check(), Ok(now() + Duration::from_secs(2)));
    });
}

#[test]
fn a_wait_ends_with_its_answer_or_at_the_look_after_its_end() {
    paused(async {
        let clock = Clock::new(KEEP_ALIVE);
        clock.busy();
        assert_eq!(clock.until(now() + IDLE, ready(7)).await, Some(7));

        let mut wait = pin!(clock.until(now() + IDLE, pending::<()>()));
        assert_eq!(poll!(wait.as_mut()), Poll::Pending);
        advance(IDLE - MILLI).await;
        assert!(clock.check().unwrap() <= now() + MILLI);
        assert_eq!(poll!(wait.as_mut()), Poll::Pending);
        advance(MILLI).await;
        assert_eq!(poll!(wait.as_mut()), Poll::Pending, "only a look ends it");
        assert_eq!(clock.check(), Ok(now() + COARSE));
        assert_eq!(poll!(wait.as_mut()), Poll::Ready(None));
    });
}

#[test]
fn an_answer_that_comes_with_the_end_counts() {
    paused(async {
        let clock = Clock::new(KEEP_ALIVE);
        clock.busy();
        let (send, answer) = oneshot::channel();
        let mut wait = pin!(clock.until(now() + IDLE, answer));
        assert_eq!(poll!(wait.as_mut()), Poll::Pending);
        advance(IDLE).await;
        clock.check().unwrap();
        send.send(7).unwrap();
        assert_eq!(poll!(wait.as_mut()), Poll::Ready(Some(Ok(7))));
    });
}

#[test]
fn a_wait_that_was_given_up_does_not_end_the_next() {
    paused(async {
        let clock = Clock::new(KEEP_ALIVE);
        clock.busy();
        {
            let mut given_up = pin!(clock.until(now() + IDLE, pending::<()>()));
            assert_eq!(poll!(given_up.as_mut()), Poll::Pending);
        }
        advance(IDLE).await;
        clock.check().unwrap();
        let mut wait = pin!(clock.until(now() + IDLE, pending::<()>()));
        assert_eq!(poll!(wait.as_mut()), Poll::Pending);
        clock.check().unwrap();
        assert_eq!(poll!(wait.as_mut()), Poll::Pending);
    });
}

#[test]
fn no_limit_is_too_large_to_count() {
    paused(async {
        let clock = Clock::new(Duration::MAX);
        clock.idle();
        assert_eq!(clock.check(), Ok(now() + COARSE));
        clock.sending(Some(Duration::MAX));
        assert_eq!(clock.check(), Ok(now() + COARSE));
        clock.busy();
        let end = now() + Duration::from_secs(u64::MAX / 4);
        let mut wait = pin!(clock.until(end, pending::<()>()));
        assert_eq!(poll!(wait.as_mut()), Poll::Pending);
        assert_eq!(clock.check(), Ok(now() + COARSE));
        assert_eq!(poll!(wait.as_mut()), Poll::Pending);
    });
}

#[test]
fn time_before_the_epoch_is_its_beginning() {
    let epoch = epoch();
    if let Some(before) = epoch.checked_sub(IDLE) {
        assert_eq!(since_epoch(before), 0);
    }
    assert_eq!(since_epoch(epoch + IDLE), millis(IDLE));
    assert_eq!(after_epoch(millis(IDLE)), epoch + IDLE);
    assert!(after_epoch(u64::MAX) > after_epoch(u64::MAX - 1));
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Busy,
    Sending(Option<u64>),
    Switching,
    Idle,
    Heard(bool),
    Wrote,
    /// A wait begins, with its end so many milliseconds away; one under way is given up.
    Wait(u64),
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    let span = || prop_oneof![0u64..20, 9_990u64..10_010, 0u64..100_000];
    prop_oneof![
        4 => span().prop_map(Step::Pass),
        1 => Just(Step::Busy),
        1 => proptest::option::of(span()).prop_map(Step::Sending),
        1 => Just(Step::Switching),
        1 => Just(Step::Idle),
        2 => any::<bool>().prop_map(Step::Heard),
        1 => Just(Step::Wrote),
        1 => (10_000u64..40_000).prop_map(Step::Wait),
        1 => Just(Step::Poll),
    ]
}

/// The clock with plain fields and exact times.
struct Model {
    phase: Phase,
    since: Instant,
    keep_alive: Duration,
    body_idle: Option<Duration>,
    wait: Option<Instant>,
    overdue: bool,
}

impl Model {
    fn enter(&mut self, phase: Phase) {
        (self.phase, self.since) = (phase, now());
    }

    fn heard(&mut self, write_blocked: bool) {
        match self.phase {
            Phase::Idle if !write_blocked => self.enter(Phase::Head),
            phase @ (Phase::Idle | Phase::Sending) => self.enter(phase),
            Phase::Head | Phase::Busy => {}
        }
    }

    fn wrote(&mut self) {
        if self.phase == Phase::Idle || self.phase == Phase::Sending {
            self.enter(self.phase);
        }
    }

    /// How long the phase still lasts; None: without end.
    fn check(&mut self) -> Result<Option<Instant>, Phase> {
        let end = match self.phase {
            Phase::Idle => Some(self.since + self.keep_alive),
            Phase::Head => Some(self.since + HEAD_TIMEOUT),
            Phase::Sending => self.body_idle.map(|idle| self.since + idle),
            Phase::Busy => {
                self.overdue |= self.wait.is_some_and(|end| end <= now());
                return Ok(self.wait.filter(|end| *end > now()));
            }
        };
        if end.is_some_and(|end| end <= now()) {
            return Err(self.phase);
        }
        Ok(end)
    }
}

type Wait<'a> = Pin<Box<dyn Future<Output = Option<()>> + 'a>>;

async fn apply<'a>(step: Step, clock: &'a Clock, model: &mut Model, wait: &mut Option<Wait<'a>>) {
    match step {
        Step::Pass(span) => advance(Duration::from_millis(span)).await,
        Step::Busy => {
            clock.busy();
            model.enter(Phase::Busy);
        }
        Step::Sending(idle) => {
            let idle = idle.map(Duration::from_millis);
            clock.sending(idle);
            model.body_idle = idle.filter(|idle| !idle.is_zero());
            model.enter(Phase::Sending);
        }
        Step::Switching => {
            clock.switching();
            model.enter(Phase::Head);
        }
        Step::Idle => {
            clock.idle();
            model.enter(Phase::Idle);
        }
        Step::Heard(blocked) => {
            clock.heard(blocked);
            model.heard(blocked);
        }
        Step::Wrote => {
            clock.wrote();
            model.wrote();
        }
        Step::Wait(span) => {
            let end = now() + Duration::from_millis(span);
            let mut begun: Wait<'_> = Box::pin(clock.until(end, pending()));
            assert_eq!(poll!(begun.as_mut()), Poll::Pending);
            *wait = Some(begun);
            (model.wait, model.overdue) = (Some(end), false);
        }
        Step::Poll => {
            if let Some(mut begun) = wait.take() {
                let polled = poll!(begun.as_mut());
                assert_eq!(polled.is_ready(), model.overdue);
                if polled.is_pending() {
                    *wait = Some(begun);
                } else {
                    (model.wait, model.overdue) = (None, false);
                }
            }
        }
    }
}

proptest! {
    /// Whatever happens in whatever order, the packed clock says what plain fields say, and never to look in the past.
    #[test]
    fn the_clock_does_as_plain_fields_do(
        keep_alive in 1u64..100_000,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        paused(async {
            let keep_alive = Duration::from_millis(keep_alive);
            let clock = Clock::new(keep_alive);
            let mut model = Model {
                phase: Phase::Head,
                since: now(),
                keep_alive,
                body_idle: None,
                wait: None,
                overdue: false,
            };
            let mut wait = None;
            for step in steps {
                let context = format!("{step:?}");
                apply(step, &clock, &mut model, &mut wait).await;
                let coarse = now() + COARSE.min(keep_alive);
                match (clock.check(), model.check()) {
                    (Err(phase), Err(expected)) => assert_eq!(phase, expected, "{context}"),
                    (Ok(next), Ok(end)) => {
                        let expected = end.map_or(coarse, |end| end.min(coarse));
                        assert!(next > now() && next <= expected && next + MILLI > expected, "{context}");
                    }
                    (told, expected) => panic!("{context}: {told:?} instead of {expected:?}"),
                }
            }
        });
    }
}
