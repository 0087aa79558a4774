//! The exact sliding window: every admission, until it is as old as the window is long.

use std::{collections::VecDeque, time::Duration};

use super::length;
use crate::window::Window;

/// What was admitted at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    at: u64,
    cost: u32,
}

/// The admissions, oldest first; those of one time are one entry, so there are never more than
/// the capacity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::box_collection, reason = "a cell of another algorithm is half as large")]
pub(crate) struct Log(Box<VecDeque<Entry>>);

impl Log {
    /// Returns the most bytes that a log of a limit takes.
    pub(crate) fn bytes(capacity: u32) -> usize {
        let entries = usize::try_from(capacity).unwrap_or(usize::MAX);
        size_of::<VecDeque<Entry>>().saturating_add(size_of::<Entry>().saturating_mul(entries))
    }

    fn counted(&self, window: &Window, now: u64) -> impl Iterator<Item = &Entry> {
        let length = length(window);
        self.0.iter().filter(move |entry| now < entry.at.saturating_add(length))
    }

    pub(crate) fn count(&self, window: &Window, now: u64) -> u32 {
        self.counted(window, now).fold(0, |sum, entry| sum.saturating_add(entry.cost))
    }

    /// Returns the time until a cost fits, if it does not now: until enough of the oldest ended.
    pub(crate) fn wait(&self, window: &Window, cost: u32, now: u64) -> Option<Duration> {
        let mut count = self.count(window, now);
        let fits = |count| cost <= window.capacity().saturating_sub(count);
        if fits(count) {
            return None;
        }
        let mut end = now;
        for entry in self.counted(window, now) {
            count = count.saturating_sub(entry.cost);
            end = entry.at.saturating_add(length(window));
            if fits(count) {
                break;
            }
        }
        Some(Duration::from_nanos(end.saturating_sub(now).max(1)))
    }

    pub(crate) fn push(&mut self, window: &Window, cost: u32, now: u64) {
        self.forget(window, now);
        if cost == 0 {
            return;
        }
        match self.0.back_mut() {
            Some(last) if last.at == now => last.cost = last.cost.saturating_add(cost),
            _ => {
                self.make_room(window.capacity());
                self.0.push_back(Entry { at: now, cost });
            }
        }
    }

    /// Forgets what has left the window.
    pub(crate) fn forget(&mut self, window: &Window, now: u64) {
        let length = length(window);
        while self.0.front().is_some_and(|entry| entry.at.saturating_add(length) <= now) {
            self.0.pop_front();
        }
    }

    /// Grows by halves and never beyond the capacity, so that the bytes are those that were counted.
    fn make_room(&mut self, capacity: u32) {
        let entries = self.0.len();
        if self.0.capacity() == entries {
            let most = usize::try_from(capacity).unwrap_or(usize::MAX);
            let more = (entries / 2).clamp(1, most.saturating_sub(entries).max(1));
            self.0.reserve_exact(more);
        }
    }

    pub(crate) fn remove(&mut self, unused: u32, paid_at: u64) {
        if let Ok(place) = self.0.binary_search_by_key(&paid_at, |entry| entry.at)
            && let Some(entry) = self.0.get_mut(place)
        {
            entry.cost = entry.cost.saturating_sub(unused);
            if entry.cost == 0 {
                self.0.remove(place);
            }
        }
    }

    pub(crate) fn reset(&self, window: &Window, now: u64) -> u64 {
        let last = self.0.back().map_or(0, |entry| entry.at.saturating_add(length(window)));
        last.saturating_sub(now)
    }
}
