//! The breaker as its users hold it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use infra_core::{Clock, Error, Result, clock::Instant, random::Random};
use parking_lot::Mutex;

use super::{
    circuit::{Change, Circuit, Denial, Mode, Rules, State, Ticket},
    gate::{Gate, Threshold, Verdict},
    options::{Options, Outcome},
    window::{Counts, Sample, Tally, Window},
};
use crate::{
    call::{Call, Safety},
    pipeline::Policy,
    refused::{Reason, Refused},
    telemetry::{BREAKERS, TRANSITIONS},
};

/// How many changes a breaker remembers.
const HISTORY: usize = 16;

/// Stops calling a service that fails, and finds out carefully whether it is back.
///
/// Closed, it takes no lock. Clones share the circuit.
///
/// ```
/// use infra_core::{Error, ErrorKind, SystemClock};
/// use infra_resilience::{Breaker, Policy as _, State, breaker, idempotent};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let options = breaker::Options::default().least(1);
/// let breaker = Breaker::new(options, SystemClock::shared());
/// let down = idempotent(|| async { Err::<(), _>(Error::new(ErrorKind::Unavailable, "ask")) });
/// assert!(breaker.run("ask", down).await.is_err());
/// assert_eq!(breaker.state(), State::Open);
/// # });
/// ```
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

struct Inner {
    gate: Gate,
    clock: Arc<dyn Clock>,
    slow_after: Option<Duration>,
    options: Options,
    told: Mutex<Told>,
    failed: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
}

/// What was told of the changes.
struct Told {
    history: VecDeque<Change>,
    /// The newest change's turn, and the state since.
    turn: u64,
    state: State,
}

/// What became of the calls of a breaker since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Calls of a closed circuit that ended and were counted.
    pub counted: u64,
    /// Calls that failed, probes among them.
    pub failed: u64,
    /// Calls that were not let through.
    pub refused: u64,
    /// Calls that were dropped, or whose end says nothing.
    pub unknown: u64,
}

impl Breaker {
    /// Creates a closed breaker.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        let rules = Rules {
            open: options.open,
            probes: options.probes,
            probe_patience: options.probe_patience,
        };
        let size = match options.window {
            Window::Calls(size) => u64::from(size.get()),
            Window::Time { .. } => u64::MAX,
        };
        let threshold = Threshold {
            least: u64::from(options.least.max(1)).min(size),
            failures: options.failures,
            slow: options.slow.map_or(f64::INFINITY, |(_, share)| share),
            consecutive: options.consecutive.map(Into::into),
        };
        let random = options.seed.map_or_else(Random::from_system, Random::seeded);
        let counts = Counts::new(options.window);
        let told = Told { history: VecDeque::new(), turn: 0, state: State::Closed };
        BREAKERS.add_for(State::Closed, 1.0);
        options.gauges.iter().for_each(|gauge| gauge(State::Closed));
        Self(Arc::new(Inner {
            gate: Gate::new(Circuit::new(rules, random), counts, threshold),
            clock,
            slow_after: options.slow.map(|(after, _)| after),
            options,
            told: Mutex::new(told),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }))
    }

    /// Returns what the breaker does with calls now.
    pub fn state(&self) -> State {
        self.0.gate.state(self.0.clock.now())
    }

    /// Returns who decides about the state.
    pub fn mode(&self) -> Mode {
        self.0.gate.mode()
    }

    /// Gives the decision to an operator, or back to the outcomes ([`Mode::Automatic`]); it holds
    /// until the next one.
    ///
    /// A circuit that was open or half-open before goes on there; one that was closed begins anew.
    pub fn force(&self, mode: Mode) {
        let change = self.0.gate.force(mode, self.0.clock.now());
        self.0.tell(change);
    }

    /// Closes the circuit and forgets all outcomes; the mode is automatic again.
    pub fn reset(&self) {
        let change = self.0.gate.reset(self.0.clock.now());
        self.0.tell(change);
    }

    /// Returns the sums of the window.
    pub fn tally(&self) -> Tally {
        self.0.gate.tally(|| self.0.clock.now())
    }

    /// Returns what became of all calls.
    pub fn stats(&self) -> Stats {
        Stats {
            counted: self.0.gate.recorded(),
            failed: self.0.failed.load(Relaxed),
            refused: self.0.refused.load(Relaxed),
            unknown: self.0.unknown.load(Relaxed),
        }
    }

    /// Returns the last changes, at most 16, the oldest first.
    pub fn history(&self) -> Vec<Change> {
        self.0.told.lock().history.iter().copied().collect()
    }

    /// Returns whether nobody else holds this breaker or a permit of it, and it is closed,
    /// automatic and without failures: dropping it would lose nothing.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
            && self.mode() == Mode::Automatic
            && self.state() == State::Closed
            && self.tally().failures == 0
            && self.tally().slow == 0
    }

    /// Asks to be let through, for calls that are no futures; settle the permit with how it went.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](infra_core::ErrorKind::Unavailable) with [`Refused`] as its
    /// source, if the breaker is open, or half-open with all probes running.
    pub fn admit(&self, operation: &'static str) -> Result<Permit> {
        let entry = self.0.admit(operation)?;
        Ok(Permit { inner: Arc::clone(&self.0), entry: Some(entry) })
    }
}

