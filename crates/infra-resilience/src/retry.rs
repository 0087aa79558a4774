//! Another attempt after a failure that may pass.

use std::{fmt, sync::Arc, time::Duration};

use infra_core::{
    Clock, Error, Result,
    backoff::{Backoff, Growth, Jitter},
    context::Context,
    random::Random,
};

use crate::{
    call::{Call, Idempotent},
    fate,
    latency::Latency,
    pipeline::Policy,
    purse::{RetryBudget, afford},
    refused::Refused,
    telemetry::{GIVEN_UP, GaveUp, RETRIES},
};

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Try again, as the schedule says.
    Again,
    /// Try again after at least this time.
    After(Duration),
    /// Give up: it would fail again, or do harm.
    GiveUp,
}

impl Advice {
    /// Advises by the kind: transient errors are tried again, after the time that the server or the
    /// breaker named, if it named one.
    pub fn of(error: &Error) -> Self {
        if !error.is_transient() {
            return Self::GiveUp;
        }
        let hint = error.retry_after().or_else(|| Refused::of(error)?.retry_after());
        hint.map_or(Self::Again, Self::After)
    }
}

/// Tries an idempotent call again after transient failures, with pauses that grow and scatter.
///
/// No pause is begun that could not end in a useful attempt: it must end before the deadline of the
/// current context, with as much time left as an attempt takes. Each extra attempt is taken
/// from that context's [`CallBudget`](infra_core::budget::CallBudget), if it has one, and from the
/// [`RetryBudget`] that all callers share, if one is set. The error that comes back is the last real
/// one, itself: that a later attempt was [`Refused`], and so not begun, does not hide it. Where an attempt
/// was of unknown fate ([`Indeterminate`](infra_core::ErrorKind::Indeterminate)), later failures that are no
/// answer do not hide that.
///
/// ```
/// use infra_core::{Error, ErrorKind, SystemClock};
/// use infra_resilience::{Policy as _, Retry, idempotent};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let retry = Retry::standard(SystemClock::shared());
/// let answer = retry.run("ask", idempotent(|| async { Ok(7) })).await?;
/// assert_eq!(answer, 7);
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
///
/// A call that must not be made twice does not compile:
///
/// ```compile_fail,E0271
/// use infra_core::SystemClock;
/// use infra_resilience::{Policy as _, Retry, at_most_once};
///
/// # async fn charge() {
/// let retry = Retry::standard(SystemClock::shared());
/// let _ = retry.run("charge", at_most_once(|| async { Ok(()) })).await;
/// # }
/// ```
#[derive(Clone)]
pub struct Retry {
    attempts: u32,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
    advise: Arc<dyn Fn(&Error) -> Advice + Send + Sync>,
    budget: Option<RetryBudget>,
    useful: Useful,
    longest_hint: Duration,
}

/// How much time an attempt needs to be worth beginning.
#[derive(Debug, Clone)]
enum Useful {
    AtLeast(Duration),
    Median(Latency),
}

impl Retry {
    /// Creates a retry of at most `attempts` attempts in all, the first one included.
    pub fn new(attempts: u32, backoff: Backoff, clock: Arc<dyn Clock>) -> Self {
        Self {
            attempts,
            backoff,
            clock,
            random: Arc::new(Random::from_system()),
            advise: Arc::new(Advice::of),
            budget: None,
            useful: Useful::AtLeast(Duration::ZERO),
            longest_hint: Duration::from_mins(1),
        }
    }

    /// Three attempts, from 1 s, doubled up to 10 s, 10 % more or less.
    pub fn standard(clock: Arc<dyn Clock>) -> Self {
        Self::new(3, preset(Growth::Exponential, 1_000, 10), clock)
    }

    /// Ten attempts, from 100 ms, half as much again up to 30 s, 10 % more or less.
    pub fn aggressive(clock: Arc<dyn Clock>) -> Self {
        Self::new(10, preset(Growth::Percent(150), 100, 30), clock)
    }

    /// Three attempts, from 5 s, tripled up to 60 s, 10 % more or less.
    pub fn conservative(clock: Arc<dyn Clock>) -> Self {
        Self::new(3, preset(Growth::Percent(300), 5_000, 60), clock)
    }

