//! What the last calls of a closed circuit were, counted without a lock.
//!
//! An outcome is written by swapping it in and adding the difference to what was there, so the sums
//! always are those of the cells, whatever the threads do. Between the swap and the addition
//! another thread may judge by sums that are one outcome old; an outcome that is recorded by a
//! thread which was stopped just before, for a whole open time, counts in the next life of the
//! circuit. Both are one call, once.

use std::{num::NonZeroU32, time::Duration};

use infra_core::clock::Instant;

use super::sync::{AtomicI64, AtomicU8, AtomicU64, Mutex, Ordering::SeqCst};

/// Over which calls a breaker judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// The last so many.
    Calls(NonZeroU32),
    /// Those of the last time; it costs one reading of the clock per call.
    Time {
        /// How long; it moves on a tenth at a time.
        length: Duration,
    },
}

/// How many parts a window of time has.
const SLICES: u64 = 10;

/// A call that was recorded: whether it failed and whether it was slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample(u8);

impl Sample {
    const FAILED: u8 = 1;
    const SLOW: u8 = 2;
    const EMPTY: Self = Self(0);

    pub(super) const fn new(has_failed: bool, is_slow: bool) -> Self {
        let failed = if has_failed { Self::FAILED } else { 0 };
        Self(failed | if is_slow { Self::SLOW } else { 0 })
    }

    pub(super) const fn has_failed(self) -> bool {
        self.0 & Self::FAILED != 0
    }

    pub(super) const fn is_slow(self) -> bool {
        self.0 & Self::SLOW != 0
    }

    pub(super) const fn is_good(self) -> bool {
        self.0 == 0
    }
}

/// The sums of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many calls.
    pub calls: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How many of them were slow.
    pub slow: u64,
}

#[derive(Debug)]
pub(super) enum Counts {
    Calls(Ring),
    Time(Slices),
}

impl Counts {
    pub(super) fn new(window: Window) -> Self {
        match window {
            Window::Calls(size) => Self::Calls(Ring::new(size)),
            Window::Time { length } => Self::Time(Slices::new(length)),
        }
    }

    /// Records one call and returns the sums with it.
    #[inline]
    pub(super) fn record(&self, sample: Sample, now: impl Fn() -> Instant) -> Tally {
        match self {
            Self::Calls(ring) => ring.record(sample),
            Self::Time(slices) => slices.record(sample, now()),
        }
    }

    pub(super) fn tally(&self, now: impl Fn() -> Instant) -> Tally {
        match self {
            Self::Calls(ring) => ring.tally(ring.head.load(SeqCst)),
            Self::Time(slices) => slices.tally(slices.index(now())),
        }
    }

    pub(super) fn clear(&self) {
        match self {
            Self::Calls(ring) => ring.clear(),
            Self::Time(slices) => slices.clear(),
        }
    }

    /// Returns how many calls were recorded in all lives.
    pub(super) fn recorded(&self) -> u64 {
        match self {
            Self::Calls(ring) => ring.head.load(SeqCst),
            Self::Time(slices) => slices.recorded.load(SeqCst),
        }
    }
}

/// The last calls, one cell each.
#[derive(Debug)]
pub(super) struct Ring {
    cells: Box<[AtomicU8]>,
    size: u32,
    head: AtomicU64,
    start: AtomicU64,
    failures: AtomicI64,
    slow: AtomicI64,
}

impl Ring {
    fn new(size: NonZeroU32) -> Self {
        Self {
            cells: (0..size.get()).map(|_| AtomicU8::new(0)).collect(),
            size: size.get(),
            head: AtomicU64::new(0),
            start: AtomicU64::new(0),
            failures: AtomicI64::new(0),
            slow: AtomicI64::new(0),
        }
    }

    #[inline]
    fn record(&self, sample: Sample) -> Tally {
        let position = self.head.fetch_add(1, SeqCst);
        // The low half is enough to go round, and divides faster.
        #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
        let cell = position as u32 % self.size;
        if let Some(cell) = usize::try_from(cell).ok().and_then(|cell| self.cells.get(cell)) {
            self.replace(cell, sample);
        }
        self.tally(position + 1)
    }

