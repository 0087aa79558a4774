//! What the parts of the telemetry ask before they do what can be left out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::metric::{Label, LabelSet};

/// What is withheld while the telemetry is over its budget, in the order in which it is given up.
///
/// Each includes those before it. Counters, gauges and histograms are never withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Withheld {
    /// Entries of the log below warnings.
    Logs,
    /// Traces that begin here.
    Traces,
    /// Exemplars of histograms.
    Exemplars,
}

impl Withheld {
    /// Every step, in order.
    pub const ALL: [Self; 3] = [Self::Logs, Self::Traces, Self::Exemplars];

    /// Returns its place in the order; the first is 1.
    pub(crate) const fn step(self) -> u8 {
        match self {
            Self::Logs => 1,
            Self::Traces => 2,
            Self::Exemplars => 3,
        }
    }

    /// Returns what is at a place in the order.
    pub(crate) fn at(step: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.step() == step)
    }
}

impl Label for Withheld {
    const SET: LabelSet = LabelSet { name: "what", values: &["logs", "traces", "exemplars"] };

    fn value(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Exemplars => "exemplars",
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    step: AtomicU8,
    /// How often each was withheld, in order.
    counts: [AtomicU64; 3],
    spent_nanos: AtomicU64,
}

/// A switch that a [`Budget`](crate::budget::Budget) turns and the parts of the telemetry ask.
///
/// Clones are the same switch. One that no budget turns withholds nothing.
#[derive(Debug, Clone, Default)]
pub struct Thrift(Arc<Shared>);

// Relaxed everywhere: figures and switch stand for themselves, and publish nothing else.
impl Thrift {
    /// Returns the last of what is withheld now; none if nothing is.
    pub fn withheld(&self) -> Option<Withheld> {
        Withheld::at(self.0.step.load(Ordering::Relaxed))
    }

    /// Returns whether this is withheld now; if it is, that is counted.
    pub(crate) fn withholds(&self, what: Withheld) -> bool {
        let is_withheld = what.step() <= self.0.step.load(Ordering::Relaxed);
        if is_withheld {
            self.count(what).fetch_add(1, Ordering::Relaxed);
        }
        is_withheld
    }

    /// Notes time that the telemetry has spent.
    pub(crate) fn spend(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.spent_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn turn(&self, to: Option<Withheld>) {
        self.0.step.store(to.map_or(0, Withheld::step), Ordering::Relaxed);
    }

    /// Returns the time that was spent since this was asked last.
    pub(crate) fn take_spent(&self) -> Duration {
        Duration::from_nanos(self.0.spent_nanos.swap(0, Ordering::Relaxed))
    }

    /// Returns how often this was withheld since that was asked last.
    pub(crate) fn take_count(&self, what: Withheld) -> u64 {
        self.count(what).swap(0, Ordering::Relaxed)
    }

    fn count(&self, what: Withheld) -> &AtomicU64 {
        let [logs, traces, exemplars] = &self.0.counts;
        match what {
            Withheld::Logs => logs,
            Withheld::Traces => traces,
            Withheld::Exemplars => exemplars,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_includes_those_before_it_and_is_counted() {
        let thrift = Thrift::default();
        let steps = [None].into_iter().chain(Withheld::ALL.map(Some));
        for (place, step) in steps.enumerate() {
            thrift.turn(step);
            assert_eq!(thrift.withheld(), step);
            let withheld = Withheld::ALL.map(|part| thrift.withholds(part));
            assert_eq!(withheld, [0, 1, 2].map(|part| part < place), "{step:?}");
        }
        assert_eq!(Withheld::ALL.map(|part| thrift.take_count(part)), [3, 2, 1]);
        assert_eq!(thrift.take_count(Withheld::Logs), 0);
        thrift.spend(Duration::from_millis(3));
        assert_eq!(thrift.take_spent(), Duration::from_millis(3));
        assert_eq!(thrift.take_spent(), Duration::ZERO);
    }
}
