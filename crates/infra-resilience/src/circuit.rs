//! The circuit of a breaker: a pure state machine over instants.
//!
//! Closed, it counts the outcomes of the last calls; too many failures or slow calls open it. Open,
//! it lets nothing through for a while. Half-open, it lets a few probes through: if they succeed it
//! closes, and the first that fails opens it again (Nygard, "Release It!", 2007).

use std::{collections::VecDeque, time::Duration};

use infra_core::clock::Instant;

/// When a breaker opens, and how it closes again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trip {
    /// How many of the last calls are judged; 100 by default.
    pub window: usize,
    /// How many calls there must be before anything is judged; 10 by default.
    pub least: usize,
    /// The share of failures from which it opens, above 0 to 1; 0.5 by default.
    pub failures: f64,
    /// How long a call may take before it counts as slow; 5 s by default.
    pub slow_after: Duration,
    /// The share of slow calls from which it opens; 1 by default.
    pub slow: f64,
    /// How long it stays open; 10 s by default.
    pub open: Duration,
    /// How many probes must succeed to close it, and may run at the same time; 3 by default.
    pub probes: usize,
}

impl Default for Trip {
    fn default() -> Self {
        Self {
            window: 100,
            least: 10,
            failures: 0.5,
            slow_after: Duration::from_secs(5),
            slow: 1.0,
            open: Duration::from_secs(10),
            probes: 3,
        }
    }
}

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They go through.
    Closed,
    /// They are refused.
    Open,
    /// A few go through, as probes.
    HalfOpen,
}

/// How a call that was let through ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success(Duration),
    Failure(Duration),
    /// It was dropped, or its failure says nothing about the service.
    Unknown,
}

/// Which life of the circuit let a call through; what an earlier one let through counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn(u64);

#[derive(Debug, Clone)]
enum Phase {
    Closed { calls: VecDeque<Call>, failures: usize, slow: usize },
    Open { until: Instant },
    HalfOpen { running: usize, succeeded: usize },
}

#[derive(Debug, Clone, Copy)]
struct Call {
    has_failed: bool,
    is_slow: bool,
}

/// The circuit.
#[derive(Debug, Clone)]
pub(crate) struct Circuit {
    trip: Trip,
    phase: Phase,
    turn: u64,
}

impl Circuit {
    pub(crate) fn new(trip: Trip) -> Self {
        let trip = Trip { window: trip.window.max(1), probes: trip.probes.max(1), ..trip };
        Self { trip, phase: closed(), turn: 0 }
    }

    /// Returns the state at `now`.
    pub(crate) fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Lets a call through, or says how long to wait at least.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Turn, Duration> {
        if let Phase::Open { until } = self.phase {
            if now < until {
                return Err(until.since(now));
            }
            self.go(Phase::HalfOpen { running: 0, succeeded: 0 });
        }
        if let Phase::HalfOpen { running, succeeded } = &mut self.phase {
            if self.trip.probes <= *running + *succeeded {
                return Err(Duration::ZERO);
            }
            *running += 1;
        }
        Ok(Turn(self.turn))
    }

    /// Takes the end of a call into account; returns the state if it has changed by it.
    pub(crate) fn settle(&mut self, turn: Turn, verdict: Verdict, now: Instant) -> Option<State> {
        if turn != Turn(self.turn) {
            return None;
        }
        let (has_failed, is_slow) = match verdict {
            Verdict::Success(took) => (false, self.trip.slow_after <= took),
            Verdict::Failure(took) => (true, self.trip.slow_after <= took),
            Verdict::Unknown => {
                if let Phase::HalfOpen { running, .. } = &mut self.phase {
                    *running = running.saturating_sub(1);
                }
                return None;
            }
        };
        let trip = self.trip;
        let next = match &mut self.phase {
            Phase::Closed { calls, failures, slow } => {
                calls.push_back(Call { has_failed, is_slow });
                *failures += usize::from(has_failed);
                *slow += usize::from(is_slow);
                if trip.window < calls.len()
                    && let Some(oldest) = calls.pop_front()
                {
                    *failures -= usize::from(oldest.has_failed);
                    *slow -= usize::from(oldest.is_slow);
                }
                let reaches =
                    |count: usize, share: f64| 0 < count && share <= of(count, calls.len());
                let is_bad = reaches(*failures, trip.failures) || reaches(*slow, trip.slow);
                let enough = trip.least.min(trip.window) <= calls.len();
                (is_bad && enough).then(|| Phase::Open { until: now + trip.open })
            }
            Phase::HalfOpen { .. } if has_failed || is_slow => {
                Some(Phase::Open { until: now + trip.open })
            }
            Phase::HalfOpen { running, succeeded } => {
                *running = running.saturating_sub(1);
                *succeeded += 1;
                (trip.probes <= *succeeded).then(closed)
            }
            Phase::Open { .. } => None,
        }?;
        self.go(next);
        Some(self.state(now))
    }

    fn go(&mut self, phase: Phase) {
        self.phase = phase;
        self.turn += 1;
    }
}

fn closed() -> Phase {
    Phase::Closed { calls: VecDeque::new(), failures: 0, slow: 0 }
}

