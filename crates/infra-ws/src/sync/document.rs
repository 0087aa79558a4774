//! The server's side of a document.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    hash::hash,
    patch::{Patch, diff},
};

/// How many versions a client may be behind and still get deltas.
const MAX_BEHIND: usize = 10;

/// What brings a client up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "strategy", rename_all = "snake_case", deny_unknown_fields)]
pub enum Update {
    /// It is up to date.
    Current {
        /// The version.
        version: u64,
    },
    /// The whole.
    Full {
        /// The version.
        version: u64,
        /// The state.
        state: Value,
        /// The [`hash`] of the state.
        hash: String,
    },
    /// What changed.
    Delta {
        /// The version that it is applied to.
        from: u64,
        /// The version that comes out.
        to: u64,
        /// The steps.
        patch: Patch,
        /// The [`hash`] of the state that comes out.
        hash: String,
    },
}

/// A document with its latest deltas.
#[derive(Debug)]
pub struct Document {
    version: u64,
    state: Value,
    hash: String,
    size: usize,
    /// What the state will be at the next tick.
    next: Option<Value>,
    /// The latest patches; the last one led to `version`.
    deltas: VecDeque<Patch>,
}

impl Document {
    /// Creates a document whose version is 1.
    pub fn new(state: Value) -> Self {
        Self::at(1, state)
    }

    /// Creates a document at a version, such as one that was stored.
    pub fn at(version: u64, state: Value) -> Self {
        let (hash, size) = (hash(&state), size(&state));
        Self { version, state, hash, size, next: None, deltas: VecDeque::new() }
    }

    /// Returns the version of the last tick.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Returns the state of the last tick.
    pub const fn state(&self) -> &Value {
        &self.state
    }

    /// Returns the state as it will be at the next tick.
    pub fn latest(&self) -> &Value {
        self.next.as_ref().unwrap_or(&self.state)
    }

    /// Sets what the state will be at the next tick; the last word counts.
    pub fn set(&mut self, state: Value) {
        self.next = Some(state);
    }

    /// Makes one delta of all changes since the last tick; returns whether anything changed.
    pub fn tick(&mut self) -> bool {
        let Some(next) = self.next.take() else { return false };
        let patch = diff(&self.state, &next);
        if patch.is_empty() {
            return false;
        }
        self.deltas.push_back(patch);
        if MAX_BEHIND < self.deltas.len() {
            self.deltas.pop_front();
        }
        (self.version, self.hash, self.size) = (self.version + 1, hash(&next), size(&next));
        self.state = next;
        true
    }

    /// Returns what brings a client at a version up to date: deltas that begin exactly there, or
    /// the whole if it has none, is too far behind or ahead, or the deltas would be larger.
    pub fn update_for(&self, version: Option<u64>) -> Update {
        if version == Some(self.version) {
            return Update::Current { version: self.version };
        }
        let delta = version.and_then(|from| self.delta_from(from));
        delta.unwrap_or_else(|| Update::Full {
            version: self.version,
            state: self.state.clone(),
            hash: self.hash.clone(),
        })
    }

    fn delta_from(&self, from: u64) -> Option<Update> {
        let behind = usize::try_from(self.version.checked_sub(from)?).ok()?;
        let first = self.deltas.len().checked_sub(behind)?;
        let patch: Patch = self.deltas.iter().skip(first).flatten().cloned().collect();
        let is_smaller = serde_json::to_vec(&patch).is_ok_and(|text| text.len() < self.size);
        let hash = self.hash.clone();
        is_smaller.then_some(Update::Delta { from, to: self.version, patch, hash })
    }
}

fn size(state: &Value) -> usize {
    state.to_string().len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn large(number: u64) -> Value {
        json!({"number": number, "rest": "x".repeat(500)})
    }

    #[test]
    fn the_last_word_of_a_tick_counts_and_no_change_is_no_version() {
        let mut document = Document::new(large(0));
        document.set(large(1));
        document.set(large(2));
        assert_eq!((document.state(), document.latest()), (&large(0), &large(2)));
        assert!(document.tick() && !document.tick());
        document.set(large(2));
        assert!(!document.tick());
        assert_eq!(document.version(), 2);
    }

    #[test]
    fn who_is_more_than_ten_behind_or_ahead_or_of_no_version_gets_the_whole() {
        let mut document = Document::new(large(0));
        for number in 1..=20 {
            document.set(large(number));
            document.tick();
        }
        let is_full = |version| matches!(document.update_for(version), Update::Full { .. });
        assert!(is_full(None) && is_full(Some(10)) && is_full(Some(22)) && is_full(Some(0)));
        assert!(!is_full(Some(11)) && !is_full(Some(20)));
        assert_eq!(document.update_for(Some(21)), Update::Current { version: 21 });
    }

    #[test]
    fn a_delta_that_would_be_larger_gives_way_to_the_whole() {
        let mut document = Document::at(7, json!({"long": "x".repeat(100)}));
        document.set(json!({}));
        document.tick();
        assert!(matches!(document.update_for(Some(7)), Update::Full { version: 8, .. }));
    }
}
