//! The states of a room as a closed set of labels, and as a machine that can be drawn.

use infra_core::metric::{Label, LabelSet};
use infra_observability::diagram::Machine;

use crate::{
    domain::{Phase, Room, Status},
    protocol::{WAYS, admin::Stage},
};

/// The state machine of a room.
pub const ROOM: Machine = Machine { name: "room", states: Stage::SET.values, ways: &WAYS };

/// Where a room is.
pub type RoomTelemetry = infra_observability::telemetry::Telemetry<Stage>;

impl Label for Stage {
    const SET: LabelSet = LabelSet {
        name: "stage",
        values: &[
            Self::Waiting.name(),
            Self::Ready.name(),
            Self::Preparation.name(),
            Self::Declaration.name(),
            Self::Turn.name(),
            Self::Scoring.name(),
            Self::Completed.name(),
            Self::Abandoned.name(),
        ],
    };

    fn value(self) -> &'static str {
        self.name()
    }
}

/// Returns the state that a room is in, once it was created.
pub(crate) fn stage_of(room: &Room) -> Option<Stage> {
    Some(match room.status()? {
        Status::Waiting => Stage::Waiting,
        Status::Ready => Stage::Ready,
        Status::Completed => Stage::Completed,
        Status::Abandoned => Stage::Abandoned,
        Status::InGame => match room.phase() {
            Some(Phase::Declaration) => Stage::Declaration,
            Some(Phase::Turn) => Stage::Turn,
            Some(Phase::Scoring) => Stage::Scoring,
            Some(Phase::Preparation) | None => Stage::Preparation,
        },
    })
}

/// Returns whether a game is played in this state.
pub(crate) const fn is_played(stage: Stage) -> bool {
    match stage {
        Stage::Preparation | Stage::Declaration | Stage::Turn | Stage::Scoring => true,
        Stage::Waiting | Stage::Ready | Stage::Completed | Stage::Abandoned => false,
    }
}

#[cfg(test)]
mod tests {
    use infra_core::machine::StateMachine as _;

    use super::*;
    use crate::{domain::Viewer, protocol::diagram, simulate::play_game};

    #[test]
    fn the_stage_of_a_room_is_the_one_that_its_picture_shows() {
        assert_eq!(stage_of(&Room::default()), None);
        let mut room = Room::default();
        for event in play_game(7, 3).unwrap().events {
            room.evolve(&event);
            let shown = room.view(Viewer::Spectator).map(|view| diagram(&view).current);
            assert_eq!(stage_of(&room), shown);
        }
        assert_eq!(stage_of(&room), Some(Stage::Completed));
    }

    #[test]
    fn every_stage_is_a_state_of_the_machine_and_every_way_leads_between_two() {
        assert_eq!(Stage::ALL.map(Stage::name), *Stage::SET.values);
        for (from, to) in ROOM.ways {
            assert!(ROOM.state(from).is_some() && ROOM.state(to).is_some(), "{from} {to}");
        }
    }
}
