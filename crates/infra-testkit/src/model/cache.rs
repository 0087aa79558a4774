//! The cache as the contract reads; when it is full, the oldest value goes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    Clock, Result,
    cache::{Cache, Found, Looked, Put, Ticket},
    clock::Instant,
};
use parking_lot::Mutex;

/// Keeps values in a list, oldest first.
#[derive(Debug)]
pub struct ModelCache {
    clock: Arc<dyn Clock>,
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    values: Vec<(Put, Option<Instant>)>,
    /// How many changes there were, and the last one of each key, each tag and everything.
    tick: u64,
    changed: HashMap<String, u64>,
    untagged: HashMap<String, u64>,
    cleared: u64,
}

impl ModelCache {
    /// Creates an empty cache with room for `capacity` values; deadlines are judged by `clock`.
    pub fn new(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self { clock, capacity, state: Mutex::default() }
    }

    /// Does something with what is kept, without those whose time is over.
    fn with<T>(&self, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.values.retain(|(_, deadline)| deadline.is_none_or(|deadline| now < deadline));
        act(&mut state, now)
    }
}

impl State {
    fn put(&mut self, put: Put, now: Instant, capacity: usize) {
        self.values.retain(|(own, _)| own.key != put.key);
        if put.ttl != Some(Duration::ZERO) {
            let deadline = put.ttl.map(|ttl| now + ttl);
            self.values.push((put, deadline));
        }
        let excess = self.values.len().saturating_sub(capacity);
        self.values.drain(..excess);
    }

    fn change(&mut self, key: &str) {
        self.tick += 1;
        self.changed.insert(key.to_owned(), self.tick);
    }

    fn admits(&self, ticket: Ticket, put: &Put) -> bool {
        let is_older = |last: Option<&u64>| last.is_none_or(|last| *last <= ticket.tick);
        is_older(self.changed.get(&put.key))
            && self.cleared <= ticket.tick
            && put.tags.iter().all(|tag| is_older(self.untagged.get(tag)))
    }
}

#[async_trait]
impl Cache for ModelCache {
    async fn look(&self, keys: &[&str]) -> Result<Looked> {
        Ok(self.with(|state, now| {
            let find = |key: &&str| {
                let (put, deadline) = state.values.iter().find(|(own, _)| own.key == **key)?;
                let left = deadline.map(|deadline| deadline.since(now));
                Some(Found { value: put.value.clone(), left, tags: put.tags.clone() })
            };
            let ticket = Ticket { life: 0, tick: state.tick };
            Looked { found: keys.iter().map(find).collect(), ticket }
        }))
    }

    async fn put_many(&self, puts: Vec<Put>) -> Result<()> {
        self.with(|state, now| {
            for put in puts {
                state.change(&put.key);
                state.put(put, now, self.capacity);
            }
        });
        Ok(())
    }

    async fn fill(&self, ticket: Ticket, puts: Vec<Put>) -> Result<u64> {
        Ok(self.with(|state, now| {
            let mut stored = 0;
            for put in puts {
                if state.admits(ticket, &put) {
                    state.put(put, now, self.capacity);
                    stored += 1;
                }
            }
            stored
        }))
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<u64> {
        Ok(self.with(|state, _| {
            let keys: BTreeSet<&str> = keys.iter().copied().collect();
            for key in &keys {
                state.change(key);
            }
            let before = state.values.len();
            state.values.retain(|(own, _)| !keys.contains(own.key.as_str()));
            (before - state.values.len()) as u64
        }))
    }

    async fn tagged(&self, tag: &str) -> Result<Vec<String>> {
        Ok(self.with(|state, _| {
            let carry =
                state.values.iter().filter(|(put, _)| put.tags.iter().any(|own| own == tag));
            carry.map(|(put, _)| put.key.clone()).collect()
        }))
    }

    async fn remove_tag(&self, tag: &str) -> Result<u64> {
        Ok(self.with(|state, _| {
            state.tick += 1;
            state.untagged.insert(tag.to_owned(), state.tick);
            let before = state.values.len();
            state.values.retain(|(put, _)| put.tags.iter().all(|own| own != tag));
            (before - state.values.len()) as u64
        }))
    }

    async fn scan(&self, prefix: &str, _cursor: u64) -> Result<(Vec<String>, u64)> {
        Ok(self.with(|state, _| {
            let keys = state.values.iter().map(|(put, _)| &put.key);
            (keys.filter(|key| key.starts_with(prefix)).cloned().collect(), 0)
        }))
    }

    async fn clear(&self) -> Result<()> {
        self.with(|state, _| {
            state.tick += 1;
            state.cleared = state.tick;
            state.values.clear();
        });
        Ok(())
    }
}
