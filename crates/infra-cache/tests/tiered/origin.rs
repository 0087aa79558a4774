//! A source that records what it is asked, and fails or waits as a test says.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use infra_cache::{Edit, Loaded, Source};
use infra_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

/// A map behind a script.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) values: Mutex<HashMap<String, u64>>,
    /// Each load and each write, in order.
    pub(super) loads: Mutex<Vec<Vec<String>>>,
    pub(super) writes: Mutex<Vec<Vec<Edit<u64>>>>,
    /// How many loads run now, and how many ran at the same time at most.
    loading: AtomicUsize,
    pub(super) most: AtomicUsize,
    /// What the next writes end with.
    pub(super) faults: Mutex<Vec<Fault>>,
    /// How long each write takes.
    pub(super) slowness: Mutex<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing is written.
    Down,
    /// It is written, and nobody is told.
    Unanswered,
    /// It can never be written.
    Refused,
    Panics,
}

impl Origin {
    pub(super) fn value(&self, key: &str) -> Option<u64> {
        self.values.lock().get(key).copied()
    }

    pub(super) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut faults: Vec<_> = faults.into_iter().collect();
        faults.reverse();
        *self.faults.lock() = faults;
    }

    /// How many edits were written by calls that succeeded or were tried.
    pub(super) fn written(&self) -> usize {
        self.writes.lock().iter().map(Vec::len).sum()
    }

    fn apply(&self, edits: Vec<Edit<u64>>) {
        let mut values = self.values.lock();
        for Edit { key, value } in edits {
            match value {
                Some(value) => values.insert(key, value),
                None => values.remove(&key),
            };
        }
    }
}

#[async_trait]
impl Source<u64> for Origin {
    async fn load(&self, keys: Vec<String>) -> Result<HashMap<String, Loaded<u64>>> {
        let loading = self.loading.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(loading, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.loads.lock().push(keys.clone());
        let found = keys.into_iter().filter_map(|key| {
            let value = self.value(&key)?;
            Some((key, Loaded::new(value).tagged("all")))
        });
        let found = found.collect();
        tokio::task::yield_now().await;
        self.loading.fetch_sub(1, Ordering::SeqCst);
        Ok(found)
    }

    async fn write(&self, edits: Vec<Edit<u64>>) -> Result<()> {
        let slowness = *self.slowness.lock();
        if slowness.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(slowness).await;
        }
        let fault = self.faults.lock().pop();
        match fault {
            Some(Fault::Down) => return Err(Error::new(ErrorKind::Unavailable, "write")),
            Some(Fault::Refused) => return Err(Error::invalid("write", "never")),
            Some(Fault::Panics) => panic!("as planned"),
            Some(Fault::Unanswered) | None => {}
        }
        // A key above all others is one that the source always refuses.
        if edits.iter().any(|edit| edit.key == "~") {
            return Err(Error::invalid("write", "no such key"));
        }
        self.writes.lock().push(edits.clone());
        self.apply(edits);
        match fault {
            Some(Fault::Unanswered) => Err(Error::new(ErrorKind::Indeterminate, "write")),
            _ => Ok(()),
        }
    }
}
