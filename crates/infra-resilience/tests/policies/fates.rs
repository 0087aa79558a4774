//! What comes back of several attempts never says less than one of them may have done.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Error, ErrorKind, Result, SystemClock,
    backoff::{Backoff, Jitter},
};
use infra_resilience::{Breaker, Hedge, Mode, Pipeline, Policy as _, Refused, Retry, idempotent};
use parking_lot::Mutex;
use proptest::prelude::*;

use crate::{
    MILLI, clock,
    model::{cases, paused},
};

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    /// It is not begun.
    Refused,
    /// It is begun, and fails for the moment.
    Failed,
    Late,
    /// The engine is shut, which is no answer.
    Shut,
    /// An answer.
    Denied,
    /// It may have happened.
    Unknown,
}

const FAILURES: [End; 6] =
    [End::Refused, End::Failed, End::Late, End::Shut, End::Denied, End::Unknown];

impl End {
    fn result(self) -> Result<()> {
        let failed = |kind| Err(Error::new(kind, "write"));
        match self {
            Self::Done => Ok(()),
            Self::Refused => {
                let breaker = Breaker::new(infra_resilience::breaker::Options::default(), clock());
                breaker.force(Mode::ForcedOpen);
                breaker.admit("write").map(drop)
            }
            Self::Failed => failed(ErrorKind::Unavailable),
            Self::Late => failed(ErrorKind::Timeout),
            Self::Shut => failed(ErrorKind::Poisoned),
            Self::Denied => failed(ErrorKind::Denied),
            Self::Unknown => Err(Error::new(ErrorKind::Indeterminate, "write").idempotent()),
        }
    }

    /// Returns which end an error tells of.
    fn of(error: &Error) -> Self {
        match error.kind() {
            _ if Refused::of(error).is_some() => Self::Refused,
            ErrorKind::Unavailable => Self::Failed,
            ErrorKind::Timeout => Self::Late,
            ErrorKind::Poisoned => Self::Shut,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Indeterminate => Self::Unknown,
            kind => panic!("{kind:?}"),
        }
    }
}

/// Attempts that end as planned, each after its time; beyond the plan all is done at once.
#[derive(Debug, Default)]
struct Attempts {
    plan: Vec<(u64, End)>,
    begun: Mutex<usize>,
    /// How those ended that came to their end, in that order.
    ended: Mutex<Vec<End>>,
}

impl Attempts {
    fn of(plan: impl Into<Vec<(u64, End)>>) -> Self {
        Self { plan: plan.into(), ..Self::default() }
    }

    async fn next(&self) -> Result<()> {
        let number = {
            let mut begun = self.begun.lock();
            *begun += 1;
            *begun - 1
        };
        let (millis, end) = self.plan.get(number).copied().unwrap_or((0, End::Done));
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.ended.lock().push(end);
        end.result()
    }
}

fn hedge() -> Hedge {
    Hedge::new(0.9, MILLI * 10..=MILLI * 10, SystemClock::shared())
}

fn retry() -> Retry {
    Retry::new(3, Backoff::fixed(MILLI).jitter(Jitter::None), SystemClock::shared())
}

/// Every pair of failures, whichever attempt fails first.
#[test]
fn of_two_attempts_that_fail_what_may_have_happened_is_told_in_every_order() {
    for first in FAILURES {
        for second in FAILURES {
            // The second begins after ten milliseconds and fails before, with, or after the first.
            for first_takes in [40, 30, 20] {
                let attempts = Attempts::of([(first_takes, first), (20, second)]);
                let told = paused(hedge().run("write", idempotent(|| attempts.next())));
                let ended = attempts.ended.lock().clone();
                assert_eq!(ended.len(), 2, "{first:?} {second:?}");
                let begun: Vec<_> = ended.iter().filter(|end| **end != End::Refused).collect();
                let wanted = match begun.as_slice() {
                    [] => End::Refused,
                    begun if begun.contains(&&End::Unknown) => End::Unknown,
                    [.., last] => **last,
                };
                assert_eq!(End::of(&told.unwrap_err()), wanted, "{ended:?}");
            }
        }
    }
}

#[test]
fn that_a_later_attempt_was_refused_hides_no_failure_of_an_earlier_one() {
    for earlier in [End::Failed, End::Late, End::Unknown] {
        let attempts = Attempts::of([(0, earlier), (0, End::Refused), (0, End::Refused)]);
        let told = paused(retry().run("write", idempotent(|| attempts.next()))).unwrap_err();
        assert_eq!((End::of(&told), attempts.ended.lock().len()), (earlier, 3));
    }
    let attempts = Attempts::of(vec![(0, End::Refused); 3]);
    let told = paused(retry().run("write", idempotent(|| attempts.next()))).unwrap_err();
    assert_eq!(End::of(&told), End::Refused, "none was begun");
}

fn plan() -> impl Strategy<Value = Vec<(u64, End)>> {
    let end = prop_oneof![
        1 => Just(End::Done),
        3 => Just(End::Refused),
        3 => Just(End::Failed),
        1 => Just(End::Late),
        1 => Just(End::Shut),
        1 => Just(End::Denied),
        3 => Just(End::Unknown),
    ];
    proptest::collection::vec((0..40_u64, end), 0..8)
}

/// Holds what is told of a call against how its attempts ended.
fn check(told: Result<()>, ended: &[End]) -> std::result::Result<(), TestCaseError> {
    let Err(error) = told else { return Ok(()) };
    let told = End::of(&error);
    let was_begun = ended.iter().any(|end| *end != End::Refused);
    prop_assert_eq!(told == End::Refused, !was_begun, "{:?} of {:?}", told, ended);
    if ended.contains(&End::Unknown) && told != End::Unknown {
        let last = |wanted| ended.iter().rposition(|end| *end == wanted);
        prop_assert_eq!(told, End::Denied, "only an answer settles {:?}", ended);
        prop_assert!(last(End::Unknown) < last(End::Denied), "and only a later one: {:?}", ended);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    /// Hedges within retries, retries within a hedge, and each alone: whatever the attempts do and whenever,
    /// "not begun" is said only if none was, and "failed" only if none may have happened.
    #[test]
    fn nothing_that_may_have_happened_is_told_as_if_it_had_not(plan in plan()) {
        let run = |nested: u8| {
            let attempts = Arc::new(Attempts::of(plan.clone()));
            let called = Arc::clone(&attempts);
            let told = paused(async move {
                let call = idempotent(|| called.next());
                match nested {
                    0 => hedge().run("write", call).await,
                    1 => retry().run("write", call).await,
                    2 => Pipeline::new().then(retry()).then(hedge()).run("write", call).await,
                    _ => Pipeline::new().then(hedge()).then(retry()).run("write", call).await,
                }
            });
            let ended = attempts.ended.lock().clone();
            (told, ended)
        };
        for nested in 0..4 {
            let (told, ended) = run(nested);
            if nested < 3 {
                check(told, &ended)?;
            } else if let Err(error) = told {
                // Two rows of attempts at the same time: the answer of one settles nothing of the other.
                let was_begun = ended.iter().any(|end| *end != End::Refused);
                prop_assert_eq!(End::of(&error) == End::Refused, !was_begun, "{:?}", ended);
            }
        }
    }
}
