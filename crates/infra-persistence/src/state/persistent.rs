//! What a state machine tells about itself so that it can be made durable.

use infra_core::machine::StateMachine;
use serde::{Serialize, de::DeserializeOwned};

/// A state machine that can be stored.
///
/// Its state and its events are written as JSON and must survive it: `decode(encode(state)) = state`. The
/// state's JSON must follow from the state alone, so it holds no set or list in random order; an
/// [`audit`](super::audit) finds the machine that does.
pub trait Persistent:
    StateMachine<Event: Serialize + DeserializeOwned> + Serialize + DeserializeOwned
{
    /// The transitions that the machine declares, for its picture.
    const EDGES: &'static [Edge] = &[];

    /// Returns the kind of an event, as it is named in the store.
    ///
    /// Names that begin with `state.` belong to this crate.
    fn kind(event: &Self::Event) -> &'static str;

    /// Returns the name of the state that the machine is in: a word of a closed set, not its data.
    fn phase(&self) -> &'static str;
}

/// A transition that a machine may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The phase before it.
    pub from: &'static str,
    /// The kind of the event.
    pub kind: &'static str,
    /// The phase after it.
    pub to: &'static str,
}

impl Edge {
    /// Creates the transition from one phase to another by events of a kind.
    pub const fn new(from: &'static str, kind: &'static str, to: &'static str) -> Self {
        Self { from, kind, to }
    }
}