impl<S: Safety, T: Send> Policy<S, T> for Breaker {
    /// Runs a call, if the circuit lets it through.
    ///
    /// # Errors
    ///
    /// The call's own, or as for [`Breaker::admit`], and then the call was not begun.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call; it counts neither as a success nor as a failure, and a
    /// probe's place is free again.
    async fn run<C: Call<Safety = S, Output = T>>(
        &self,
        operation: &'static str,
        call: C,
    ) -> Result<T> {
        let entry = self.0.admit(operation)?;
        let running = Running { inner: &self.0, entry: Some(entry) };
        let result = call.attempt().await;
        running.end(self.0.judge(result.as_ref().err()));
        result
    }
}

/// What the breaker must remember of a call that it let through.
#[derive(Debug, Clone, Copy)]
struct Entry {
    ticket: Ticket,
    begun: Option<Instant>,
}

impl Inner {
    #[inline]
    fn admit(&self, operation: &'static str) -> Result<Entry> {
        match self.gate.admit_closed() {
            Some(ticket) => Ok(self.enter(ticket)),
            None => self.admit_slowly(operation),
        }
    }

    #[inline]
    fn enter(&self, ticket: Ticket) -> Entry {
        Entry { ticket, begun: self.slow_after.map(|_| self.clock.now()) }
    }

    #[cold]
    fn admit_slowly(&self, operation: &'static str) -> Result<Entry> {
        let (admitted, change) = self.gate.admit(|| self.clock.now());
        self.tell(change);
        match admitted {
            Ok(ticket) => Ok(self.enter(ticket)),
            Err(denial) => {
                self.refused.fetch_add(1, Relaxed);
                Err(refusal(denial, operation))
            }
        }
    }

    #[inline]
    fn judge(&self, error: Option<&Error>) -> Outcome {
        match error {
            None => Outcome::Success,
            // A refusal further in was no call to the service.
            Some(error) if Refused::of(error).is_some() => Outcome::Ignored,
            Some(error) => (self.options.classify)(error),
        }
    }

    #[inline]
    fn settle(&self, entry: Entry, outcome: Outcome) {
        let end = entry.begun.map(|_| self.clock.now());
        let took = entry.begun.zip(end).map(|(begun, end)| end.since(begun));
        let is_slow = took.zip(self.slow_after).is_some_and(|(took, limit)| limit <= took);
        let verdict = match outcome {
            Outcome::Success => Verdict::Known(Sample::new(false, is_slow)),
            Outcome::Failure => {
                self.failed.fetch_add(1, Relaxed);
                Verdict::Known(Sample::new(true, is_slow))
            }
            Outcome::Ignored => {
                self.unknown.fetch_add(1, Relaxed);
                Verdict::Unknown
            }
        };
        let now = || end.unwrap_or_else(|| self.clock.now());
        self.tell(self.gate.settle(entry.ticket, verdict, now));
    }

    #[inline]
    fn tell(&self, change: Option<Change>) {
        if let Some(change) = change {
            self.publish(change);
        }
    }

    #[cold]
    fn publish(&self, change: Change) {
        TRANSITIONS.add_for(change.to, 1);
        {
            let mut told = self.told.lock();
            told.remember(change);
            // Two changes may come here in the other order: what is older changes no gauge.
            if told.turn < change.turn {
                BREAKERS.add_for(told.state, -1.0);
                BREAKERS.add_for(change.to, 1.0);
                (told.turn, told.state) = (change.turn, change.to);
                self.options.gauges.iter().for_each(|gauge| gauge(change.to));
            }
        }
        for listener in &self.options.listeners {
            listener(&change);
        }
    }
}

impl Told {
    fn remember(&mut self, change: Change) {
        if HISTORY <= self.history.len() {
            self.history.pop_front();
        }
        self.history.push_back(change);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        BREAKERS.add_for(self.told.get_mut().state, -1.0);
    }
}

#[cold]
fn refusal(denial: Denial, operation: &'static str) -> Error {
    let (reason, wait) = match denial {
        Denial::Open(wait) => (Reason::BreakerOpen, Some(wait)),
        Denial::Probing => (Reason::BreakerProbing, None),
        Denial::Forced => (Reason::BreakerForced, None),
    };
    Refused::error(reason, wait, operation)
}

/// A call that is running; dropped, it counts for nothing.
struct Running<'a> {
    inner: &'a Inner,
    entry: Option<Entry>,
}

impl Running<'_> {
    #[inline]
    fn end(mut self, outcome: Outcome) {
        if let Some(entry) = self.entry.take() {
            self.inner.settle(entry, outcome);
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.inner.settle(entry, Outcome::Ignored);
        }
    }
}

/// The permission for one call. Dropped without a verdict it counts for nothing.
#[must_use]
pub struct Permit {
    inner: Arc<Inner>,
    entry: Option<Entry>,
}

impl Permit {
    /// Says how the call went.
    pub fn settle(mut self, outcome: Outcome) {
        if let Some(entry) = self.entry.take() {
            self.inner.settle(entry, outcome);
        }
    }

    /// Says that the call succeeded.
    pub fn success(self) {
        self.settle(Outcome::Success);
    }

    /// Says that the call failed.
    pub fn failure(self) {
        self.settle(Outcome::Failure);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.inner.settle(entry, Outcome::Ignored);
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Breaker");
        debug.field("state", &self.state()).field("mode", &self.mode());
        debug.field("tally", &self.tally()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("entry", &self.entry).finish_non_exhaustive()
    }
}
