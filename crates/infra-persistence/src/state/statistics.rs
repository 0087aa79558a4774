//! What transitions add up to: paths, durations, and steps that go round in circles. All bounded.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::transition::Transition;

/// How many different paths are counted; the others are counted together.
const MAX_PATHS: usize = 1_000;

/// How many steps are looked back on for loops, and how often one step may stand among them.
const WINDOW: usize = 10;
const MAX_SAME: usize = 3;

/// How many anomalies are remembered; older ones are counted.
const MAX_ANOMALIES: usize = 100;

/// From one phase to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Path {
    /// The phase before.
    pub from: String,
    /// The phase after.
    pub to: String,
}

/// Something that a machine in order does not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Anomaly {
    /// The same step stands more than three times among the last ten.
    Loop {
        /// The step's path.
        path: Path,
        /// The step's action.
        action: String,
        /// The version at which it was noticed.
        version: infra_core::version::Version,
    },
}

/// How long steps took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Durations {
    /// The mean.
    pub mean: Duration,
    /// Half of them took at most this long.
    pub p50: Duration,
    /// 95 of 100 took at most this long.
    pub p95: Duration,
    /// 99 of 100 took at most this long.
    pub p99: Duration,
}

/// What the transitions of a machine, or of many, add up to.
///
/// ```
/// use infra_persistence::state::TransitionStatistics;
///
/// let statistics = TransitionStatistics::default();
/// assert_eq!((statistics.total(), statistics.phases()), (0, 0));
/// ```
#[derive(Debug, Clone)]
pub struct TransitionStatistics {
    n_total: u64,
    n_refused: u64,
    paths: BTreeMap<Path, u64>,
    n_other_paths: u64,
    phases: BTreeSet<String>,
    micros: Histogram<u64>,
    recent: VecDeque<(Path, String)>,
    anomalies: VecDeque<Anomaly>,
    n_anomalies: u64,
}

impl Default for TransitionStatistics {
    fn default() -> Self {
        Self {
            n_total: 0,
            n_refused: 0,
            paths: BTreeMap::new(),
            n_other_paths: 0,
            phases: BTreeSet::new(),
            micros: histogram(),
            recent: VecDeque::with_capacity(WINDOW),
            anomalies: VecDeque::new(),
            n_anomalies: 0,
        }
    }
}

/// An hour at most, with two digits: some 40 KB.
#[expect(clippy::expect_used, reason = "the bounds are constants that the library accepts")]
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("the bounds are good")
}

impl TransitionStatistics {
    /// Takes one transition in.
    pub fn take(&mut self, transition: &Transition) {
        if transition.error.is_some() {
            self.n_refused = self.n_refused.saturating_add(1);
            return;
        }
        self.n_total = self.n_total.saturating_add(1);
        let micros = u64::try_from(transition.took.as_micros()).unwrap_or(u64::MAX);
        self.micros.saturating_record(micros);
        let path = Path { from: transition.from.clone(), to: transition.to.clone() };
        self.count(&path);
        self.notice(path, transition);
    }

    fn count(&mut self, path: &Path) {
        if let Some(count) = self.paths.get_mut(path) {
            *count = count.saturating_add(1);
            return;
        }
        if MAX_PATHS <= self.paths.len() {
            self.n_other_paths = self.n_other_paths.saturating_add(1);
            return;
        }
        self.phases.extend([path.from.clone(), path.to.clone()]);
        self.paths.insert(path.clone(), 1);
    }

    fn notice(&mut self, path: Path, transition: &Transition) {
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        let step = (path, transition.action.clone());
        self.recent.push_back(step.clone());
        let n_same = self.recent.iter().filter(|recent| **recent == step).count();
        if n_same <= MAX_SAME {
            return;
        }
        self.n_anomalies = self.n_anomalies.saturating_add(1);
        if self.anomalies.len() == MAX_ANOMALIES {
            self.anomalies.pop_front();
        }
        let (path, action) = step;
        self.anomalies.push_back(Anomaly::Loop { path, action, version: transition.version });
    }

    /// Returns how many transitions were taken in, without refusals.
    pub const fn total(&self) -> u64 {
        self.n_total
    }

    /// Returns how many refusals were taken in.
    pub const fn refused(&self) -> u64 {
        self.n_refused
    }

    /// Returns how many different phases were seen.
    pub fn phases(&self) -> usize {
        self.phases.len()
    }

    /// Returns how often each path was taken.
    pub const fn paths(&self) -> &BTreeMap<Path, u64> {
        &self.paths
    }

    /// Returns how many transitions were on paths beyond the first thousand different ones.
    pub const fn other_paths(&self) -> u64 {
        self.n_other_paths
    }

    /// Returns the newest hundred anomalies, oldest first.
    pub fn anomalies(&self) -> impl ExactSizeIterator<Item = &Anomaly> {
        self.anomalies.iter()
    }

    /// Returns how many anomalies there were in all.
    pub const fn n_anomalies(&self) -> u64 {
        self.n_anomalies
    }

    /// Returns how long the transitions took, to two digits.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a mean of durations is neither negative nor above an hour"
    )]
    pub fn durations(&self) -> Durations {
        let at = |quantile| Duration::from_micros(self.micros.value_at_quantile(quantile));
        if self.micros.is_empty() {
            return Durations::default();
        }
        let mean = Duration::from_micros(self.micros.mean() as u64);
        Durations { mean, p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}

impl<'a> FromIterator<&'a Transition> for TransitionStatistics {
    fn from_iter<I: IntoIterator<Item = &'a Transition>>(iter: I) -> Self {
        let mut statistics = Self::default();
        for transition in iter {
            statistics.take(transition);
        }
        statistics
    }
}
