//! Hedge, timeout and pool against models of them, over random sequences of calls in paused time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use infra_core::{
    ErrorKind, Result,
    budget::{CallBudget, Deadline},
    context::Context,
};
use infra_resilience::{Hedge, Policy as _, Timeout, at_most_once, idempotent};
use proptest::prelude::*;

use crate::{MILLI, clock, fail};

/// Cases in CI; `PROPTEST_CASES` sets another number.
pub(crate) fn cases() -> ProptestConfig {
    ProptestConfig { cases: 64.max(ProptestConfig::default().cases / 4), ..Default::default() }
}

pub(crate) fn paused<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(work)
}

/// An attempt: how many milliseconds it takes, and whether it succeeds.
type End = (u64, bool);

fn end() -> impl Strategy<Value = End> {
    (0..60_u64, any::<bool>())
}

/// What a hedge does that waits for `delay`: the answer's number (`None` for a failure), after how
/// long, and how many attempts were begun.
fn hedged(delay: u64, may_begin: bool, first: End, second: End) -> (Option<u32>, u64, u32) {
    let answer = |end: End, number| end.1.then_some(number);
    if first.0 <= delay || !may_begin {
        return (answer(first, 1), first.0, 1);
    }
    let late = (delay + second.0, second.1);
    let (early, early_number, last, last_number) =
        if first.0 <= late.0 { (first, 1, late, 2) } else { (late, 2, first, 1) };
    match (early.1, last.1) {
        (true, _) => (Some(early_number), early.0, 2),
        (false, _) => (answer(last, last_number), last.0, 2),
    }
}

/// What nested timeouts make of a call that takes so long: how it ends, and after how long.
fn timed(
    patiences: &[u64],
    deadline: Option<u64>,
    takes: u64,
    repeats: bool,
) -> (Option<ErrorKind>, u64) {
    let left = patiences.iter().copied().chain(deadline).min().unwrap_or(u64::MAX);
    match (left, takes) {
        (0, _) => (Some(ErrorKind::Timeout), 0),
        (left, takes) if takes <= left => (None, takes),
        (left, _) if repeats => (Some(ErrorKind::Timeout), left),
        (left, _) => (Some(ErrorKind::Indeterminate), left),
    }
}

fn nested(timeouts: &[Timeout], takes: u64, repeats: bool) -> Boxed<'_> {
    Box::pin(async move {
        match timeouts {
            [] => {
                tokio::time::sleep(Duration::from_millis(takes)).await;
                Ok(())
            }
            [outer, inner @ ..] if repeats => {
                outer.run("work", idempotent(|| nested(inner, takes, repeats))).await
            }
            [outer, inner @ ..] => {
                outer.run("work", at_most_once(|| nested(inner, takes, repeats))).await
            }
        }
    })
}

