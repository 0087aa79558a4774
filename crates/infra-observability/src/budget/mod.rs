//! One budget over what the telemetry holds in memory and what it costs, and what is given up first.

mod ladder;
mod part;

use std::{fmt, sync::Arc, time::Duration};

use infra_core::{
    Clock,
    clock::Instant,
    lifecycle::Stop,
    metric::{Counter, Declaration, Gauge},
};
use parking_lot::Mutex;

use self::ladder::Ladder;
pub use self::part::Part;
pub use crate::thrift::{Thrift, Withheld};

const HELD: Gauge<Part> = Gauge::labelled(
    "infra_observability_held_bytes",
    "bytes",
    "Bytes of logs and traces that wait in memory for their sink.",
);
const COST: Gauge = Gauge::new(
    "infra_observability_cost_ratio",
    "ratio",
    "Processors that writing entries of the log and encoding for the collector keep busy.",
);
const STEP: Gauge = Gauge::new(
    "infra_observability_withholding",
    "",
    "What is withheld to keep the budget: 0 nothing, 1 logs, 2 traces as well, 3 exemplars as well.",
);
const WITHHELD: Counter<Withheld> = Counter::labelled(
    "infra_observability_withheld_total",
    "Log entries, traces and exemplars that were withheld to keep the budget.",
);

/// The metrics of the budget.
pub(crate) const METRICS: &[Declaration] =
    &[HELD.declaration(), COST.declaration(), STEP.declaration(), WITHHELD.declaration()];

/// How often the budget is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Over how long a time at least the cost is measured: one entry of the log stands for 64, so a
/// shorter one says nothing.
const SPAN: Duration = Duration::from_millis(500);

/// How much the telemetry may hold and cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    memory: usize,
    processors: f64,
    calm: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory: 16 * 1024 * 1024, processors: 0.25, calm: Duration::from_secs(30) }
    }
}

impl Options {
    /// Sets the bytes that all parts together may hold; 16 MiB by default.
    #[must_use]
    pub const fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Sets how many processors the telemetry may keep busy; a quarter of one by default.
    #[must_use]
    pub const fn processors(mut self, processors: f64) -> Self {
        self.processors = processors;
        self
    }

    /// Sets how long it must have stayed below half of the budget before one thing more is given
    /// again; 30 s by default.
    #[must_use]
    pub const fn calm(mut self, calm: Duration) -> Self {
        self.calm = calm;
        self
    }
}

/// Reads how many bytes a part holds.
type Read = Box<dyn Fn() -> usize + Send + Sync>;

/// Watches what the telemetry holds and costs; over its budget it gives up logs, then traces, then
/// exemplars, and metrics never.
///
/// The parts have hard bounds of their own, with counters of what they drop. The budget is what
/// comes before: at each look that finds it exceeded, one step more is withheld, and after a calm
/// while one less. What is withheld is counted in `infra_observability_withheld_total`.
///
/// What a part holds is what waits, and what its sink is taking at this moment.
///
/// What it costs is the time of writing log entries (one in 64 is measured) and of encoding for
/// the collector; recording a metric is not measured, since that would cost more than the metric.
///
/// ```
/// use infra_core::SystemClock;
/// use infra_observability::budget::{Budget, Options, Part, Thrift, Withheld};
///
/// let thrift = Thrift::default(); // for the log, the spans and the exporter
/// let budget = Budget::new(Options::default().memory(1_000), thrift.clone(), SystemClock::shared())
///     .part(Part::Spans, || 1_001);
/// assert_eq!(budget.look(), Some(Withheld::Logs));
/// assert_eq!(budget.look(), Some(Withheld::Traces));
/// assert_eq!(thrift.withheld(), Some(Withheld::Traces));
/// ```
pub struct Budget {
    options: Options,
    thrift: Thrift,
    clock: Arc<dyn Clock>,
    parts: Vec<(Part, Read)>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ladder: Ladder,
    /// Since when the cost is measured, and what it was before, as a share of the budget.
    since: Instant,
    cost: f64,
}

impl Budget {
    /// Creates a budget that turns `thrift`; times come from `clock`.
    pub fn new(options: Options, thrift: Thrift, clock: Arc<dyn Clock>) -> Self {
        let state = State { ladder: Ladder::new(options.calm), since: clock.now(), cost: 0.0 };
        Self { options, thrift, clock, parts: Vec::new(), state: Mutex::new(state) }
    }

    /// Counts what a part holds in.
    #[must_use]
    pub fn part(mut self, part: Part, held: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        self.parts.push((part, Box::new(held)));
        self
    }

    /// Looks once, and returns the last of what is withheld from now on; none if nothing is.
    pub fn look(&self) -> Option<Withheld> {
        let pressure = self.memory().max(self.cost());
        let mut state = self.state.lock();
        let withheld = state.ladder.judge(pressure, self.clock.now());
        let before = self.thrift.withheld();
        // Under the lock: of two looks at once, the last decision is what is in force.
        self.thrift.turn(withheld);
        STEP.set(f64::from(withheld.map_or(0, Withheld::step)));
        drop(state);
        if before < withheld {
            tracing::warn!(?withheld, pressure, "telemetry is over its budget");
        }
        for what in Withheld::ALL {
            match self.thrift.take_count(what) {
                0 => {}
                count => WITHHELD.add_for(what, count),
            }
        }
        withheld
    }

    /// Looks each second until the service stops.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves withheld what is withheld.
    pub async fn run(self, stop: Stop) {
        let mut ticks = tokio::time::interval(EVERY);
        // Looks that were missed are not made up: a stall would take every step at once.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.requested() => return,
            }
            self.look();
        }
    }

    /// Returns how full the memory is.
    fn memory(&self) -> f64 {
        let mut all = 0;
        for (part, read) in &self.parts {
            let held = read();
            all += held;
            HELD.set_for(*part, float(held));
        }
        float(all) / float(self.options.memory)
    }

    /// Returns how much of the processors' budget is used.
    fn cost(&self) -> f64 {
        let mut state = self.state.lock();
        let now = self.clock.now();
        let passed = now.since(state.since);
        if SPAN <= passed {
            let processors = self.thrift.take_spent().as_secs_f64() / passed.as_secs_f64();
            COST.set(processors);
            (state.since, state.cost) = (now, processors / self.options.processors);
        }
        state.cost
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<Part> = self.parts.iter().map(|(part, _)| *part).collect();
        f.debug_struct("Budget")
            .field("options", &self.options)
            .field("parts", &parts)
            .finish_non_exhaustive()
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of buffers, far below what a double holds")]
const fn float(bytes: usize) -> f64 {
    bytes as f64
}
