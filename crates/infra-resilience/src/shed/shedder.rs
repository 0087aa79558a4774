//! The shedder as its users hold it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use infra_core::{
    Clock, Error, ErrorKind, Result,
    budget::{CallBudget, Priority},
    clock::Instant,
    context::Context,
    random::Random,
};
use parking_lot::Mutex;

use super::{
    load::{self, Cuts, Load},
    memory::{MemoryGauge, Pressure},
    rule::Rule,
    sampler::{Sample, Sampler, Windows},
};
use crate::{
    bulkhead::{
        gate::{ClientKey, Gate, Held},
        wait_for_place,
    },
    call::{Call, Safety},
    pipeline::Policy,
    refused::Refused,
    telemetry::LIMIT,
};

/// How a shedder decides.
#[derive(Debug)]
pub struct Options {
    rule: Box<dyn Rule>,
    windows: Windows,
    queue: usize,
    wait: Duration,
    cuts: Cuts,
    memory: Option<MemoryGauge>,
    random: Random,
}

impl Options {
    /// Takes the rule that moves the limit.
    pub fn new(rule: impl Rule + 'static) -> Self {
        Self {
            rule: Box::new(rule),
            windows: Windows::default(),
            queue: 0,
            wait: Duration::from_secs(1),
            cuts: Cuts::default(),
            memory: None,
            random: Random::from_system(),
        }
    }

    /// Sets over what the rule looks; 1 s and 10 calls by default.
    #[must_use]
    pub const fn windows(mut self, windows: Windows) -> Self {
        self.windows = windows;
        self
    }

    /// Sets how many calls may wait for a place, and how long; none by default. In the line
    /// priorities go first and clients take turns, as in a [`Bulkhead`](crate::Bulkhead).
    #[must_use]
    pub const fn queue(mut self, waiters: usize, wait: Duration) -> Self {
        (self.queue, self.wait) = (waiters, wait);
        self
    }

    /// Sets from which loads on priorities are refused.
    #[must_use]
    pub const fn cuts(mut self, cuts: Cuts) -> Self {
        self.cuts = cuts;
        self
    }

    /// Sets the memory that is watched; none by default.
    #[must_use]
    pub fn memory(mut self, gauge: MemoryGauge) -> Self {
        self.memory = Some(gauge);
        self
    }

    /// Sets the seed by which calls are chosen that a load refuses in part.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.random = Random::seeded(seed);
        self
    }
}

/// Lets as many calls in as the service bears, and refuses the others at once, each with one reason.
///
/// A [`Rule`] finds the limit from how long the calls take. Before it, the load that you report and the
/// memory are looked at: lower priorities are refused first. Clones share everything. Put timeouts
/// inside: a call that is dropped from outside teaches nothing.
///
/// ```
/// use infra_core::SystemClock;
/// use infra_resilience::{Policy as _, Shedder, idempotent, shed};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let options = shed::Options::new(shed::Gradient2::new());
/// let shedder = Shedder::new(options, SystemClock::shared());
/// assert_eq!(shedder.run("ask", idempotent(|| async { Ok(7) })).await?, 7);
/// let permit = shedder.enter("work").await?;
/// permit.record();
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Shedder {
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    client: ClientKey,
}

struct Shared {
    control: Mutex<Control>,
    clock: Arc<dyn Clock>,
    wait: Duration,
    cuts: Cuts,
    memory: Option<MemoryGauge>,
    random: Random,
    /// The bits of the load that was reported last.
    level: AtomicU64,
}

#[derive(Debug)]
struct Control {
    rule: Box<dyn Rule>,
    sampler: Sampler,
}

/// What a shedder counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// The limit.
    pub limit: usize,
    /// Calls that run.
    pub running: usize,
    /// Calls that wait.
    pub waiting: usize,
    /// Calls that were let in.
    pub admitted: u64,
    /// Calls that were refused.
    pub refused: u64,
}

