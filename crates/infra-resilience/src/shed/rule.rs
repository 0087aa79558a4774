//! How many calls should run at the same time: published rules as pure functions of what was seen.

use std::{fmt::Debug, time::Duration};

/// What the calls of one window have shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many calls ended.
    pub samples: u32,
    /// Their mean latency.
    pub mean: Duration,
    /// Their shortest latency.
    pub least: Duration,
    /// The most that ran at the same time.
    pub in_flight: usize,
    /// How many ended by overload: timed out, or were refused further in.
    pub overloads: u32,
}

/// What a rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The limit from now on.
    pub limit: usize,
    /// Whether the next window must be made of calls alone that begin from now on.
    pub only_new: bool,
}

/// A rule that moves a limit after each window.
pub trait Rule: Debug + Send {
    /// Returns the limit to begin with.
    fn initial(&self) -> usize;

    /// Takes a window into account.
    fn update(&mut self, seen: &Summary) -> Step;
}

/// The bounds of a limit, at least one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bounds {
    least: f64,
    most: f64,
}

impl Bounds {
    fn new(least: usize, most: usize) -> Self {
        let least = real(least.max(1));
        Self { least, most: real(most).max(least) }
    }

    const fn clamp(self, limit: f64) -> f64 {
        limit.max(self.least).min(self.most)
    }
}

const fn step(limit: f64) -> Step {
    Step { limit: whole(limit), only_new: false }
}

/// A limit that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed(
    /// The limit.
    pub usize,
);

impl Rule for Fixed {
    fn initial(&self) -> usize {
        self.0
    }

    fn update(&mut self, _: &Summary) -> Step {
        Step { limit: self.0, only_new: false }
    }
}

/// Additive increase, multiplicative decrease (Chiu and Jain, 1989), as Netflix's
/// concurrency-limits has it: one more after a good window that used at least half of the limit, a
/// tenth less after one with an overload or with a mean latency above a bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aimd {
    limit: f64,
    bounds: Bounds,
    backoff: f64,
    slow: Duration,
}

impl Aimd {
    /// Creates the rule, from 20 calls, between 1 and 200.
    ///
    /// `slow` is the mean latency from which a window counts as overloaded.
    pub fn new(slow: Duration) -> Self {
        Self { limit: 20.0, bounds: Bounds::new(1, 200), backoff: 0.9, slow }
    }

    /// Sets the limit to begin with, and its bounds.
    #[must_use]
    pub fn limits(mut self, initial: usize, least: usize, most: usize) -> Self {
        self.bounds = Bounds::new(least, most);
        self.limit = self.bounds.clamp(real(initial));
        self
    }

    /// Sets by what the limit is multiplied after an overload, 0.1 to 0.99; 0.9 by default.
    #[must_use]
    pub const fn backoff(mut self, factor: f64) -> Self {
        self.backoff = factor.clamp(0.1, 0.99);
        self
    }
}

impl Rule for Aimd {
    fn initial(&self) -> usize {
        whole(self.limit)
    }

    fn update(&mut self, seen: &Summary) -> Step {
        let is_used = self.limit <= real(seen.in_flight) * 2.0;
        let next = match (0 < seen.overloads || self.slow <= seen.mean, is_used) {
            (true, _) => self.limit * self.backoff,
            (false, true) => self.limit + 1.0,
            (false, false) => self.limit,
        };
        self.limit = self.bounds.clamp(next);
        step(self.limit)
    }
}

/// Netflix's Gradient2: the limit follows the ratio of the long-term latency to the latest.
///
/// As published, the long-term latency is an average that climbs in a long overload until the limit
/// has drifted to its maximum. Here the floor is measured anew on a schedule: for one window the
/// limit is at its minimum, and the latency of calls that began in it becomes the long-term one;
/// the same is done early if the limit was cut in five windows in a row, since then the service
/// itself has probably become slower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gradient2 {
    limit: f64,
    bounds: Bounds,
    tolerance: f64,
    smoothing: f64,
    queue: f64,
    long: Option<f64>,
    probe_every: Option<u32>,
    since_probe: u32,
    cuts: u32,
    /// The limit to go back to after the probe that is under way.
    probing: Option<f64>,
}

