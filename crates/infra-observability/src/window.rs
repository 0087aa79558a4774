//! Figures over the last while: counts, averages and quantiles that age out.

use std::{sync::Arc, time::Duration};

use infra_core::{Clock, clock::Instant};
use parking_lot::Mutex;
use serde::Serialize;

/// The slots that a window is divided into; a value leaves when its slot does.
const SLOTS: usize = 60;

/// Each bucket's upper bound is this much above the one below it: quantiles are that exact.
const GROWTH: f64 = 1.05;

/// The upper bound of the first bucket, in seconds.
const FIRST: f64 = 0.000_1;

/// The buckets: up to 100 us times 1.05 to the 300, some 230 seconds.
const BUCKETS: usize = 300;

#[derive(Debug, Clone)]
struct Slot {
    /// Which slot since the clock's start; what was written under another number is old.
    number: u64,
    counts: Vec<u32>,
    count: u64,
    errors: u64,
    within: u64,
    total: Duration,
    least: Duration,
    most: Duration,
}

impl Slot {
    fn empty(number: u64) -> Self {
        Self {
            number,
            counts: vec![0; BUCKETS],
            count: 0,
            errors: 0,
            within: 0,
            total: Duration::ZERO,
            least: Duration::MAX,
            most: Duration::ZERO,
        }
    }
}

/// What happened within a window.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Figures {
    /// The operations.
    pub count: u64,
    /// Of these, those that failed.
    pub errors: u64,
    /// The share that failed; zero without operations.
    pub error_rate: f64,
    /// The share that was within the target; zero without operations.
    pub within_target: f64,
    /// The average duration.
    pub average: Duration,
    /// The shortest.
    pub least: Duration,
    /// The longest.
    pub most: Duration,
    /// The median, exact to 5 %.
    pub p50: Duration,
    /// 95 of 100 were at most this long, exact to 5 %.
    pub p95: Duration,
    /// 99 of 100 were at most this long, exact to 5 %.
    pub p99: Duration,
}

/// Durations and errors of one kind of operation over the last while, in fixed memory.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use infra_observability::window::Window;
/// use infra_testkit::clock::ManualClock;
///
/// let clock = ManualClock::new();
/// let window = Window::new(Duration::from_secs(60), Arc::new(clock.clone()));
/// window.record(Duration::from_millis(50), false);
/// assert_eq!(window.figures().count, 1);
/// clock.advance(Duration::from_secs(61));
/// assert_eq!(window.figures().count, 0);
/// ```
#[derive(Debug)]
pub struct Window {
    slot: Duration,
    target: (Duration, Duration),
    clock: Arc<dyn Clock>,
    slots: Mutex<Vec<Slot>>,
}

impl Window {
    /// Creates a window of the last `length`.
    pub fn new(length: Duration, clock: Arc<dyn Clock>) -> Self {
        let slots = u32::try_from(SLOTS).unwrap_or(u32::MAX);
        let slot = (length / slots).max(Duration::from_millis(1));
        let target = (Duration::ZERO, Duration::MAX);
        Self { slot, target, clock, slots: Mutex::new(Vec::with_capacity(SLOTS + 1)) }
    }

    /// Sets the durations that are as they should be, both ends included; all by default.
    #[must_use]
    pub const fn target(mut self, least: Duration, most: Duration) -> Self {
        self.target = (least, most);
        self
    }

    /// Records one operation.
    pub fn record(&self, took: Duration, has_failed: bool) {
        let number = self.number(self.clock.now());
        let mut slots = self.slots.lock();
        if slots.last().is_none_or(|last| last.number != number) {
            slots.retain(|slot| number < slot.number + SLOTS as u64);
            slots.push(Slot::empty(number));
        }
        let Some(slot) = slots.last_mut() else { return };
        slot.count += 1;
        slot.errors += u64::from(has_failed);
        slot.within += u64::from(self.target.0 <= took && took <= self.target.1);
        slot.total += took;
        slot.least = slot.least.min(took);
        slot.most = slot.most.max(took);
        if let Some(count) = slot.counts.get_mut(bucket(took)) {
            *count += 1;
        }
    }

    /// Returns what happened within the window that ends now.
    pub fn figures(&self) -> Figures {
        let number = self.number(self.clock.now());
        let slots = self.slots.lock();
        let recent = slots.iter().filter(|slot| number < slot.number + SLOTS as u64);
        let mut all = Slot::empty(number);
        for slot in recent {
            all.count += slot.count;
            all.errors += slot.errors;
            all.within += slot.within;
            all.total += slot.total;
            all.least = all.least.min(slot.least);
            all.most = all.most.max(slot.most);
            all.counts.iter_mut().zip(&slot.counts).for_each(|(sum, count)| *sum += count);
        }
        drop(slots);
        all.figures()
    }

    fn number(&self, now: Instant) -> u64 {
        let slots = now.since_start().as_nanos() / self.slot.as_nanos().max(1);
        u64::try_from(slots).unwrap_or(u64::MAX)
    }
}

impl Slot {
    #[expect(clippy::cast_precision_loss, reason = "shares and averages are rounded anyway")]
    fn figures(&self) -> Figures {
        if self.count == 0 {
            return Figures::default();
        }
        let share = |part: u64| part as f64 / self.count as f64;
        Figures {
            count: self.count,
            errors: self.errors,
            error_rate: share(self.errors),
            within_target: share(self.within),
            average: self.total.div_f64(self.count as f64),
            least: self.least,
            most: self.most,
            p50: self.quantile(50),
            p95: self.quantile(95),
            p99: self.quantile(99),
        }
    }

    /// Returns the upper bound of the bucket that holds the value of a rank, as the nearest-rank
    /// method counts it, and never more than the longest.
    fn quantile(&self, percent: u64) -> Duration {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if rank <= seen {
                return bound(place).clamp(self.least, self.most);
            }
        }
        self.most
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn bucket(took: Duration) -> usize {
    let place = (took.as_secs_f64() / FIRST).log(GROWTH).ceil();
    #[expect(clippy::cast_precision_loss, reason = "300 fits")]
    let last = (BUCKETS - 1) as f64;
    place.clamp(0.0, last) as usize
}

fn bound(place: usize) -> Duration {
    let place = i32::try_from(place).unwrap_or(i32::MAX);
    Duration::try_from_secs_f64(FIRST * GROWTH.powi(place)).unwrap_or(Duration::MAX)
}