impl Shedder {
    /// Creates a shedder.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        let Options { rule, windows, queue, wait, cuts, memory, random } = options;
        let gate = Gate::new(rule.initial().max(1), queue);
        let sampler = Sampler::new(windows, clock.now());
        let control = Mutex::new(Control { rule, sampler });
        let level = AtomicU64::new(0.0_f64.to_bits());
        let shared = Shared { control, clock, wait, cuts, memory, random, level };
        Self { shared: Arc::new(shared), gate, client: ClientKey::Borrowed("") }
    }

    /// Returns this shedder as one client sees it: clients that wait take turns.
    #[must_use]
    pub fn client(&self, client: impl Into<ClientKey>) -> Self {
        Self { client: client.into(), ..self.clone() }
    }

    /// Reports the use of the scarcest resource, from 0 to 1; it holds until the next report.
    pub fn report_load(&self, level: f64) {
        self.shared.level.store(level.to_bits(), Relaxed);
    }

    /// Returns what is counted.
    pub fn stats(&self) -> Stats {
        let counts = self.gate.counts();
        Stats {
            limit: counts.limit,
            running: counts.running,
            waiting: counts.waiting,
            admitted: counts.admitted,
            refused: counts.refused,
        }
    }

    /// Asks to be let in; say by the permit how it went.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overloaded`] with [`Refused`] as its source.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the line.
    pub async fn enter(&self, operation: &'static str) -> Result<Permit> {
        if let Err(reason) = self.shared.judge() {
            self.gate.refuse();
            return Err(Refused::error(reason, None, operation));
        }
        let shared = &self.shared;
        let place = wait_for_place(&self.gate, &self.client, shared.wait, &*shared.clock).await;
        let held = place.map_err(|reason| Refused::error(reason, None, operation))?;
        let in_flight = self.gate.counts().running;
        let (begun, shedder) = (shared.clock.now(), self.clone());
        Ok(Permit { shedder, begun, in_flight, _held: held })
    }

    fn learn(&self, sample: Sample) {
        let limit = {
            let mut control = self.shared.control.lock();
            let Control { rule, sampler } = &mut *control;
            let Some(summary) = sampler.add(sample) else { return };
            let step = rule.update(&summary);
            if step.only_new {
                sampler.only_since(sample.ended);
            }
            step.limit.max(1)
        };
        #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
        LIMIT.set(limit as f64);
        self.gate.set_limit(limit);
    }
}

impl Shared {
    fn judge(&self) -> std::result::Result<(), crate::Reason> {
        let level = f64::from_bits(self.level.load(Relaxed));
        let memory = self.memory.as_ref().map_or(Pressure::None, MemoryGauge::pressure);
        let context = Context::current();
        let priority = context.budget_of().map_or(Priority::Normal, CallBudget::priority_of);
        load::admit(&self.cuts, &Load { level, memory }, priority, self.random.unit())
    }
}

/// A call that was let in. Dropped without a word it teaches nothing.
#[must_use]
pub struct Permit {
    shedder: Shedder,
    begun: Instant,
    in_flight: usize,
    _held: Held,
}

impl Permit {
    /// Says that the call ended well: its time is learned from.
    pub fn record(self) {
        self.end(false);
    }

    /// Says that the call ended by overload: it timed out, or was refused further in.
    pub fn overloaded(self) {
        self.end(true);
    }

    /// Says that nothing is to be learned from this call.
    pub fn ignore(self) {}

    fn end(self, is_overload: bool) {
        let (begun, in_flight) = (self.begun, self.in_flight);
        let ended = self.shedder.shared.clock.now();
        self.shedder.learn(Sample { begun, ended, in_flight, is_overload });
    }

    fn settle(self, error: Option<&Error>) {
        match error.map(Error::kind) {
            None => self.record(),
            Some(ErrorKind::Timeout | ErrorKind::Indeterminate | ErrorKind::Overloaded) => {
                self.overloaded();
            }
            Some(_) => self.ignore(),
        }
    }
}

impl<S: Safety, T: Send> Policy<S, T> for Shedder {
    /// Runs a call, if it is let in; its end is learned from.
    ///
    /// # Errors
    ///
    /// The call's own, or as for [`Shedder::enter`], and then the call was not begun.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call, and nothing is learned from it.
    async fn run<C: Call<Safety = S, Output = T>>(
        &self,
        operation: &'static str,
        call: C,
    ) -> Result<T> {
        let permit = self.enter(operation).await?;
        let result = call.attempt().await;
        permit.settle(result.as_ref().err());
        result
    }
}

impl fmt::Debug for Shedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shedder").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("begun", &self.begun).finish_non_exhaustive()
    }
}
