//! What the clients of a run were told.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often each word came.
pub(crate) type Counts = BTreeMap<String, u64>;

/// What one client was told, over all of its connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// Its room.
    pub(crate) room: String,
    /// Its seat.
    pub(crate) seat: u64,
    /// The offset that each of its actions was acknowledged with.
    pub(crate) acks: BTreeMap<u64, u64>,
    /// The last event that it saw.
    pub(crate) seen: u64,
    /// Whether it saw the end of its game.
    pub(crate) is_over: bool,
    /// The longest that an action waited for its answer, from its intended time.
    pub(crate) worst: Duration,
    /// What it was refused with for a while.
    pub(crate) refused: Counts,
    /// How its connections ended, and why it got none.
    pub(crate) ended: Counts,
    /// How often it came back to the events that it had missed, and to the whole state.
    pub(crate) resumed: u64,
    /// How often it came back to the whole state.
    pub(crate) renewed: u64,
}

impl Told {
    /// Counts a word.
    pub(crate) fn count(counts: &mut Counts, word: &str) {
        *counts.entry(word.to_owned()).or_default() += 1;
    }

    /// Adds what another client was told.
    pub(crate) fn add(&mut self, other: &Self) {
        self.worst = self.worst.max(other.worst);
        self.resumed += other.resumed;
        self.renewed += other.renewed;
        let pairs = [(&mut self.refused, &other.refused), (&mut self.ended, &other.ended)];
        for (all, more) in pairs {
            for (word, count) in more {
                *all.entry(word.clone()).or_default() += count;
            }
        }
    }
}

/// Writes counts as a list; a dash if there are none.
pub(crate) fn listed(counts: &Counts) -> String {
    let mut text = String::new();
    for (word, count) in counts {
        let comma = if text.is_empty() { "" } else { ", " };
        // A string takes everything.
        let _written = write!(text, "{comma}{word} ×{count}").is_ok();
    }
    if text.is_empty() { "–".to_owned() } else { text }
}

/// When each answered action was due, and when it was answered.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Vec<(Instant, Instant)>>);

impl Meter {
    /// Counts an action.
    pub(crate) fn count(&self, due: Instant, answered: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((due, answered));
    }

    /// Returns how long 95 of 100 actions took at most that were due within a window, and how many
    /// there were; nothing if there were none.
    pub(crate) fn p95(&self, from: Instant, length: Duration) -> Option<(Duration, usize)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_within = |due: &Instant| from <= *due && *due < from + length;
        let within = all.iter().filter(|(due, _)| is_within(due));
        let mut times: Vec<_> =
            within.map(|(due, answered)| answered.saturating_duration_since(*due)).collect();
        times.sort_unstable();
        let p95 = times.get((times.len() * 95).div_ceil(100).saturating_sub(1)).copied()?;
        Some((p95, times.len()))
    }
}

/// What is normal: a p95, and how many actions are due in a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Normal {
    /// The p95 while nothing was wrong.
    pub(crate) p95: Duration,
    /// How many actions are due in a second.
    pub(crate) rate: u64,
}

/// How far apart the windows are that are looked at.
const STEP: Duration = Duration::from_millis(500);

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(1);

impl Normal {
    /// Returns below which p95 a window is normal: three times the undisturbed one, and at least a
    /// tenth of a second, since the machine has other things to do as well.
    pub(crate) fn limit(self) -> Duration {
        (self.p95 * 3).max(Duration::from_millis(100))
    }

    /// Returns how long after `from` the first of three normal windows in a row begins, if all of
    /// them are before `to`.
    pub(crate) fn after(self, meter: &Meter, from: Instant, to: Instant) -> Option<Duration> {
        let is_normal = |begin: Instant| {
            let few = usize::try_from(self.rate * 9 / 10).unwrap_or(usize::MAX);
            meter.p95(begin, WINDOW).is_some_and(|(p95, count)| p95 <= self.limit() && few <= count)
        };
        let mut n_normal = 0;
        for step in 0.. {
            let begin = from + STEP * step;
            if to < begin + WINDOW {
                break;
            }
            n_normal = if is_normal(begin) { n_normal + 1 } else { 0 };
            if n_normal == 3 {
                return Some(STEP * (step - 2));
            }
        }
        None
    }
}
