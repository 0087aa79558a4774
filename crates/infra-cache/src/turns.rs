//! Turns: who changes a key waits for whoever changes it now.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// How many locks the keys are divided among; two keys that share one wait for each other.
const STRIPES: usize = 256;

/// A fixed number of locks that may be held while something is awaited, in the order in which they were asked for.
#[derive(Debug)]
pub(crate) struct Turns {
    first: Mutex<()>,
    rest: Box<[Mutex<()>]>,
    hasher: RandomState,
}

impl Turns {
    pub(crate) fn new() -> Self {
        let rest = (1..STRIPES).map(|_| Mutex::new(())).collect();
        Self { first: Mutex::new(()), rest, hasher: RandomState::new() }
    }

    /// Waits for the turn of a key; it ends with the guard.
    pub(crate) async fn take(&self, key: &str) -> MutexGuard<'_, ()> {
        let stripe = usize::try_from(self.hasher.hash_one(key)).unwrap_or(0) % STRIPES;
        self.rest.get(stripe).unwrap_or(&self.first).lock().await
    }
}