/// Over how many windows the long-term latency is averaged.
const LONG_WINDOWS: f64 = 600.0;
/// After how many cuts in a row the floor is measured early.
const SUSPICIOUS_CUTS: u32 = 5;

impl Gradient2 {
    /// Creates the rule with its published parameters: from 20 calls, between 20 and 200, tolerance
    /// 1.5, smoothing 0.2, a queue of 4; and a probe of the floor each 60 windows.
    pub fn new() -> Self {
        Self {
            limit: 20.0,
            bounds: Bounds::new(20, 200),
            tolerance: 1.5,
            smoothing: 0.2,
            queue: 4.0,
            long: None,
            probe_every: Some(60),
            since_probe: 0,
            cuts: 0,
            probing: None,
        }
    }

    /// Sets the limit to begin with, and its bounds. Probes run at the lower bound.
    #[must_use]
    pub fn limits(mut self, initial: usize, least: usize, most: usize) -> Self {
        self.bounds = Bounds::new(least, most);
        self.limit = self.bounds.clamp(real(initial));
        self
    }

    /// Sets by how much the latency may rise before the limit falls; 1.5 by default.
    #[must_use]
    pub const fn tolerance(mut self, factor: f64) -> Self {
        self.tolerance = factor.max(1.0);
        self
    }

    /// Sets the share of a step that is taken at once, 0 to 1; 0.2 by default.
    #[must_use]
    pub const fn smoothing(mut self, share: f64) -> Self {
        self.smoothing = share.clamp(0.01, 1.0);
        self
    }

    /// Sets after how many windows the floor is measured anew; 60 by default.
    #[must_use]
    pub const fn probe_every(mut self, windows: u32) -> Self {
        self.probe_every = Some(windows);
        self
    }

    /// Never measures the floor anew, as published.
    #[must_use]
    pub const fn without_probes(mut self) -> Self {
        self.probe_every = None;
        self
    }

    fn must_probe(&self) -> bool {
        self.probe_every.is_some_and(|every| every <= self.since_probe)
            || self.probe_every.is_some() && SUSPICIOUS_CUTS <= self.cuts
    }

    fn begin_probe(&mut self) -> Step {
        (self.probing, self.since_probe, self.cuts) = (Some(self.limit), 0, 0);
        Step { limit: whole(self.bounds.least), only_new: true }
    }

    fn end_probe(&mut self, before: f64, seen: &Summary) -> Step {
        self.probing = None;
        if 0 < seen.samples {
            self.long = Some(seen.mean.as_secs_f64());
        }
        self.limit = before;
        // What is still measured of the probe's calls must not be taken for the new limit's.
        Step { limit: whole(before), only_new: true }
    }

    fn follow(&mut self, seen: &Summary) {
        let short = seen.mean.as_secs_f64().max(1e-9);
        let long = match self.long {
            None => short,
            Some(long) => {
                let long = long + (short - long) * 2.0 / (LONG_WINDOWS + 1.0);
                // A long-term latency from worse times fades faster.
                if 2.0 < long / short { long * 0.95 } else { long }
            }
        };
        self.long = Some(long);
        if real(seen.in_flight) < self.limit / 2.0 {
            self.cuts = 0;
            return;
        }
        let mut gradient = (self.tolerance * long / short).clamp(0.5, 1.0);
        if 0 < seen.overloads && seen.samples <= seen.overloads.saturating_mul(2) {
            gradient = 0.5;
        }
        self.cuts = if gradient <= 0.75 { self.cuts + 1 } else { 0 };
        let next = self.limit * gradient + self.queue;
        let smoothed = self.limit * (1.0 - self.smoothing) + next * self.smoothing;
        self.limit = self.bounds.clamp(smoothed);
    }
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self::new()
    }
}

impl Rule for Gradient2 {
    fn initial(&self) -> usize {
        whole(self.limit)
    }