type Boxed<'a> = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_hedge_answers_as_its_model_and_begins_no_more_than_the_budget_has(
        calls in proptest::collection::vec((end(), end()), 1..12),
        budget in 0..6_u32,
        delay in 1..40_u64,
    ) {
        paused(async {
            let clock = clock();
            let wait = MILLI * u32::try_from(delay).unwrap();
            let hedge = Hedge::new(0.9, wait..=wait, Arc::clone(&clock));
            let context = Context::default().budget(CallBudget::new(budget));
            let mut left = budget;
            for (first, second) in calls {
                let wanted = hedged(delay, 0 < left, first, second);
                left -= u32::from(wanted.2 == 2);
                let (begun, running) = (AtomicU32::new(0), Running::default());
                let call = idempotent(|| async {
                    let number = begun.fetch_add(1, SeqCst) + 1;
                    let _running = running.enter();
                    let (takes, is_good) = if number == 1 { first } else { second };
                    tokio::time::sleep(Duration::from_millis(takes)).await;
                    if is_good { Ok(number) } else { fail(ErrorKind::Unavailable) }
                });
                let started = clock.now();
                let answer = context.clone().scope(hedge.run("ask", call)).await.ok();
                let took = u64::try_from(clock.now().since(started).as_millis()).unwrap();
                prop_assert_eq!((answer, took, begun.load(SeqCst)), wanted);
                prop_assert_eq!(running.count(), 0, "the loser is dropped");
            }
            Ok(())
        })?;
    }

    #[test]
    fn nested_timeouts_end_a_call_as_their_model(
        calls in proptest::collection::vec(
            (proptest::collection::vec(0..50_u64, 1..4), proptest::option::of(0..50_u64), 0..50_u64),
            1..12,
        ),
        repeats: bool,
    ) {
        paused(async {
            let clock = clock();
            for (patiences, deadline, takes) in calls {
                let timeouts: Vec<_> = patiences
                    .iter()
                    .map(|millis| Timeout::new(Duration::from_millis(*millis), Arc::clone(&clock)))
                    .collect();
                let started = clock.now();
                let after = |millis| Deadline::after(started, Duration::from_millis(millis));
                let context = match deadline.map(after) {
                    Some(deadline) => Context::default().deadline(deadline),
                    None => Context::default(),
                };
                let ended = context.scope(nested(&timeouts, takes, repeats)).await;
                let kind = ended.err().map(|error| error.kind().clone());
                let took = u64::try_from(clock.now().since(started).as_millis()).unwrap();
                prop_assert_eq!((kind, took), timed(&patiences, deadline, takes, repeats));
            }
            Ok(())
        })?;
    }
}

/// Counts what runs: dropped or ended, it runs no more.
#[derive(Debug, Default)]
pub(crate) struct Running(AtomicU32);

/// Something that runs.
#[derive(Debug)]
pub(crate) struct Entered<'a>(&'a AtomicU32);

impl Running {
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.0.fetch_add(1, SeqCst);
        Entered(&self.0)
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.load(SeqCst)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(feature = "pool")]
mod pooled {
    use std::{collections::HashSet, sync::atomic::AtomicBool};

    use infra_core::Error;
    use infra_resilience::{
        Reason,
        pool::{Connect, Options, Pool, Taken},
    };
    use infra_testkit::clock::ManualClock;
    use parking_lot::Mutex;

    use super::*;
    use crate::{SECOND, reason};

    const MIN: usize = 2;
    const MAX: usize = 4;
    const OVERFLOW: usize = 2;

    /// A connection knows when it was opened, and tells when it is closed.
    #[derive(Debug)]
    struct Line {
        number: u32,
        born: Duration,
        open: Arc<Mutex<HashSet<u32>>>,
    }

    impl Drop for Line {
        fn drop(&mut self) {
            assert!(self.open.lock().remove(&self.number), "closed twice");
        }
    }

    #[derive(Debug, Default)]
    struct Lines {
        opened: AtomicU32,
        open: Arc<Mutex<HashSet<u32>>>,
        is_down: Arc<AtomicBool>,
        is_stale: Arc<AtomicBool>,
        clock: ManualClock,
    }

    impl Connect for Lines {
        type Connection = Line;

        async fn connect(&self) -> Result<Line> {
            tokio::task::yield_now().await;
            if self.is_down.load(SeqCst) {
                return Err(Error::new(ErrorKind::Unavailable, "open line"));
            }
            let number = self.opened.fetch_add(1, SeqCst) + 1;
            self.open.lock().insert(number);
            let born = infra_core::Clock::now(&self.clock).since_start();
            Ok(Line { number, born, open: Arc::clone(&self.open) })
        }