#[expect(clippy::cast_precision_loss, reason = "windows are far below 2^53")]
fn of(count: usize, all: usize) -> f64 {
    count as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUICK: Duration = Duration::from_millis(1);

    fn trip() -> Trip {
        Trip { window: 8, least: 4, probes: 2, open: Duration::from_secs(10), ..Trip::default() }
    }

    fn call(circuit: &mut Circuit, now: Instant, has_failed: bool) {
        let turn = circuit.admit(now).unwrap();
        let verdict = if has_failed { Verdict::Failure(QUICK) } else { Verdict::Success(QUICK) };
        circuit.settle(turn, verdict, now);
    }

    fn opened() -> (Circuit, Instant) {
        let (mut circuit, now) = (Circuit::new(trip()), Instant::START);
        (0..4).for_each(|_| call(&mut circuit, now, true));
        assert_eq!(circuit.state(now), State::Open);
        (circuit, now)
    }

    #[test]
    fn nothing_is_judged_before_there_are_enough_calls() {
        let (mut circuit, now) = (Circuit::new(trip()), Instant::START);
        (0..3).for_each(|_| call(&mut circuit, now, true));
        assert_eq!(circuit.state(now), State::Closed);
        call(&mut circuit, now, true);
        assert_eq!(circuit.state(now), State::Open);
    }

    #[test]
    fn an_open_circuit_says_how_long_it_stays_so() {
        let (mut circuit, now) = opened();
        let later = now + Duration::from_secs(4);
        assert_eq!(circuit.admit(later), Err(Duration::from_secs(6)));
        assert!(circuit.admit(now + Duration::from_secs(10)).is_ok());
    }

    #[test]
    fn half_open_it_admits_its_probes_and_closes_when_all_succeed() {
        let (mut circuit, now) = opened();
        let now = now + Duration::from_secs(10);
        let (first, second) = (circuit.admit(now).unwrap(), circuit.admit(now).unwrap());
        assert!(circuit.admit(now).is_err(), "two probes and no more");
        assert_eq!(circuit.settle(first, Verdict::Success(QUICK), now), None);
        assert!(circuit.admit(now).is_err());
        assert_eq!(circuit.settle(second, Verdict::Success(QUICK), now), Some(State::Closed));
    }

    #[test]
    fn a_failing_or_slow_probe_opens_it_again() {
        for verdict in [Verdict::Failure(QUICK), Verdict::Success(Duration::from_secs(5))] {
            let (mut circuit, now) = opened();
            let now = now + Duration::from_secs(10);
            let turn = circuit.admit(now).unwrap();
            assert_eq!(circuit.settle(turn, verdict, now), Some(State::Open));
            assert_eq!(circuit.admit(now), Err(Duration::from_secs(10)));
        }
    }

    #[test]
    fn a_dropped_probe_gives_its_place_back() {
        let (mut circuit, now) = opened();
        let now = now + Duration::from_secs(10);
        for _ in 0..20 {
            let turn = circuit.admit(now).unwrap();
            assert_eq!(circuit.settle(turn, Verdict::Unknown, now), None);
        }
        assert_eq!(circuit.state(now), State::HalfOpen);
    }

    #[test]
    fn a_call_of_an_earlier_turn_counts_no_more() {
        let (mut circuit, now) = (Circuit::new(trip()), Instant::START);
        let late = circuit.admit(now).unwrap();
        (0..4).for_each(|_| call(&mut circuit, now, true));
        let now = now + Duration::from_secs(10);
        let probe = circuit.admit(now).unwrap();
        assert_eq!(circuit.settle(late, Verdict::Failure(QUICK), now), None);
        assert_eq!(circuit.state(now), State::HalfOpen);
        assert_eq!(circuit.settle(probe, Verdict::Success(QUICK), now), None);
    }

    #[test]
    fn slow_calls_open_it_though_they_succeed() {
        let mut circuit = Circuit::new(Trip { slow: 0.5, ..trip() });
        let now = Instant::START;
        for took in [QUICK, Duration::from_secs(9), QUICK, Duration::from_secs(9)] {
            let turn = circuit.admit(now).unwrap();
            circuit.settle(turn, Verdict::Success(took), now);
        }
        assert_eq!(circuit.state(now), State::Open);
    }

    proptest! {
        /// Closed, the circuit is open exactly from the first time on that the last calls, judged
        /// from scratch, have failed too often.
        #[test]
        fn it_opens_when_a_naive_count_of_the_last_calls_says_so(
            outcomes in proptest::collection::vec(any::<bool>(), 0..60),
            window in 1_usize..12,
            least in 0_usize..12,
            share in 0.1_f64..1.0,
        ) {
            let trip = Trip { window, least, failures: share, ..trip() };
            let (mut circuit, now) = (Circuit::new(trip), Instant::START);
            for (index, has_failed) in outcomes.iter().enumerate() {
                call(&mut circuit, now, *has_failed);
                let last = &outcomes[(index + 1).saturating_sub(window)..=index];
                let failed = last.iter().filter(|failed| **failed).count();
                let is_bad = 0 < failed && share <= of(failed, last.len());
                let should_be_open = is_bad && least.min(window) <= last.len();
                prop_assert_eq!(circuit.state(now) == State::Open, should_be_open);
                if should_be_open {
                    break;
                }
            }
        }
    }
}
