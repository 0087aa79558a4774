//! Which events a subscriber wants.

use std::collections::BTreeSet;

use infra_core::id::CorrelationId;

use super::event::Event;

/// What an event must have to be wanted; what is not set wants all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// One of these kinds; empty for all.
    pub kinds: BTreeSet<String>,
    /// This game.
    pub game: Option<String>,
    /// This room.
    pub room: Option<String>,
    /// This player.
    pub player: Option<String>,
    /// This correlation id.
    pub correlation: Option<CorrelationId>,
}

impl Filter {
    /// Wants events of these kinds.
    pub fn kinds(kinds: &[&str]) -> Self {
        Self { kinds: kinds.iter().copied().map(ToOwned::to_owned).collect(), ..Self::default() }
    }

    /// Returns whether an event is wanted.
    pub fn admits(&self, event: &Event) -> bool {
        let Self { kinds, game, room, player, correlation } = self;
        let same = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        (kinds.is_empty() || kinds.contains(event.kind))
            && same(game, &event.game)
            && same(room, &event.room)
            && same(player, &event.player)
            && (correlation.is_none() || *correlation == event.correlation)
    }
}