        async fn check(&self, _: &mut Line) -> Result<()> {
            tokio::task::yield_now().await;
            if self.is_stale.load(SeqCst) { fail(ErrorKind::Unavailable) } else { Ok(()) }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Get,
        GiveBack(prop::sample::Index),
        Discard(prop::sample::Index),
        Pass(u64),
        Reap,
        Down(bool),
        Stale(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Get),
            4 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
            1 => any::<prop::sample::Index>().prop_map(Step::Discard),
            3 => (1..40_u64).prop_map(Step::Pass),
            2 => Just(Step::Reap),
            1 => any::<bool>().prop_map(Step::Down),
            1 => any::<bool>().prop_map(Step::Stale),
        ]
    }

    /// Takes a connection and holds the pool to what the model says of it.
    async fn get(pool: &Pool<Lines>, lines: &Lines, taken: &mut Vec<Taken<Lines>>) {
        let got = pool.get().await;
        if MAX + OVERFLOW <= taken.len() {
            assert_eq!(reason(got), Some(Reason::PoolExhausted));
            return;
        }
        match got {
            Ok(line) => {
                let age =
                    infra_core::Clock::now(&lines.clock).since_start().saturating_sub(line.born);
                assert!(age < SECOND * 30, "a line of {age:?} is used no more");
                assert!(taken.iter().all(|held| held.number != line.number), "held twice");
                assert!(lines.open.lock().contains(&line.number));
                taken.push(line);
            }
            Err(error) => {
                assert!(lines.is_down.load(SeqCst), "{error}");
                assert_eq!(*error.kind(), ErrorKind::Unavailable);
            }
        }
    }

    async fn run(steps: Vec<Step>) {
        let clock = ManualClock::new();
        let lines = Lines { clock: clock.clone(), ..Lines::default() };
        let handle = Lines {
            opened: AtomicU32::new(0),
            open: Arc::clone(&lines.open),
            is_down: Arc::clone(&lines.is_down),
            is_stale: Arc::clone(&lines.is_stale),
            clock: clock.clone(),
        };
        let options = Options::new(MAX)
            .min(MIN)
            .overflow(OVERFLOW)
            .queue(0, SECOND)
            .idle(SECOND * 20)
            .lifetime(SECOND * 30)
            .check_after(SECOND * 10);
        let pool = Pool::new(lines, options, Arc::new(clock.clone())).unwrap();
        let mut taken = Vec::new();
        for step in steps {
            match step {
                Step::Get => get(&pool, &handle, &mut taken).await,
                Step::GiveBack(which) if !taken.is_empty() => {
                    drop(taken.swap_remove(which.index(taken.len())));
                }
                Step::Discard(which) if !taken.is_empty() => {
                    let line = taken.swap_remove(which.index(taken.len()));
                    let number = line.number;
                    line.discard();
                    assert!(!handle.open.lock().contains(&number), "it is closed at once");
                }
                Step::GiveBack(_) | Step::Discard(_) => {}
                Step::Pass(seconds) => clock.advance(Duration::from_secs(seconds)),
                Step::Reap => {
                    let reaped = pool.reap().await;
                    let is_down = handle.is_down.load(SeqCst);
                    assert!(reaped.is_ok() || is_down);
                    assert!(is_down || MIN <= pool.stats().size, "the minimum is open");
                }
                Step::Down(is_down) => handle.is_down.store(is_down, SeqCst),
                Step::Stale(is_stale) => handle.is_stale.store(is_stale, SeqCst),
            }
            let stats = pool.stats();
            assert_eq!((stats.taken, stats.waiting), (taken.len(), 0), "{stats:?}");
            assert!(stats.size <= MAX.max(taken.len()), "{stats:?}");
            let open = handle.open.lock().len();
            assert_eq!((stats.opened - stats.closed, stats.size), (open as u64, open), "{stats:?}");
        }
        drop(taken);
        assert!(pool.stats().size <= MAX);
        drop(pool);
        assert!(handle.open.lock().is_empty(), "a pool that is gone holds nothing open");
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn a_pool_keeps_its_bounds_its_ages_and_its_counts(
            steps in proptest::collection::vec(step(), 1..60),
        ) {
            paused(run(steps));
        }
    }
}
