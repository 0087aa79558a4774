//! Collects the ends of calls into windows.

use std::time::Duration;

use infra_core::clock::Instant;

use super::rule::Summary;

/// How long a window is, and how many calls it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// The shortest time of a window; 1 s by default.
    pub length: Duration,
    /// The fewest calls of a window, which goes on until it has them; 10 by default.
    pub samples: u32,
}

impl Default for Windows {
    fn default() -> Self {
        Self { length: Duration::from_secs(1), samples: 10 }
    }
}

/// A call that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it began.
    pub begun: Instant,
    /// When it ended.
    pub ended: Instant,
    /// How many ran when it began, itself among them.
    pub in_flight: usize,
    /// Whether it ended by overload.
    pub is_overload: bool,
}

/// The window that is being filled: pure, over instants.
#[derive(Debug, Clone)]
pub struct Sampler {
    windows: Windows,
    begun: Instant,
    /// Calls that began before are not counted.
    not_before: Instant,
    samples: u32,
    overloads: u32,
    sum: Duration,
    least: Duration,
    in_flight: usize,
}

impl Sampler {
    /// Begins the first window at `now`.
    pub const fn new(windows: Windows, now: Instant) -> Self {
        Self {
            windows,
            begun: now,
            not_before: Instant::START,
            samples: 0,
            overloads: 0,
            sum: Duration::ZERO,
            least: Duration::MAX,
            in_flight: 0,
        }
    }

    /// Adds a call; returns the window if this completes it, and begins the next.
    pub fn add(&mut self, sample: Sample) -> Option<Summary> {
        if sample.begun < self.not_before {
            return None;
        }
        let took = sample.ended.since(sample.begun);
        self.samples += 1;
        self.overloads += u32::from(sample.is_overload);
        self.sum = self.sum.saturating_add(took);
        self.least = self.least.min(took);
        self.in_flight = self.in_flight.max(sample.in_flight);
        let is_long = self.windows.length <= sample.ended.since(self.begun);
        if !is_long || self.samples < self.windows.samples {
            return None;
        }
        let summary = Summary {
            samples: self.samples,
            mean: self.sum / self.samples,
            least: self.least,
            in_flight: self.in_flight,
            overloads: self.overloads,
        };
        *self = Self { not_before: self.not_before, ..Self::new(self.windows, sample.ended) };
        Some(summary)
    }

    /// Forgets the calls that began before `now`.
    pub const fn only_since(&mut self, now: Instant) {
        self.not_before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(begun: u64, ended: u64) -> Sample {
        let at = |millis| Instant::from_start(Duration::from_millis(millis));
        Sample { begun: at(begun), ended: at(ended), in_flight: 3, is_overload: ended > 900 }
    }

    #[test]
    fn a_window_needs_its_time_and_its_calls() {
        let windows = Windows { length: Duration::from_secs(1), samples: 3 };
        let mut sampler = Sampler::new(windows, Instant::START);
        assert_eq!(sampler.add(sample(0, 10)), None);
        assert_eq!(sampler.add(sample(0, 1_500)), None, "too few calls");
        let mean = Duration::from_millis(510);
        let least = Duration::from_millis(10);
        let window = Summary { samples: 3, mean, least, in_flight: 3, overloads: 2 };
        assert_eq!(sampler.add(sample(1_480, 1_500)), Some(window));
        assert_eq!(sampler.add(sample(1_500, 1_600)), None, "the next window begins empty");
    }

    #[test]
    fn calls_that_began_too_early_are_not_counted() {
        let windows = Windows { length: Duration::ZERO, samples: 1 };
        let mut sampler = Sampler::new(windows, Instant::START);
        sampler.only_since(Instant::from_start(Duration::from_millis(100)));
        assert_eq!(sampler.add(sample(99, 150)), None);
        assert!(sampler.add(sample(100, 150)).is_some());
    }
}
