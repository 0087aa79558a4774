//! What each player did, of those who were here last.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::Serialize;

/// What a player did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PlayerFigures {
    /// Actions that were taken.
    pub actions: u64,
    /// The time that they took together.
    pub total: Duration,
}

/// The figures of a bounded number of players; who was idle longest is forgotten.
#[derive(Debug)]
pub(super) struct Players {
    limit: usize,
    turn: u64,
    figures: HashMap<String, (u64, PlayerFigures)>,
    order: BTreeMap<u64, String>,
}

impl Players {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, turn: 0, figures: HashMap::new(), order: BTreeMap::new() }
    }

    pub(super) fn act(&mut self, player: &str, took: Duration) {
        self.turn += 1;
        let (turn, figures) = self.figures.entry(player.to_owned()).or_default();
        figures.actions += 1;
        figures.total += took;
        self.order.remove(&std::mem::replace(turn, self.turn));
        self.order.insert(self.turn, player.to_owned());
        while self.limit < self.figures.len() {
            let Some((_, idlest)) = self.order.pop_first() else { return };
            self.figures.remove(&idlest);
        }
    }

    pub(super) fn get(&self, player: &str) -> Option<PlayerFigures> {
        self.figures.get(player).map(|(_, figures)| *figures)
    }

    pub(super) fn len(&self) -> usize {
        self.figures.len()
    }
}
