//! Windows that follow each other: the current one, and the one before it.

use std::time::Duration;

use super::length;
use crate::window::Window;

/// What was admitted in a window and in the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counter {
    /// Which window, counted from the clock's start.
    index: u64,
    current: u32,
    previous: u32,
}

impl Counter {
    /// Returns the counter as it stands at `now`, and how far its window has gone.
    fn at(self, window: &Window, now: u64) -> (Self, u64) {
        let index = now / length(window);
        let counter = match index.saturating_sub(self.index) {
            0 => self,
            1 => Self { index, current: 0, previous: self.current },
            _ => Self { index, current: 0, previous: 0 },
        };
        (counter, now % length(window))
    }

    pub(crate) fn plus(self, window: &Window, cost: u32, now: u64) -> Self {
        let (counter, _) = self.at(window, now);
        Self { current: counter.current.saturating_add(cost), ..counter }
    }

    /// Takes off what was paid at `paid_at`, if that window still counts.
    pub(crate) fn minus(self, window: &Window, unused: u32, paid_at: u64) -> Self {
        match self.index.checked_sub(paid_at / length(window)) {
            Some(0) => Self { current: self.current.saturating_sub(unused), ..self },
            Some(1) => Self { previous: self.previous.saturating_sub(unused), ..self },
            _ => self,
        }
    }

    pub(crate) fn fixed(self, window: &Window, now: u64) -> u32 {
        self.at(window, now).0.current
    }

    /// Returns the time until a cost fits into a fixed window, if it does not now.
    pub(crate) fn fixed_wait(self, window: &Window, cost: u32, now: u64) -> Option<Duration> {
        let (counter, gone) = self.at(window, now);
        let room = window.capacity().saturating_sub(counter.current);
        (room < cost).then(|| Duration::from_nanos(length(window) - gone))
    }

    pub(crate) fn fixed_reset(self, window: &Window, now: u64) -> u64 {
        let (counter, gone) = self.at(window, now);
        if counter.current == 0 { 0 } else { length(window) - gone }
    }

    /// Returns the weighted count, rounded up.
    pub(crate) fn sliding(self, window: &Window, now: u64) -> u32 {
        let (counter, gone) = self.at(window, now);
        let left = u128::from(length(window) - gone);
        let weighted = (u128::from(counter.previous) * left).div_ceil(u128::from(length(window)));
        counter.current.saturating_add(u32::try_from(weighted).unwrap_or(u32::MAX))
    }

    /// Returns the time until a cost fits into a sliding window, if it does not now.
    pub(crate) fn sliding_wait(self, window: &Window, cost: u32, now: u64) -> Option<Duration> {
        let count = self.sliding(window, now);
        if cost <= window.capacity().saturating_sub(count) {
            return None;
        }
        let (counter, gone) = self.at(window, now);
        let room = window.capacity().saturating_sub(cost);
        let wait = match room.checked_sub(counter.current) {
            Some(room) => fades_to(counter.previous, room, window).saturating_sub(gone),
            // It fits no more into this window; in the next one the current count fades.
            None => length(window) - gone + fades_to(counter.current, room, window),
        };
        Some(Duration::from_nanos(wait.max(1)))
    }

    pub(crate) fn sliding_reset(self, window: &Window, now: u64) -> u64 {
        match self.at(window, now) {
            (Self { current: 0, previous: 0, .. }, _) => 0,
            (Self { current: 0, .. }, gone) => length(window) - gone,
            (_, gone) => 2 * length(window) - gone,
        }
    }
}

/// Returns how far a window must have gone until `count` of the one before weighs at most `room`.
fn fades_to(count: u32, room: u32, window: &Window) -> u64 {
    if count <= room {
        return 0;
    }
    let kept = u128::from(room) * u128::from(length(window)) / u128::from(count.max(1));
    length(window).saturating_sub(u64::try_from(kept).unwrap_or(u64::MAX))
}
