use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Error, ErrorKind, Result,
    backoff::{Backoff, Jitter},
    random::Random,
};
use infra_resilience::{
    Breaker, Mode, Policy as _, Reason, Refused, State, at_most_once,
    breaker::{Change, Options, Outcome, Permit, Window},
    idempotent,
};
use infra_testkit::clock::ManualClock;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{MILLI, SECOND, fail, kind, reason};

fn options() -> Options {
    let open = Backoff::exponential(SECOND * 10).capped_at(SECOND * 60).jitter(Jitter::None);
    Options::default()
        .window(Window::Calls(NonZeroU32::new(8).unwrap()))
        .least(4)
        .probes(2)
        .open_for(open)
        .seed(1)
}

fn breaker(options: Options) -> (Breaker, ManualClock) {
    let clock = ManualClock::new();
    (Breaker::new(options, Arc::new(clock.clone())), clock)
}

fn opened() -> (Breaker, ManualClock) {
    let (breaker, clock) = breaker(options());
    (0..4).for_each(|_| breaker.admit("ask").unwrap().failure());
    assert_eq!(breaker.state(), State::Open);
    (breaker, clock)
}

fn wait(result: Result<Permit>) -> Duration {
    Refused::of(&result.unwrap_err()).and_then(Refused::retry_after).unwrap()
}

async fn ask(breaker: &Breaker, result: Result<()>) -> Result<()> {
    breaker.run("ask", at_most_once(|| async { result })).await
}

/// A service that fails its first three calls, a threshold of three in a row, two probes.
#[tokio::test]
async fn three_failures_in_a_row_open_it_and_two_probes_close_it() {
    let three = NonZeroU32::new(3).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let tell = move |change: &Change| told.lock().push((change.turn, change.from, change.to));
    let open = Backoff::fixed(SECOND).jitter(Jitter::None);
    let options = Options::default().consecutive(three).probes(2).open_for(open).listener(tell);
    let (breaker, clock) = breaker(options);
    let calls = AtomicU32::new(0);
    let service = idempotent(|| async {
        if calls.fetch_add(1, Ordering::SeqCst) < 3 { fail(ErrorKind::Unavailable) } else { Ok(()) }
    });
    for _ in 0..3 {
        assert_eq!(breaker.state(), State::Closed);
        assert!(breaker.run("ask", &service).await.is_err());
    }
    assert_eq!(breaker.state(), State::Open);
    let refused = breaker.run("ask", &service).await.unwrap_err();
    assert_eq!(refused.to_string(), "ask: unavailable: the circuit is open");
    assert_eq!(Refused::of(&refused).unwrap().retry_after(), Some(SECOND));
    assert_eq!(calls.load(Ordering::SeqCst), 3, "the refused call was not made");
    clock.advance(SECOND);
    breaker.run("ask", &service).await.unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.run("ask", &service).await.unwrap();
    assert_eq!(breaker.state(), State::Closed);
    let changes = [
        (1, State::Closed, State::Open),
        (2, State::Open, State::HalfOpen),
        (3, State::HalfOpen, State::Closed),
    ];
    assert_eq!(*seen.lock(), changes);
    let history = breaker.history();
    assert_eq!(history.iter().map(|change| change.turn).collect::<Vec<_>>(), [1, 2, 3]);
}

/// A hundred calls at once over a plan of 30 % failures: each is executed or refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_concurrent_calls_each_is_executed_or_refused() {
    for seed in 0..20 {
        let options = options().failures(0.6).window(Window::Calls(NonZeroU32::new(5).unwrap()));
        let (breaker, _clock) = breaker(options.least(5));
        let random = Arc::new(Random::seeded(seed));
        let executed = Arc::new(AtomicU32::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..100 {
            let (breaker, random) = (breaker.clone(), Arc::clone(&random));
            let executed = Arc::clone(&executed);
            tasks.spawn(async move {
                let call = at_most_once(|| async {
                    executed.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    if random.below(10) < 3 { fail(ErrorKind::Unavailable) } else { Ok(()) }
                });
                breaker.run("ask", call).await
            });
        }
        let results = tasks.join_all().await;
        let refused = results.into_iter().filter_map(reason).count() as u64;
        let executed = u64::from(executed.load(Ordering::SeqCst));
        assert_eq!(executed + refused, 100);
        let stats = breaker.stats();
        assert_eq!(stats.refused, refused);
        assert!(stats.counted <= executed && stats.failed <= executed, "{stats:?}");
    }
}

