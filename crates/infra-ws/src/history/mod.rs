//! The history of rooms, behind a port: what a client that comes back is given again.

mod durable;
mod memory;

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::Result;
use serde::{Deserialize, Serialize};

pub use self::{
    durable::EventHistory,
    memory::{Bounds, MemoryHistory},
};
use crate::resume::{self, Recovery};

/// A place in the stream of a room: which incarnation, and the last offset that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The stream's incarnation; empty as long as nothing was ever published.
    pub epoch: String,
    /// The last offset; zero is before everything.
    pub offset: u64,
}

/// One event of a room as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the stream.
    pub offset: u64,
    /// The event, encoded.
    pub body: Bytes,
}

/// What was found of a stream in one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The stream's incarnation; empty if nothing was ever published.
    pub epoch: String,
    /// The first offset that can still be read; one beyond `last` if there is none.
    pub first: u64,
    /// The last offset; zero if nothing was ever published.
    pub last: u64,
    /// The entries that were asked for.
    pub entries: Vec<Entry>,
}

impl Window {
    /// Decides what a client that saw `seen` is given; see [`resume::decide`].
    ///
    /// A client that saw nothing of a stream that had not begun has missed all of it.
    pub fn decide(&self, seen: &Place, limit: u64) -> Recovery {
        let is_beginning = seen.epoch.is_empty() && seen.offset == 0;
        let epoch = if is_beginning { self.epoch.as_str() } else { seen.epoch.as_str() };
        let history =
            resume::History { epoch: &self.epoch, first: self.first, last: self.last, limit };
        resume::decide(epoch, seen.offset, &history)
    }
}

/// Keeps the streams of rooms.
///
/// # Contract
///
/// 1. **Gapless:** the offsets of one stream count 1, 2, 3, ... whoever appends at once.
/// 2. **Contiguous:** a read gives the entries behind `after` without a hole, or none.
/// 3. **Limited:** a read gives at most `limit` entries, and says where the stream ends all the same.
/// 4. **Read your writes:** what was appended is in every later read, until it is evicted.
/// 5. **Apart:** rooms share neither offsets nor entries.
/// 6. **One epoch:** a stream keeps its epoch as long as its offsets go on; offsets that begin anew
///    come with another one.
/// 7. **Honest eviction:** what was evicted is below `first`, and `last` never goes back.
#[async_trait]
pub trait History: Send + Sync + Debug {
    /// Appends an event to the stream of a room, and returns its place.
    ///
    /// # Errors
    ///
    /// What the engine fails with; after
    /// [`Indeterminate`](infra_core::ErrorKind::Indeterminate) it may be there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the event appended or not.
    async fn append(&self, room: &str, body: Bytes) -> Result<Place>;

    /// Reads up to `limit` entries behind offset `after`.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn read(&self, room: &str, after: u64, limit: usize) -> Result<Window>;
}
