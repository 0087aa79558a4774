//! The state machine of a room as a picture's data.
//!
//! ```text
//! waiting <-> ready -> preparation -> declaration -> turn -> scoring -> completed
//!                        ^               ^                      |
//!                        +---------------+----------------------+
//! and from each but completed -> abandoned; a game that reaches a bound completes in any phase
//! ```

use Stage::{Abandoned, Completed, Declaration, Preparation, Ready, Scoring, Turn, Waiting};

use infra_persistence::state::Edge;

use super::admin::{Diagram, Stage, Transition};
use crate::domain::{Phase, RoomView, Status};

/// Every way from one state to another, with the events that take it.
const TRANSITIONS: [(Stage, Stage, &[&str]); 18] = [
    (Waiting, Ready, &["player_joined", "bot_added"]),
    (Ready, Waiting, &["player_left", "bot_removed"]),
    (Ready, Preparation, &["game_started"]),
    (Preparation, Declaration, &["dealt", "redeal_declined"]),
    (Declaration, Turn, &["declared"]),
    (Turn, Scoring, &["turn_won"]),
    (Scoring, Preparation, &["dealt"]),
    (Scoring, Declaration, &["dealt"]),
    (Scoring, Completed, &["game_ended"]),
    (Waiting, Abandoned, &["room_abandoned"]),
    (Ready, Abandoned, &["room_abandoned"]),
    (Preparation, Abandoned, &["room_abandoned"]),
    (Declaration, Abandoned, &["room_abandoned"]),
    (Turn, Abandoned, &["room_abandoned"]),
    (Scoring, Abandoned, &["room_abandoned"]),
    (Preparation, Completed, &["game_ended"]),
    (Declaration, Completed, &["game_ended"]),
    (Turn, Completed, &["game_ended"]),
];

/// The ways by the names of their states.
#[expect(
    clippy::indexing_slicing,
    reason = "the compiler evaluates it, and stops at a place that is not there"
)]
pub(crate) const WAYS: [(&str, &str); TRANSITIONS.len()] = {
    let mut ways = [("", ""); TRANSITIONS.len()];
    let mut place = 0;
    while place < ways.len() {
        let (from, to, _) = TRANSITIONS[place];
        ways[place] = (from.name(), to.name());
        place += 1;
    }
    ways
};

/// The same ways, one for each event; the first one is the creation.
pub(crate) const STAGE_EDGES: [Edge; N_EDGES] = edges();

#[expect(
    clippy::indexing_slicing,
    reason = "the compiler evaluates it, and stops at a place that is not there"
)]
const N_EDGES: usize = {
    let (mut count, mut way) = (1, 0);
    while way < TRANSITIONS.len() {
        count += TRANSITIONS[way].2.len();
        way += 1;
    }
    count
};

#[expect(
    clippy::indexing_slicing,
    reason = "the compiler evaluates it, and stops at a place that is not there"
)]
const fn edges() -> [Edge; N_EDGES] {
    let mut edges = [Edge::new("uncreated", "room_created", Waiting.name()); N_EDGES];
    let (mut place, mut way) = (1, 0);
    while way < TRANSITIONS.len() {
        let (from, to, events) = TRANSITIONS[way];
        let mut event = 0;
        while event < events.len() {
            edges[place] = Edge::new(from.name(), events[event], to.name());
            place += 1;
            event += 1;
        }
        way += 1;
    }
    edges
}

/// Returns the state machine of a room, with the state that it is in.
pub fn diagram(room: &RoomView) -> Diagram {
    let transition = |(from, to, events): (Stage, Stage, &[&str])| {
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        Transition { from, to, events }
    };
    Diagram {
        states: Stage::ALL.to_vec(),
        transitions: TRANSITIONS.map(transition).to_vec(),
        current: current(room),
    }
}

fn current(room: &RoomView) -> Stage {
    match (room.status, room.game.as_ref().map(|game| game.phase)) {
        (Status::Waiting, _) => Waiting,
        (Status::Ready, _) => Ready,
        (Status::Completed, _) => Completed,
        (Status::Abandoned, _) => Abandoned,
        (Status::InGame, Some(Phase::Declaration)) => Declaration,
        (Status::InGame, Some(Phase::Turn)) => Turn,
        (Status::InGame, Some(Phase::Scoring)) => Scoring,
        (Status::InGame, Some(Phase::Preparation) | None) => Preparation,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use infra_core::machine::StateMachine;

    use super::*;
    use crate::{
        domain::{AbandonReason, Event, Room, Viewer},
        simulate::play_game,
    };

    fn stage(room: &Room) -> Option<Stage> {
        room.view(Viewer::Spectator).map(|view| diagram(&view).current)
    }

    #[test]
    fn a_room_never_moves_in_a_way_that_the_picture_does_not_show() {
        let mut taken = BTreeSet::new();
        for number in 0..40 {
            let mut room = Room::default();
            for event in play_game(7, number).unwrap().events {
                let from = stage(&room);
                room.evolve(&event);
                let (Some(from), Some(to)) = (from, stage(&room)) else { continue };
                let way = TRANSITIONS
                    .iter()
                    .position(|(a, b, by)| (*a, *b) == (from, to) && by.contains(&event.name()));
                assert!(from == to || way.is_some(), "{from:?} {to:?} {}", event.name());
                taken.extend(way);
            }
        }
        let of_a_whole_game: BTreeSet<usize> = [0, 2, 3, 4, 5, 6, 7, 8].into();
        assert_eq!(taken, of_a_whole_game);
    }

    #[test]
    fn a_room_can_be_given_up_from_every_state_but_the_last() {
        let events = play_game(7, 0).unwrap().events;
        let mut room = Room::default();
        let mut left = BTreeSet::new();
        for event in events {
            room.evolve(&event);
            let before = stage(&room).unwrap();
            let mut abandoned = room.clone();
            abandoned.evolve(&Event::RoomAbandoned { reason: AbandonReason::Operator });
            assert_eq!(stage(&abandoned), Some(Abandoned));
            left.insert(format!("{before:?}"));
        }
        let drawn = TRANSITIONS.iter().filter(|(_, to, _)| *to == Abandoned).count();
        // A game that has ended is not given up; all others are seen in one game, weak hands apart.
        left.extend(["Preparation".to_owned()]);
        assert_eq!(left.len(), drawn + 1);
    }
}
