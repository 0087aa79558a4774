//! A histogram over fixed upper bounds, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use infra_core::{context::Context, trace::TraceContext};
use metrics::HistogramFn;
use parking_lot::Mutex;

use crate::thrift::{Thrift, Withheld};

/// A value of a histogram and the trace in which it was recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar {
    /// The value.
    pub value: f64,
    /// The trace and span.
    pub trace: TraceContext,
}

/// Counts values below each upper bound, and keeps their sum.
///
/// Its memory is fixed, however many values it takes and whether or not anybody reads it. Each
/// bucket keeps the last value that was recorded within a sampled trace, as its exemplar.
#[derive(Debug)]
pub struct Buckets {
    bounds: &'static [f64],
    /// One more than the bounds: the last one is for everything above.
    counts: Vec<AtomicU64>,
    /// The bits of a double.
    sum: AtomicU64,
    exemplars: Vec<Mutex<Option<Exemplar>>>,
    thrift: Thrift,
}

impl Buckets {
    /// Creates an empty histogram; `bounds` must grow.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self::thrifty(bounds, Thrift::default())
    }

    /// Creates an empty histogram that keeps no exemplars while they are withheld.
    pub(super) fn thrifty(bounds: &'static [f64], thrift: Thrift) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        let exemplars = (0..=bounds.len()).map(|_| Mutex::new(None)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0), exemplars, thrift }
    }

    /// Returns the upper bounds.
    pub const fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// Returns how many values fell at or below each bound, cumulated; the last is all of them.
    pub fn cumulated(&self) -> Vec<u64> {
        let mut total = 0;
        // Relaxed: a scrape may miss a value that is being recorded; the next one has it.
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        counts
            .map(|count| {
                total += count;
                total
            })
            .collect()
    }

    /// Returns the sum of all values.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }

    /// Returns the exemplar of each bucket, in the order of the bounds.
    pub fn exemplars(&self) -> Vec<Option<Exemplar>> {
        self.exemplars.iter().map(|exemplar| *exemplar.lock()).collect()
    }

    fn keep(&self, bucket: usize, value: f64) {
        let Some(trace) = Context::current_trace().filter(|trace| trace.is_sampled()) else {
            return;
        };
        if self.thrift.withholds(Withheld::Exemplars) {
            return;
        }
        // Whoever finds it taken leaves it: any value of the bucket will do.
        if let Some(mut exemplar) = self.exemplars.get(bucket).and_then(Mutex::try_lock) {
            *exemplar = Some(Exemplar { value, trace });
        }
    }

    fn add(&self, value: f64, times: u64) {
        // NaN belongs nowhere, and one would make the sum useless for ever.
        if value.is_nan() {
            return;
        }
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(times, Ordering::Relaxed);
        }
        #[expect(clippy::cast_precision_loss, reason = "a sum of doubles is rounded anyway")]
        let added = value * times as f64;
        self.keep(bucket, value);
        let add = |bits| Some((f64::from_bits(bits) + added).to_bits());
        // It cannot fail: the closure always returns a value.
        let _previous = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.add(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        self.add(value, u64::try_from(count).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: &[f64] = &[1.0, 2.0, 5.0];

    #[test]
    fn a_value_at_a_bound_belongs_below_it() {
        let buckets = Buckets::new(BOUNDS);
        for value in [0.5, 1.0, 1.5, 5.0, 6.0] {
            buckets.record(value);
        }
        buckets.record(f64::NAN);
        buckets.record_many(2.0, 2);
        assert_eq!(buckets.cumulated(), [2, 5, 6, 7]);
        assert!((buckets.sum() - 18.0).abs() < 1e-9);
        assert_eq!(buckets.bounds(), BOUNDS);
    }

    proptest! {
        #[test]
        fn each_bucket_counts_what_is_not_above_its_bound(
            values in proptest::collection::vec(-1.0..10.0_f64, 0..50),
        ) {
            let buckets = Buckets::new(BOUNDS);
            for value in &values {
                buckets.record(*value);
            }
            let below = |bound: f64| values.iter().filter(|value| **value <= bound).count() as u64;
            let mut wanted: Vec<u64> = BOUNDS.iter().map(|bound| below(*bound)).collect();
            wanted.push(values.len() as u64);
            prop_assert_eq!(buckets.cumulated(), wanted);
        }
    }

    #[test]
    fn a_bucket_keeps_the_last_value_of_a_sampled_trace() {
        let random = infra_core::random::Random::seeded(1);
        let (sampled, other) =
            (TraceContext::root(&random, true), TraceContext::root(&random, false));
        let buckets = Buckets::new(BOUNDS);
        Context::default().trace(sampled).sync_scope(|| buckets.record(1.5));
        Context::default().trace(other).sync_scope(|| buckets.record(1.75));
        buckets.record(0.5);
        let kept = Some(Exemplar { value: 1.5, trace: sampled });
        assert_eq!(buckets.exemplars(), [None, kept, None, None]);
    }

    #[test]
    fn threads_lose_no_value() {
        let buckets = Buckets::new(BOUNDS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| buckets.record(1.0)));
            }
        });
        assert_eq!(buckets.cumulated().last(), Some(&40_000));
        assert!((buckets.sum() - 40_000.0).abs() < 1e-9);
    }
}
