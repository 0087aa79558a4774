//! A room as a durable machine: how its events and states are named in a store.

use infra_persistence::state::{Edge, Persistent};

use crate::{
    domain::{Event, Room},
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
