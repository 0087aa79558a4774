//! A room as a durable machine: how its events, its states and what is asked of it are named.

use std::{num::NonZeroU32, sync::Arc};

use infra_core::{Clock, event::EventStore, snapshot::SnapshotStore};
use infra_persistence::state::{
    Action, DurableOptions, Edge, Persistent, SnapshotPolicy, Strategy,
};

use crate::{
    domain::{Act, Actor, Command, Event, Room},
    observe::stage_of,
    protocol::{STAGE_EDGES, admin::Stage},
};

impl Persistent for Room {
    const EDGES: &'static [Edge] = &STAGE_EDGES;

    fn kind(event: &Event) -> &'static str {
        event.name()
    }

    /// Returns the state that the dashboard's picture shows.
    fn phase(&self) -> &'static str {
        stage_of(self).map_or("uncreated", Stage::name)
    }
}

/// Where rooms are recorded.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Their events: the truth.
    pub events: Arc<dyn EventStore>,
    /// What shortens the way back to them; it can be lost.
    pub snapshots: Arc<dyn SnapshotStore>,
}

impl Stores {
    /// Returns how each room is kept: its events, and a snapshot after each so many and when it leaves memory.
    ///
    /// No fence is committed: its mark would take an offset that players count. A room has one owner, its task;
    /// whoever else wrote it would be refused by the expected version. What it did last is in its diary.
    pub(super) fn machine(
        &self,
        snapshot_events: NonZeroU32,
        clock: Arc<dyn Clock>,
    ) -> DurableOptions {
        let (events, snapshots) = (Arc::clone(&self.events), Arc::clone(&self.snapshots));
        let policy = SnapshotPolicy::default().every(u64::from(snapshot_events.get()));
        DurableOptions::new(Strategy::Hybrid { events, snapshots }, clock)
            .policy(policy)
            .recorded(0)
    }
}

/// Returns what the log of transitions says of a command.
///
/// The number of a player's action stands beside it, for whoever reads the log.
pub(super) fn action_of(command: &Command) -> Action {
    let action = Action::new(act_name(&command.act));
    let action = match command.actor {
        Actor::Player(player) => action.by(player.to_string()),
        Actor::Operator => action.by("operator"),
        Actor::Clock => action,
    };
    match command.action {
        Some(number) => action.with("action", number.to_string()),
        None => action,
    }
}

const fn act_name(act: &Act) -> &'static str {
    match act {
        Act::Create { .. } => "create",
        Act::Join { .. } => "join",
        Act::Leave => "leave",
        Act::AddBot { .. } => "add_bot",
        Act::RemoveBot { .. } => "remove_bot",
        Act::Start { .. } => "start",
        Act::AcceptRedeal { .. } => "accept_redeal",
        Act::DeclineRedeal => "decline_redeal",
        Act::Declare { .. } => "declare",
        Act::Play { .. } => "play",
        Act::Chat { .. } => "chat",
        Act::Return => "return",
        Act::TimeOut { .. } => "time_out",
        Act::PlayFor { .. } => "play_for",
        Act::NextRound { .. } => "next_round",
        Act::TimeIsUp => "time_is_up",
        Act::Close { .. } => "close",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use infra_core::machine::StateMachine;

    use super::*;
    use crate::simulate::play_game;

    #[test]
    fn every_way_that_a_room_takes_is_declared() {
        let declared: BTreeSet<Edge> = Room::EDGES.iter().copied().collect();
        assert_eq!(declared.len(), Room::EDGES.len(), "none twice");
        for number in 0..20 {
            let mut room = Room::default();
            for event in play_game(3, number).unwrap().events {
                let from = Persistent::phase(&room);
                room.evolve(&event);
                let edge = Edge::new(from, Room::kind(&event), Persistent::phase(&room));
                assert!(edge.from == edge.to || declared.contains(&edge), "{edge:?}");
            }
        }
    }

    #[test]
    fn a_room_survives_its_storage_at_every_event() {
        let mut room = Room::default();
        for event in play_game(5, 0).unwrap().events {
            room.evolve(&event);
            let stored = serde_json::to_vec(&room).unwrap();
            assert_eq!(serde_json::from_slice::<Room>(&stored).unwrap(), room);
        }
    }
}
