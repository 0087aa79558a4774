//! How a queue is kept within bounds.

use std::{num::NonZeroU32, time::Duration};

use infra_core::{
    clock::Instant,
    queue::{Attempts, Cause},
};

use super::{entry::Entry, order::Weigh};

/// What happens to a publish when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overflow {
    /// It is refused as [`Overloaded`](infra_core::ErrorKind::Overloaded).
    #[default]
    Refuse,
    /// It waits until there is room.
    Wait,
    /// The oldest messages that nobody has in hand become dead letters; if that is not enough, it is
    /// refused.
    DeadLetterOldest,
}

/// The bounds of a queue; only the capacity has no default.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub(crate) capacity: usize,
    pub(crate) overflow: Overflow,
    pub(crate) max_failures: u32,
    pub(crate) max_crashes: u32,
    pub(crate) max_deliveries: Option<u32>,
    pub(crate) max_releases: Option<u32>,
    pub(crate) weigh: Option<Weigh>,
    pub(crate) ageing: Option<NonZeroU32>,
    pub(crate) window: Duration,
    pub(crate) max_dedup: usize,
    pub(crate) max_dead: usize,
    pub(crate) parks_keys: bool,
}

impl Options {
    /// Creates the options of a queue that holds at most `capacity` messages: those that are
    /// ready, delayed and in somebody's hands together.
    pub const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            overflow: Overflow::Refuse,
            max_failures: 5,
            max_crashes: 3,
            max_deliveries: None,
            max_releases: None,
            weigh: None,
            ageing: NonZeroU32::new(64),
            window: Duration::from_mins(5),
            max_dedup: 100_000,
            max_dead: 10_000,
            parks_keys: false,
        }
    }

    /// Sets what happens when it is full; refused by default.
    #[must_use]
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets after how many failures a message is a dead letter (5, at least 1).
    #[must_use]
    pub const fn max_failures(mut self, failures: u32) -> Self {
        self.max_failures = failures;
        self
    }

    /// Sets after how many lost consumers a message is a dead letter (3, at least 1).
    #[must_use]
    pub const fn max_crashes(mut self, crashes: u32) -> Self {
        self.max_crashes = crashes;
        self
    }

    /// Sets after how many deliveries, however they ended, a message is a dead letter (no limit).
    #[must_use]
    pub const fn max_deliveries(mut self, deliveries: u32) -> Self {
        self.max_deliveries = Some(deliveries);
        self
    }

    /// Sets after how many releases a message is a dead letter (no limit, so a deployment kills
    /// none).
    #[must_use]
    pub const fn max_releases(mut self, releases: u32) -> Self {
        self.max_releases = Some(releases);
        self
    }

    /// Makes the queue fair to keys (it is not): within a priority each key has one turn a round,
    /// however many messages it has waiting; one of weight `n` has `n`. A message without a key is
    /// a key of its own. By default the oldest message comes first.
    #[must_use]
    pub const fn fair(mut self, weigh: Weigh) -> Self {
        self.weigh = Some(weigh);
        self
    }

    /// Sets that each `n`-th message that is handed out is the oldest that is ready, whatever its
    /// priority (64): with `k` older ready ones, a message waits for at most `n * (k + 1)` others.
    /// `None` keeps to priorities alone, and one of low priority may wait for ever.
    #[must_use]
    pub const fn oldest_every(mut self, n: Option<NonZeroU32>) -> Self {
        self.ageing = n;
        self
    }

    /// Sets how long a dedup id is known (5 minutes).
    #[must_use]
    pub const fn dedup_window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how many dedup ids are known at most (100,000); beyond them a message with a new one is
    /// refused, since to forget one early would publish it twice.
    #[must_use]
    pub const fn max_dedup(mut self, ids: usize) -> Self {
        self.max_dedup = ids;
        self
    }

    /// Sets how many dead letters are kept (10,000); the oldest go first, and are counted.
    #[must_use]
    pub const fn max_dead(mut self, letters: usize) -> Self {
        self.max_dead = letters;
        self
    }

    /// Sets that a key waits behind its dead letter (it does not): its later messages are delivered
    /// once the letter is replayed, which comes before them then, or purged. Other keys flow. What
    /// died of its time, or was displaced, holds up nobody.
    #[must_use]
    pub const fn park_keys(mut self) -> Self {
        self.parks_keys = true;
        self
    }
}

impl Options {
    /// Returns why an entry that nobody has in hand may not live on, if so.
    pub(crate) fn end_of(&self, entry: &Entry, now: Instant) -> Option<(Cause, String)> {
        if !entry.is_free() {
            return None;
        }
        let last = entry.history.last().map_or("", |last| last.reason.as_str());
        let over = || (Cause::Expired, "its time to live is over".to_owned());
        let verdict = self.verdict(entry.attempts, last);
        verdict.or_else(|| entry.end.is_some_and(|end| end <= now).then(over))
    }

    /// Returns whether a key waits behind a dead letter of this cause.
    pub(crate) fn parks(&self, cause: Cause) -> bool {
        self.parks_keys && !matches!(cause, Cause::Expired | Cause::Displaced)
    }

    /// Returns why a message that was tried so often may not live on, if so.
    pub(crate) fn verdict(&self, attempts: Attempts, last: &str) -> Option<(Cause, String)> {
        let Attempts { deliveries, crashes, releases, .. } = attempts;
        if self.max_crashes <= crashes {
            return Some((
                Cause::Crashed,
                format!("{crashes} consumers were lost with it: {last}"),
            ));
        }
        if self.max_deliveries.is_some_and(|most| most <= deliveries) {
            return Some((Cause::Exhausted, format!("it was delivered {deliveries} times")));
        }
        if self.max_releases.is_some_and(|most| most <= releases) {
            return Some((Cause::Exhausted, format!("it was given back {releases} times")));
        }
        None
    }
}
