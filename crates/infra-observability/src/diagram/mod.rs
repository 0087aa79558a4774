//! State machines as pictures: what they are, how many are where, what goes wrong on which way.

mod live;
mod render;
mod room;

pub use live::{Edge, LiveDiagram, Node, View};
pub use render::{Picture, dot, mermaid};
pub use room::{Health, RoomBoard, RoomRow};

/// The JSON schema of [`View`] as `serde` writes it.
pub const SCHEMA: &str = include_str!("schema.json");

/// A state machine as it is declared: its states and the ways between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: &'static str,
    /// Its states; the first is where it begins.
    pub states: &'static [&'static str],
    /// Its ways: from, to.
    pub ways: &'static [(&'static str, &'static str)],
}

impl Machine {
    /// Returns the state of this name, if it has one.
    pub fn state(&self, name: &str) -> Option<&'static str> {
        self.states.iter().find(|state| **state == name).copied()
    }
}