    fn update(&mut self, seen: &Summary) -> Step {
        if let Some(before) = self.probing {
            return self.end_probe(before, seen);
        }
        self.since_probe += 1;
        self.follow(seen);
        if self.must_probe() { self.begin_probe() } else { step(self.limit) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
const fn real(limit: usize) -> f64 {
    limit as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limits are positive and bounded"
)]
const fn whole(limit: f64) -> usize {
    limit as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(millis: u64, in_flight: usize) -> Summary {
        let mean = Duration::from_millis(millis);
        Summary { samples: 20, mean, least: mean, in_flight, overloads: 0 }
    }

    #[test]
    fn aimd_adds_one_and_takes_a_tenth() {
        let mut rule = Aimd::new(Duration::from_millis(100)).limits(50, 1, 51);
        assert_eq!(rule.initial(), 50);
        assert_eq!(rule.update(&seen(10, 10)).limit, 50, "less than half is used");
        assert_eq!(rule.update(&seen(10, 25)).limit, 51);
        assert_eq!(rule.update(&seen(10, 26)).limit, 51, "the upper bound");
        assert_eq!(rule.update(&seen(100, 51)).limit, 45);
        assert_eq!(rule.update(&Summary { overloads: 1, ..seen(10, 45) }).limit, 41);
        assert_eq!(rule.backoff(0.5).update(&seen(100, 51)).limit, 20);
    }

    #[test]
    fn gradient_falls_with_rising_latency_and_grows_while_it_is_flat() {
        let mut rule = Gradient2::new().limits(100, 5, 200);
        rule.update(&seen(10, 100));
        let grown = rule.update(&seen(10, 100)).limit;
        assert!(100 < grown, "{grown}");
        let fallen = rule.update(&seen(40, 100)).limit;
        assert!(fallen < grown, "{fallen}");
        let before = rule.update(&seen(10, 3)).limit;
        assert_eq!(rule.update(&seen(10, 3)).limit, before, "little is used");
        let overloaded = Summary { overloads: 20, ..seen(10, 100) };
        assert!(rule.update(&overloaded).limit < before);
    }

    #[test]
    fn as_published_it_drifts_and_with_probes_it_does_not() {
        // A service of ten places and 50 ms, of which all that is let in waits in a queue.
        let settled = |mut rule: Gradient2| {
            let mut limit = rule.initial();
            for _ in 0..3_000 {
                let millis = 50 * limit.max(10) as u64 / 10;
                limit = rule.update(&seen(millis, limit)).limit;
            }
            limit
        };
        let rule = Gradient2::new().limits(10, 5, 500);
        assert_eq!(settled(rule.without_probes()), 500);
        let found = settled(rule);
        assert!((5..=40).contains(&found), "{found}");
    }

    #[test]
    fn a_probe_runs_at_the_minimum_with_new_calls_and_comes_back() {
        let mut rule = Gradient2::new().limits(50, 5, 200).probe_every(3);
        let steps: Vec<_> = (0..4).map(|_| rule.update(&seen(10, 50))).collect();
        assert_eq!(steps[2], Step { limit: 5, only_new: true });
        assert!(50 < steps[3].limit && steps[3].only_new);
        let mut rule = Gradient2::default();
        let cut = (0..20).position(|window| {
            rule.update(&seen(10 + window * 1_000, 20)) == Step { limit: 20, only_new: true }
        });
        assert!(cut.is_some_and(|window| window < 10), "cuts in a row bring the probe on: {cut:?}");
    }

    proptest! {
        #[test]
        fn no_window_leads_out_of_the_bounds(
            windows in proptest::collection::vec((0_u64..100_000, 0_usize..1_000, 0_u32..30), 1..200),
            (least, most, initial) in (1_usize..50, 50_usize..500, 0_usize..1_000),
        ) {
            let mut rules: [Box<dyn Rule>; 2] = [
                Box::new(Aimd::new(Duration::from_secs(1)).limits(initial, least, most)),
                Box::new(Gradient2::new().limits(initial, least, most).smoothing(0.9).tolerance(2.0)),
            ];
            for (millis, in_flight, overloads) in windows {
                for rule in &mut rules {
                    let step = rule.update(&Summary { overloads, ..seen(millis, in_flight) });
                    prop_assert!((least..=most).contains(&step.limit), "{step:?}");
                }
            }
        }
    }

    #[test]
    fn a_fixed_limit_stays() {
        assert_eq!((Fixed(7).initial(), Fixed(7).update(&seen(1, 1)).limit), (7, 7));
    }
}
