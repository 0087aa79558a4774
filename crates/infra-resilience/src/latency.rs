//! How long calls take, as a live quantile.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Buckets per doubling: a quantile is at most an eighth too high.
const FINE: u32 = 3;
/// From 2^10 ns (about 1 us) to 2^40 ns (about 18 min).
const LOWEST: u32 = 10;
const DOUBLINGS: u32 = 30;
const BUCKETS: usize = (DOUBLINGS << FINE) as usize;

/// A histogram of the latencies of late, without locks.
///
/// After each `memory` samples all counts are halved, so that old samples fade. Quantiles are the
/// upper ends of their buckets: never too low, at most 12.5 % too high. Clones share the samples.
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::Latency;
///
/// let latency = Latency::new(1_000);
/// (1..=100).for_each(|millis| latency.record(Duration::from_millis(millis)));
/// let median = latency.quantile(0.5).unwrap();
/// assert!(Duration::from_millis(50) <= median && median <= Duration::from_millis(57));
/// ```
#[derive(Clone)]
pub struct Latency(Arc<Histogram>);

struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    samples: AtomicU64,
    memory: u64,
}

impl Latency {
    /// Creates a histogram that fades by half each `memory` samples, at least 16.
    pub fn new(memory: u32) -> Self {
        Self(Arc::new(Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            samples: AtomicU64::new(0),
            memory: u64::from(memory.max(16)),
        }))
    }

    /// Adds a sample.
    pub fn record(&self, took: Duration) {
        // Relaxed here and below: counts of which one more or less changes nothing that matters.
        if let Some(bucket) = self.0.buckets.get(bucket(took)) {
            bucket.fetch_add(1, Relaxed);
        }
        let samples = self.0.samples.fetch_add(1, Relaxed) + 1;
        if samples.is_multiple_of(self.0.memory) {
            self.fade();
        }
    }

    /// Returns the time within which this share of the calls ended; `None` before 16 samples.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let counts = self.0.buckets.iter().map(|bucket| bucket.load(Relaxed));
        let sum: u64 = counts.clone().sum();
        if self.0.samples.load(Relaxed) < 16 || sum == 0 {
            return None;
        }
        let rank = rank(share, sum);
        let mut seen = 0;
        let reached = counts.into_iter().position(|count| {
            seen += count;
            rank <= seen
        });
        reached.map(upper_end)
    }

    fn fade(&self) {
        for bucket in &self.0.buckets {
            let halve = |count: u64| (count != 0).then_some(count / 2);
            let _empty = bucket.fetch_update(Relaxed, Relaxed, halve);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a count of samples"
)]
fn rank(share: f64, sum: u64) -> u64 {
    ((share.clamp(0.0, 1.0) * sum as f64).ceil() as u64).max(1)
}

fn bucket(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1 << LOWEST);
    let doubling = nanos.ilog2();
    let fine = (nanos >> (doubling - FINE)) & ((1 << FINE) - 1);
    let index = (u64::from(doubling - LOWEST) << FINE) | fine;
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

fn upper_end(bucket: usize) -> Duration {
    let index = u64::try_from(bucket).unwrap_or(0) + 1;
    let (doubling, fine) = (index >> FINE, index & ((1 << FINE) - 1));
    let base = 1_u64 << (u64::from(LOWEST) + doubling);
    Duration::from_nanos(base + ((base >> FINE) * fine))
}

impl Default for Latency {
    /// Fades by half each 1,000 samples.
    fn default() -> Self {
        Self::new(1_000)
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency")
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_is_never_too_low_and_at_most_an_eighth_too_high(
            mut micros in proptest::collection::vec(2_u64..10_000_000, 16..200),
            share in 0.01_f64..1.0,
        ) {
            let latency = Latency::new(u32::MAX);
            for micros in &micros {
                latency.record(Duration::from_micros(*micros));
            }
            micros.sort_unstable();
            let index = usize::try_from(rank(share, micros.len() as u64)).unwrap() - 1;
            let exact = Duration::from_micros(micros[index]);
            let found = latency.quantile(share).unwrap();
            prop_assert!(exact <= found && found <= exact.mul_f64(1.1251), "{exact:?} {found:?}");
        }
    }

    #[test]
    fn old_samples_fade() {
        let latency = Latency::new(100);
        assert_eq!(latency.quantile(0.5), None);
        (0..1_000).for_each(|_| latency.record(Duration::from_secs(1)));
        (0..300).for_each(|_| latency.record(Duration::from_millis(1)));
        assert!(latency.quantile(0.5).unwrap() < Duration::from_millis(2), "{latency:?}");
    }

    #[test]
    fn no_duration_is_out_of_range() {
        let latency = Latency::default();
        (0..20).for_each(|_| latency.record(Duration::MAX));
        assert!(Duration::from_secs(1_000) < latency.quantile(1.0).unwrap());
        latency.record(Duration::ZERO);
        assert!(latency.quantile(0.0).unwrap() < Duration::from_micros(2));
    }
}
