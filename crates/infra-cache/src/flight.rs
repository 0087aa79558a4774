//! A load that is on its way, and the errors of loads that failed a moment ago.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use infra_core::{Error, Result, backoff::Backoff};
use tokio::sync::SetOnce;

use crate::entry::{Entry, NEVER, Nanos, nanos};
use crate::read::Origin;

/// What a load came to. Its value may be one that must not be kept.
#[derive(Debug)]
pub(crate) struct Landed<V> {
    pub(crate) entry: Arc<Entry<V>>,
    pub(crate) origin: Origin,
}

impl<V> Clone for Landed<V> {
    fn clone(&self) -> Self {
        Self { entry: Arc::clone(&self.entry), origin: self.origin }
    }
}

/// One load, shared by all who wait for it. It runs in a task of its own, so who goes ends nothing.
#[derive(Debug)]
pub(crate) struct Flight<V> {
    /// When it began, by the count of changes.
    pub(crate) ticket: u64,
    pub(crate) outcome: SetOnce<Result<Landed<V>>>,
}

impl<V> Flight<V> {
    pub(crate) fn new(ticket: u64) -> Arc<Self> {
        Arc::new(Self { ticket, outcome: SetOnce::new() })
    }
}

/// An error that is told again until its time is over.
#[derive(Debug, Clone)]
struct Failure {
    error: Error,
    until: Nanos,
    attempt: u32,
}

/// The errors of a shard's keys, at most [`Failures::LIMIT`] of them; more are told only to those
/// who waited.
#[derive(Debug)]
pub(crate) struct Failures<K>(HashMap<K, Failure>);

impl<K: Hash + Eq + Clone> Failures<K> {
    pub(crate) const LIMIT: usize = 256;

    pub(crate) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Returns the error that a key's load ended with, while it is told again.
    pub(crate) fn get(&self, key: &K, now: Nanos) -> Option<Error> {
        let failure = self.0.get(key)?;
        (now < failure.until).then(|| failure.error.clone())
    }

    /// Notes that a load failed; returns whether that could be kept.
    pub(crate) fn note(&mut self, key: &K, error: &Error, now: Nanos, pause: &Backoff) -> bool {
        if Self::LIMIT <= self.0.len() && !self.0.contains_key(key) {
            self.0.retain(|_, failure| now < failure.until);
        }
        if Self::LIMIT <= self.0.len() && !self.0.contains_key(key) {
            return false;
        }
        let attempt = self.0.get(key).map_or(1, |failure| failure.attempt.saturating_add(1));
        let until = now.saturating_add(nanos(pause.pause_before(attempt))).min(NEVER - 1);
        let error = error.clone();
        self.0.insert(key.clone(), Failure { error, until, attempt });
        true
    }

    pub(crate) fn forget(&mut self, key: &K) {
        if !self.0.is_empty() {
            self.0.remove(key);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use infra_core::ErrorKind;

    use super::*;

    #[test]
    fn an_error_is_told_for_longer_each_time_and_only_a_bounded_number_is_kept() {
        let pause = Backoff::exponential(Duration::from_nanos(10));
        let error = Error::new(ErrorKind::Unavailable, "load");
        let mut failures = Failures::new();
        assert!(failures.note(&0, &error, 100, &pause));
        assert!(failures.get(&0, 109).is_some());
        assert!(failures.get(&0, 110).is_none(), "at its end it is over");
        failures.note(&0, &error, 110, &pause);
        assert!(failures.get(&0, 129).is_some(), "the second time twice as long");
        let kept = (1..1_000).filter(|key| failures.note(key, &error, 115, &pause)).count();
        assert_eq!(kept, Failures::<i32>::LIMIT - 1);
        assert!(failures.note(&5_000, &error, 500, &pause), "those that are over make room");
        failures.forget(&5_000);
        assert!(failures.get(&5_000, 500).is_none());
    }
}
