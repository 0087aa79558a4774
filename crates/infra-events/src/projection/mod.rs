//! Projections: views that are made of events, and of nothing else.
//!
//! A [`Projection`] is pure: which views an event concerns, and what it makes of each. An
//! [`Inline`] one lives in memory and is up to date before an append is acknowledged; a
//! [`Projector`] keeps views in a `DocumentStore`, with its checkpoint in the same batch, so that
//! no crash skips an event or counts it twice.

mod fold;
mod inline;
mod layout;
mod projections;
mod projector;
mod rebuild;

use std::fmt::Debug;

use infra_core::{
    Result,
    event::{Filter, RecordedEvent},
    version::Position,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use inline::{Inline, Projecting};
pub use projections::Projections;
pub use projector::{Progress, Projector};

/// What is made of events: one view per key.
///
/// # Contract
///
/// 1. **Pure:** both functions depend on their arguments alone.
/// 2. **Own state:** a view is made of the events of its key, in order of position; other views
///    and other projections are not seen.
pub trait Projection: Send + Sync + Debug + 'static {
    /// What is kept for each key; its default is what no event has touched.
    type View: Serialize + DeserializeOwned + Default + Clone + Debug + Send + Sync + 'static;

    /// Returns its name, which is part of stored keys: without `/`, and never changed.
    fn name(&self) -> &str;

    /// Returns which events it needs; all by default.
    fn filter(&self) -> Filter {
        Filter::default()
    }

    /// Returns the keys of the views that an event concerns; none to pass over it.
    ///
    /// For an event that it cannot read it returns a key whose `apply` fails, such as the stream's
    /// name: that key is then parked with its cause, and others go on.
    fn keys(&self, event: &RecordedEvent) -> Vec<String>;

    /// Folds an event into the view of one of its keys.
    ///
    /// # Errors
    ///
    /// Whatever makes the event impossible for this view; the key is parked then, and so it is
    /// after a panic.
    fn apply(&self, key: &str, view: &mut Self::View, event: &RecordedEvent) -> Result<()>;
}

/// A key that is held back, since an event of it could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The key.
    pub key: String,
    /// The position of the event that failed.
    pub position: Position,
    /// Why it failed.
    pub cause: String,
    /// How many later events of the key wait behind it.
    pub waiting: u64,
}

/// What is known of a projection, in one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// All events up to here are in the views, or wait behind a parked key.
    pub position: Position,
    /// The stable head of the events.
    pub head: Position,
    /// Parked keys, at most a thousand.
    pub parked: Vec<Parked>,
    /// How far a rebuild is, if one is under way.
    pub rebuilt_to: Option<Position>,
    /// How often it was rebuilt, and so which views are served.
    pub generation: u64,
}

impl Status {
    /// Returns how far it is behind, in positions.
    pub const fn lag(&self) -> u64 {
        self.head.get().saturating_sub(self.position.get())
    }
}