#[tokio::test]
async fn the_share_of_failures_is_judged_from_enough_calls_on() {
    let (breaker, _clock) = breaker(options());
    for _ in 0..3 {
        assert!(ask(&breaker, fail(ErrorKind::Unavailable)).await.is_err());
    }
    assert_eq!(breaker.state(), State::Closed, "three of at least four");
    ask(&breaker, Ok(())).await.unwrap();
    assert_eq!(breaker.state(), State::Open, "three of four is more than half");
    let tally = breaker.tally();
    assert_eq!((tally.calls, tally.failures), (4, 3));
}

#[test]
fn the_open_time_grows_with_each_failed_probe_up_to_its_cap_and_starts_over() {
    let (breaker, clock) = opened();
    for seconds in [10, 20, 40, 60, 60] {
        let open = SECOND * seconds;
        assert_eq!(wait(breaker.admit("ask")), open);
        clock.advance(open.saturating_sub(MILLI));
        assert_eq!(wait(breaker.admit("ask")), MILLI);
        clock.advance(MILLI);
        breaker.admit("ask").unwrap().failure();
        assert_eq!(breaker.state(), State::Open);
    }
    clock.advance(SECOND * 60);
    (0..2).for_each(|_| breaker.admit("ask").unwrap().success());
    assert_eq!(breaker.state(), State::Closed);
    (0..4).for_each(|_| breaker.admit("ask").unwrap().failure());
    assert_eq!(wait(breaker.admit("ask")), SECOND * 10, "it starts over once it was closed");
}

#[test]
fn half_open_it_admits_its_probes_and_no_more() {
    let (breaker, clock) = opened();
    clock.advance(SECOND * 10);
    let (one, two) = (breaker.admit("ask").unwrap(), breaker.admit("ask").unwrap());
    assert_eq!(reason(breaker.admit("ask")), Some(Reason::BreakerProbing));
    one.success();
    assert_eq!(reason(breaker.admit("ask")), Some(Reason::BreakerProbing));
    two.success();
    assert_eq!((breaker.state(), breaker.tally().calls), (State::Closed, 0));
}

#[test]
fn a_dropped_probe_gives_its_place_back_and_one_that_hangs_opens_it_again() {
    let (breaker, clock) = opened();
    clock.advance(SECOND * 10);
    for _ in 0..20 {
        drop([breaker.admit("ask").unwrap(), breaker.admit("ask").unwrap()]);
    }
    assert_eq!(breaker.state(), State::HalfOpen);
    let hung = [breaker.admit("ask").unwrap(), breaker.admit("ask").unwrap()];
    clock.advance(SECOND * 59);
    assert_eq!(reason(breaker.admit("ask")), Some(Reason::BreakerProbing));
    clock.advance(SECOND);
    assert_eq!(wait(breaker.admit("ask")), SECOND * 20);
    let [late, _] = hung;
    late.success();
    assert_eq!(breaker.state(), State::Open, "what an earlier life let through counts no more");
}