    /// Five attempts, 2 s, 4 s, 6 s, 8 s apart, to the millisecond.
    pub fn linear(clock: Arc<dyn Clock>) -> Self {
        Self::new(5, preset(Growth::Linear, 2_000, 60).jitter(Jitter::None), clock)
    }

    /// Sets where the scatter of the pauses comes from; the operating system by default.
    #[must_use]
    pub fn random(mut self, random: Arc<Random>) -> Self {
        self.random = random;
        self
    }

    /// Sets what to do after an error; [`Advice::of`] by default.
    #[must_use]
    pub fn advise(mut self, by: impl Fn(&Error) -> Advice + Send + Sync + 'static) -> Self {
        self.advise = Arc::new(by);
        self
    }

    /// Takes extra attempts from a budget that all callers share, and pays each call in; none by
    /// default.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Sets how much time must be left for an attempt to be worth it; none by default.
    #[must_use]
    pub fn useful(mut self, least: Duration) -> Self {
        self.useful = Useful::AtLeast(least);
        self
    }

    /// Sets the longest time that a server, or advice of yours, may ask to wait, a minute by default; a call that
    /// would have to wait longer fails at once.
    #[must_use]
    pub const fn longest_hint(mut self, longest: Duration) -> Self {
        self.longest_hint = longest;
        self
    }

    /// Begins no attempt with less time left than half of the calls needed of late.
    ///
    /// A [`Hedge`](crate::Hedge) records these times, or you do.
    #[must_use]
    pub fn useful_by(mut self, latency: Latency) -> Self {
        self.useful = Useful::Median(latency);
        self
    }

    /// Decides how long to wait before the next attempt, or why there is none.
    fn pause(
        &self,
        attempt: u32,
        previous: Duration,
        error: &Error,
    ) -> std::result::Result<Duration, GaveUp> {
        let least = match (self.advise)(error) {
            Advice::GiveUp => return Err(GaveUp::Final),
            Advice::Again => Duration::ZERO,
            Advice::After(least) if self.longest_hint < least => return Err(GaveUp::Hint),
            Advice::After(least) => least,
        };
        if self.attempts <= attempt {
            return Err(GaveUp::Attempts);
        }
        let pause = self.backoff.pause(attempt, previous, &self.random).max(least);
        let context = Context::current();
        if let Some(deadline) = context.deadline_of() {
            let left = deadline.left(self.clock.now());
            if left <= pause.saturating_add(self.attempt_takes()) {
                return Err(GaveUp::Deadline);
            }
        }
        if !afford(self.budget.as_ref()) {
            return Err(GaveUp::Budget);
        }
        Ok(pause)
    }

    fn attempt_takes(&self) -> Duration {
        match &self.useful {
            Useful::AtLeast(least) => *least,
            Useful::Median(latency) => latency.quantile(0.5).unwrap_or_default(),
        }
    }
}

const fn preset(growth: Growth, base_millis: u64, cap_seconds: u64) -> Backoff {
    Backoff::new(growth, Duration::from_millis(base_millis))
        .capped_at(Duration::from_secs(cap_seconds))
        .jitter(Jitter::Within(10))
}

impl<T: Send> Policy<Idempotent, T> for Retry {
    /// Runs a call until it succeeds, fails for good, or a bound is met.
    ///
    /// # Errors
    ///
    /// That of the last attempt that was begun; but one of unknown fate, where what came after it is no
    /// answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the attempt that is running, or ends the pause.
    async fn run<C: Call<Safety = Idempotent, Output = T>>(
        &self,
        _: &'static str,
        call: C,
    ) -> Result<T> {
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
        let (mut attempt, mut previous) = (1, Duration::ZERO);
        let mut earlier = None;
        loop {
            let error = match call.attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let pause = match self.pause(attempt, previous, &error) {
                Ok(pause) => pause,
                Err(reason) => {
                    GIVEN_UP.add_for(reason, 1);
                    return Err(fate::of_all(earlier, error));
                }
            };
            earlier = Some(match earlier {
                Some(earlier) => fate::of_both(earlier, error),
                None => error,
            });
            RETRIES.add(1);
            tokio::time::sleep(pause).await;
            (attempt, previous) = (attempt + 1, pause);
        }
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("backoff", &self.backoff)
            .field("budget", &self.budget)
            .field("useful", &self.useful)
            .finish_non_exhaustive()
    }
}
