//! The client's side of a document.

use std::fmt;

use serde_json::Value;

use super::{document::Update, hash::hash};

/// Why a client must ask for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NeedsFull {
    /// The delta begins at another version.
    Gap,
    /// The delta does not fit the state.
    Unfit,
    /// The state that came out is not the server's.
    Hash,
}

impl fmt::Display for NeedsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gap => "delta begins at another version",
            Self::Unfit => "delta does not fit the state",
            Self::Hash => "state is not the server's",
        })
    }
}

impl std::error::Error for NeedsFull {}

/// A client's copy of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    version: Option<u64>,
    state: Value,
}

impl Replica {
    /// Creates a copy of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the version of the copy; `None` if there is none that can be trusted.
    pub const fn version(&self) -> Option<u64> {
        self.version
    }

    /// Returns the state.
    pub const fn state(&self) -> &Value {
        &self.state
    }

    /// Takes an update.
    ///
    /// # Errors
    ///
    /// Why it cannot be taken; the version is `None` afterwards, so the next update asked for is
    /// the whole.
    pub fn apply(&mut self, update: Update) -> Result<(), NeedsFull> {
        let applied = self.try_apply(update);
        if applied.is_err() {
            self.version = None;
        }
        applied
    }

    fn try_apply(&mut self, update: Update) -> Result<(), NeedsFull> {
        match update {
            Update::Current { version } if self.version == Some(version) => Ok(()),
            Update::Current { .. } => Err(NeedsFull::Gap),
            Update::Full { version, state, hash: wanted } => {
                if hash(&state) != wanted {
                    return Err(NeedsFull::Hash);
                }
                *self = Self { version: Some(version), state };
                Ok(())
            }
            Update::Delta { from, .. } if self.version != Some(from) => Err(NeedsFull::Gap),
            Update::Delta { to, patch, hash: wanted, from: _ } => {
                let mut state = self.state.clone();
                let fits = patch.iter().try_for_each(|op| op.apply(&mut state));
                fits.map_err(|_| NeedsFull::Unfit)?;
                if hash(&state) != wanted {
                    return Err(NeedsFull::Hash);
                }
                *self = Self { version: Some(to), state };
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::sync::{document::Document, patch::tests::values};

    #[test]
    fn a_missing_step_and_a_wrong_hash_force_the_whole() {
        let mut document = Document::new(json!({"n": 0, "rest": "x".repeat(99)}));
        let mut replica = Replica::new();
        replica.apply(document.update_for(None)).unwrap();
        let mut steps = Vec::new();
        for n in 1..=2 {
            let before = document.version();
            document.set(json!({"n": n, "rest": "x".repeat(99)}));
            document.tick();
            steps.push(document.update_for(Some(before)));
        }
        let second = steps.pop().unwrap();
        assert_eq!(replica.clone().apply(second), Err(NeedsFull::Gap));
        let mut spoilt = steps.pop().unwrap();
        if let Update::Delta { hash, .. } = &mut spoilt {
            *hash = "0".repeat(64);
        }
        assert_eq!(replica.apply(spoilt), Err(NeedsFull::Hash));
        assert_eq!(replica.version(), None);
        replica.apply(document.update_for(replica.version())).unwrap();
        assert_eq!(replica.state(), document.state());
    }

    proptest! {
        #[test]
        fn whatever_is_lost_a_replica_is_right_or_knows_that_it_is_not(
            states in proptest::collection::vec((values(), 0..4_u8), 1..30),
        ) {
            let mut document = Document::new(Value::Null);
            let mut replica = Replica::new();
            replica.apply(document.update_for(None)).unwrap();
            for (state, luck) in states {
                document.set(state);
                document.tick();
                let update = document.update_for(replica.version());
                // Some updates are lost, and some come twice.
                for _ in 0..luck.saturating_sub(1) {
                    if replica.apply(update.clone()).is_err() {
                        replica.apply(document.update_for(replica.version())).unwrap();
                    }
                    prop_assert_eq!(replica.version(), Some(document.version()));
                    prop_assert_eq!(replica.state(), document.state());
                }
            }
        }
    }
}
