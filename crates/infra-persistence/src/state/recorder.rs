//! The flight recorder: the last transitions of one machine, written out when something goes wrong.

use std::collections::VecDeque;

use infra_core::id::StreamName;

use super::transition::Transition;

/// The last transitions of one machine, in memory and bounded.
#[derive(Debug, Clone, Default)]
pub struct FlightRecorder {
    transitions: VecDeque<Transition>,
    capacity: usize,
}

impl FlightRecorder {
    /// Creates a recorder of the last `capacity` transitions; zero records nothing.
    pub fn new(capacity: usize) -> Self {
        Self { transitions: VecDeque::new(), capacity }
    }

    /// Takes a transition in; the oldest one makes room.
    pub fn record(&mut self, transition: Transition) {
        if self.capacity == 0 {
            return;
        }
        if self.capacity <= self.transitions.len() {
            self.transitions.pop_front();
        }
        self.transitions.push_back(transition);
    }

    /// Returns what is recorded, oldest first.
    pub fn transitions(&self) -> impl ExactSizeIterator<Item = &Transition> {
        self.transitions.iter()
    }

    /// Writes what is recorded to the log, as one event of level error.
    pub(super) fn dump(&self, stream: &StreamName, why: &str) {
        if self.capacity == 0 {
            return;
        }
        let recorded = serde_json::to_string(&self.transitions).unwrap_or_default();
        tracing::error!(%stream, why, recorded, "the last transitions of a machine");
    }
}