    #[inline]
    fn replace(&self, cell: &AtomicU8, sample: Sample) {
        // Mostly a success takes the place of a success: to swap it in would change nothing.
        if cell.load(SeqCst) == sample.0 {
            return;
        }
        let old = Sample(cell.swap(sample.0, SeqCst));
        let change = |new: bool, old: bool| i64::from(new) - i64::from(old);
        let failures = change(sample.has_failed(), old.has_failed());
        let slow = change(sample.is_slow(), old.is_slow());
        if failures != 0 {
            self.failures.fetch_add(failures, SeqCst);
        }
        if slow != 0 {
            self.slow.fetch_add(slow, SeqCst);
        }
    }

    #[inline]
    fn tally(&self, head: u64) -> Tally {
        let sum = |sum: &AtomicI64| u64::try_from(sum.load(SeqCst)).unwrap_or(0);
        let calls = head.saturating_sub(self.start.load(SeqCst)).min(u64::from(self.size));
        Tally { calls, failures: sum(&self.failures), slow: sum(&self.slow) }
    }

    fn clear(&self) {
        for cell in &self.cells {
            self.replace(cell, Sample::EMPTY);
        }
        self.start.store(self.head.load(SeqCst), SeqCst);
    }
}

/// The last time in ten parts.
#[derive(Debug)]
pub(super) struct Slices {
    parts: Box<[Slice]>,
    length: Duration,
    /// Held while a part begins anew; never while calls are counted in one that runs.
    turning: Mutex<()>,
    recorded: AtomicU64,
}

#[derive(Debug)]
struct Slice {
    /// Which part since the clock's start, plus one; zero is none.
    index: AtomicU64,
    calls: AtomicU64,
    failures: AtomicU64,
    slow: AtomicU64,
}

impl Slices {
    fn new(length: Duration) -> Self {
        let slice = || Slice {
            index: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            slow: AtomicU64::new(0),
        };
        Self {
            parts: (0..SLICES).map(|_| slice()).collect(),
            length: length.max(Duration::from_micros(SLICES)),
            turning: Mutex::new(()),
            recorded: AtomicU64::new(0),
        }
    }

    fn index(&self, now: Instant) -> u64 {
        let part = (self.length.as_nanos() / u128::from(SLICES)).max(1);
        u64::try_from(now.since_start().as_nanos() / part).unwrap_or(u64::MAX - 1) + 1
    }

    fn record(&self, sample: Sample, now: Instant) -> Tally {
        self.recorded.fetch_add(1, SeqCst);
        let index = self.index(now);
        let place = usize::try_from(index % SLICES).unwrap_or(0);
        if let Some(slice) = self.parts.get(place) {
            if slice.index.load(SeqCst) != index {
                self.turn(slice, index);
            }
            slice.calls.fetch_add(1, SeqCst);
            if sample.has_failed() {
                slice.failures.fetch_add(1, SeqCst);
            }
            if sample.is_slow() {
                slice.slow.fetch_add(1, SeqCst);
            }
        }
        self.tally(index)
    }

    fn turn(&self, slice: &Slice, index: u64) {
        let _turning = self.turning.lock();
        if slice.index.load(SeqCst) < index {
            slice.calls.store(0, SeqCst);
            slice.failures.store(0, SeqCst);
            slice.slow.store(0, SeqCst);
            slice.index.store(index, SeqCst);
        }
    }

    fn tally(&self, index: u64) -> Tally {
        let first = (index + 1).saturating_sub(SLICES);
        let is_current = |slice: &&Slice| {
            let of = slice.index.load(SeqCst);
            of != 0 && first <= of
        };
        self.parts.iter().filter(is_current).fold(Tally::default(), |sum, slice| Tally {
            calls: sum.calls + slice.calls.load(SeqCst),
            failures: sum.failures + slice.failures.load(SeqCst),
            slow: sum.slow + slice.slow.load(SeqCst),
        })
    }

    fn clear(&self) {
        let _turning = self.turning.lock();
        for slice in &self.parts {
            slice.index.store(0, SeqCst);
            slice.calls.store(0, SeqCst);
            slice.failures.store(0, SeqCst);
            slice.slow.store(0, SeqCst);
        }
    }
}
