//! What changed in a queue, for whoever keeps it on a disk.

use infra_core::{
    clock::Timestamp,
    queue::{Attempts, DeadLetter, Failure, Message},
};

use super::entry::Number;

/// A message as it is kept; times are those of the wall clock, which a restart does not reset.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) message: Message,
    pub(crate) published: Timestamp,
    pub(crate) end: Option<Timestamp>,
    pub(crate) progress: Progress,
}

/// What became of a message until now.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) attempts: Attempts,
    pub(crate) history: Vec<Failure>,
    /// It is not delivered before this.
    pub(crate) from: Timestamp,
    pub(crate) is_leased: bool,
}

/// One change.
#[derive(Debug)]
pub(crate) enum Change {
    Added(Number, Box<Kept>),
    Moved(Number, Progress),
    Gone(Number),
    Died(Number, Box<DeadLetter>),
    Buried(Number),
    /// A key waits behind a dead letter, whose message had this place.
    Parked(Number, Number),
    Learnt(String, Timestamp),
    Forgot(String),
    Paused(bool),
}

/// The changes of one step, which are written together, and what waits for that.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) changes: Vec<Change>,
    /// Entries that are shown once they are written.
    pub(crate) shown: Vec<Number>,
    /// Keys whose next entry has its turn once the removal of this one is written.
    pub(crate) closed: Vec<(String, Number)>,
}

impl Journal {
    pub(crate) const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