#[test]
fn slow_calls_and_slow_probes_count_though_they_succeed() {
    let (breaker, clock) = breaker(options().slow(SECOND, 0.5));
    for is_slow in [true, false, true, false] {
        let permit = breaker.admit("ask").unwrap();
        clock.advance(if is_slow { SECOND } else { MILLI });
        permit.success();
    }
    assert_eq!((breaker.state(), breaker.tally().slow), (State::Open, 2));
    clock.advance(SECOND * 10);
    let probe = breaker.admit("ask").unwrap();
    clock.advance(SECOND);
    probe.success();
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_window_of_time_forgets_what_is_older() {
    let (breaker, clock) = breaker(options().window(Window::Time { length: SECOND * 10 }));
    (0..3).for_each(|_| breaker.admit("ask").unwrap().failure());
    clock.advance(SECOND * 10);
    (0..3).for_each(|_| breaker.admit("ask").unwrap().failure());
    assert_eq!((breaker.state(), breaker.tally().calls), (State::Closed, 3));
    breaker.admit("ask").unwrap().failure();
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn refusals_are_answers_and_open_nothing() {
    let (breaker, _clock) = breaker(options());
    let retry_after = SECOND;
    for refusal in [
        ErrorKind::NotFound,
        ErrorKind::Invalid,
        ErrorKind::Denied,
        ErrorKind::Throttled { retry_after },
        ErrorKind::Unsupported,
    ] {
        for _ in 0..10 {
            assert!(ask(&breaker, fail(refusal.clone())).await.is_err());
        }
    }
    assert_eq!(breaker.state(), State::Closed);
    let by_operation = |error: &Error| match error.kind() {
        ErrorKind::Denied => Outcome::Failure,
        ErrorKind::Unavailable => Outcome::Ignored,
        _ => Outcome::of(error),
    };
    let (breaker, _clock) = crate::breaker::breaker(options().classify(by_operation));
    for _ in 0..4 {
        assert!(ask(&breaker, fail(ErrorKind::Unavailable)).await.is_err());
    }
    assert_eq!((breaker.tally().calls, breaker.stats().unknown), (0, 4));
    for _ in 0..4 {
        assert!(ask(&breaker, fail(ErrorKind::Denied)).await.is_err());
    }
    assert_eq!(breaker.state(), State::Open, "a function of yours classifies");
}

#[tokio::test]
async fn an_operator_decides_until_the_decision_is_given_back() {
    let (breaker, clock) = breaker(options());
    breaker.force(Mode::ForcedOpen);
    clock.advance(SECOND * 3_600);
    assert_eq!(breaker.state(), State::Open, "it is not half-open by itself");
    assert_eq!(reason(ask(&breaker, Ok(())).await), Some(Reason::BreakerForced));
    breaker.force(Mode::ForcedClosed);
    for _ in 0..10 {
        assert_eq!(kind(ask(&breaker, fail(ErrorKind::Unavailable)).await), ErrorKind::Unavailable);
    }
    assert_eq!((breaker.state(), breaker.tally().failures), (State::Closed, 8));
    breaker.force(Mode::Automatic);
    let failed = ask(&breaker, fail(ErrorKind::Unavailable)).await;
    assert_eq!(
        (kind(failed), breaker.tally().calls),
        (ErrorKind::Unavailable, 1),
        "it begins anew"
    );
    assert_eq!(breaker.state(), State::Closed);
    breaker.force(Mode::Disabled);
    let counted = breaker.stats().counted;
    assert!(ask(&breaker, fail(ErrorKind::Unavailable)).await.is_err());
    assert_eq!((breaker.stats().counted, breaker.mode()), (counted, Mode::Disabled));
    breaker.reset();
    assert_eq!((breaker.tally().calls, breaker.mode()), (0, Mode::Automatic));
    (0..4).for_each(|_| breaker.admit("ask").unwrap().failure());
    assert_eq!(breaker.state(), State::Open);
    breaker.reset();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn one_that_only_measures_tells_its_states_and_refuses_nothing() {
    let (breaker, clock) = breaker(options());
    breaker.force(Mode::MetricsOnly);
    for _ in 0..8 {
        let result = ask(&breaker, fail(ErrorKind::Unavailable)).await;
        assert_eq!(reason(result), None, "the service's own error");
    }
    assert_eq!(breaker.state(), State::Open);
    clock.advance(SECOND * 10);
    for _ in 0..2 {
        ask(&breaker, Ok(())).await.unwrap();
    }
    assert_eq!(breaker.state(), State::Closed);
    let told: Vec<_> = breaker.history().into_iter().map(|change| change.to).collect();
    assert_eq!(told, [State::Open, State::HalfOpen, State::Closed]);
}

#[test]
fn a_gauge_is_told_the_state_at_first_and_after_each_change() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let (breaker, clock) = breaker(options().gauge(move |state| seen.lock().push(state)));
    (0..4).for_each(|_| breaker.admit("ask").unwrap().failure());
    clock.advance(SECOND * 10);
    (0..2).for_each(|_| breaker.admit("ask").unwrap().success());
    breaker.force(Mode::ForcedOpen);
    breaker.force(Mode::Disabled);
    breaker.reset();
    let (closed, open) = (State::Closed, State::Open);
    assert_eq!(*told.lock(), [closed, open, State::HalfOpen, closed, open, closed]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gauge_has_the_newest_state_also_when_many_change_it() {
    let told = Arc::new(Mutex::new(State::HalfOpen));
    let seen = Arc::clone(&told);
    let (breaker, _clock) = breaker(options().gauge(move |state| *seen.lock() = state));
    for _ in 0..50 {
        let mut tasks = JoinSet::new();
        for task in 0..8 {
            let breaker = breaker.clone();
            tasks.spawn(async move {
                let modes = [Mode::ForcedOpen, Mode::ForcedClosed];
                (0..20).for_each(|step| breaker.force(modes[(task + step) % 2]));
            });
        }
        tasks.join_all().await;
        assert_eq!(*told.lock(), breaker.state());
    }
}

#[tokio::test]
async fn it_debugs_and_forgets_old_changes() {
    let (breaker, clock) = opened();
    for _ in 0..20 {
        clock.advance(SECOND * 60);
        breaker.admit("ask").unwrap().failure();
    }
    assert_eq!(breaker.history().len(), 16);
    assert!(format!("{breaker:?}").starts_with("Breaker { state: Open, mode: Automatic"));
    let (breaker, _clock) = crate::breaker::breaker(options());
    assert!(format!("{:?}", breaker.admit("ask").unwrap()).starts_with("Permit"));
    assert!(format!("{:?}", options()).starts_with("Options { window: Calls(8), least: 4"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_tasks_only_the_probes_get_through() {
    let (breaker, clock) = opened();
    for _ in 0..50 {
        clock.advance(SECOND * 10);
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            let breaker = breaker.clone();
            tasks.spawn(async move { breaker.admit("ask").ok() });
        }
        let permits: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(permits.len(), 2, "as many as there are probes");
        drop(permits);
        assert_eq!(breaker.state(), State::HalfOpen);
    }
}

/// What a breaker should do, written down as plainly as possible.
struct Model {
    calls: Vec<bool>,
    state: State,
    until: u64,
    openings: u32,
    running: u32,
    succeeded: u32,
    life: u64,
}

impl Model {
    fn admit(&mut self, now: u64) -> Option<u64> {
        if self.state == State::Open && self.until <= now {
            (self.state, self.running, self.succeeded) = (State::HalfOpen, 0, 0);
            self.life += 1;
        }
        match self.state {
            State::Closed => Some(self.life),
            State::HalfOpen if self.running + self.succeeded < 2 => {
                self.running += 1;
                Some(self.life)
            }
            State::HalfOpen | State::Open => None,
        }
    }

    fn settle(&mut self, life: u64, failed: Option<bool>, now: u64) {
        if life != self.life {
            return;
        }
        match (self.state, failed) {
            (State::Closed, Some(failed)) => {
                self.calls.push(failed);
                let last = &self.calls[self.calls.len().saturating_sub(8)..];
                let failures = last.iter().filter(|failed| **failed).count();
                if 4 <= last.len() && last.len() <= failures * 2 && 0 < failures {
                    self.open(now);
                }
            }
            (State::HalfOpen, Some(true)) => self.open(now),
            (State::HalfOpen, Some(false)) => {
                (self.running, self.succeeded) = (self.running - 1, self.succeeded + 1);
                if self.succeeded == 2 {
                    (self.state, self.openings) = (State::Closed, 0);
                    self.calls.clear();
                    self.life += 1;
                }
            }
            (State::HalfOpen, None) => self.running -= 1,
            (State::Open, _) | (State::Closed, None) => {}
        }
    }

    fn open(&mut self, now: u64) {
        self.openings += 1;
        self.state = State::Open;
        self.until = now + (10_u64 << (self.openings - 1).min(10)).min(60);
        self.life += 1;
    }
}

proptest::proptest! {
    /// Any program of calls, ends, drops and time: the breaker does what the model does.
    #[test]
    fn it_does_what_the_model_does(
        steps in proptest::collection::vec((0_u8..5, 0_usize..8), 0..200),
    ) {
        let (breaker, clock) = breaker(options().probe_patience(SECOND * 1_000_000));
        let mut model = Model {
            calls: Vec::new(), state: State::Closed, until: 0,
            openings: 0, running: 0, succeeded: 0, life: 0,
        };
        let (mut permits, mut now) = (Vec::<(Permit, u64)>::new(), 0);
        for (step, pick) in steps {
            match step {
                0 | 1 => {
                    let (real, modelled) = (breaker.admit("ask"), model.admit(now));
                    proptest::prop_assert_eq!(real.is_ok(), modelled.is_some());
                    permits.extend(real.ok().zip(modelled));
                }
                2 => {
                    now += pick as u64 * 4;
                    clock.advance(SECOND * u32::try_from(pick).unwrap() * 4);
                }
                _ if permits.is_empty() => {}
                _ => {
                    let (permit, life) = permits.swap_remove(pick % permits.len());
                    let end = [Some(true), Some(true), Some(false), None][pick % 4];
                    model.settle(life, end, now);
                    match end {
                        Some(true) => permit.failure(),
                        Some(false) => permit.success(),
                        None => drop(permit),
                    }
                }
            }
            let state = match model.state {
                State::Open if model.until <= now => State::HalfOpen,
                state @ (State::Closed | State::Open | State::HalfOpen) => state,
            };
            proptest::prop_assert_eq!(breaker.state(), state);
        }
    }
}
