//! The bounds of a game, which its operator sets, and what happens where it reaches one.

use std::io;

use serde::{Deserialize, Serialize};

use super::{
    event::{AbandonReason, Event},
    refusal::Refusal,
    room::{Life, Room},
    scoring::{LAST_ROUND, winners},
};

/// How much a game may take; what is not set is not bounded beyond the rules.
///
/// They stand in the event that creates the room, so what was played is the same whatever the operator
/// chooses later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// The most minutes from the creation of the room to the end of its game.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u32>,
    /// The last round, of at most [`LAST_ROUND`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u8>,
    /// The most events of the room until its game ends; the end is one more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u32>,
    /// The most bytes that those events have as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u32>,
}

impl Bounds {
    /// Returns whether nothing is bounded beyond the rules.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the last round of a game.
    pub fn last_round(&self) -> u8 {
        self.rounds.unwrap_or(LAST_ROUND)
    }

    /// Checks that no bound is out of its range.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidSettings`] if a bound is zero, or the last round above [`LAST_ROUND`].
    pub fn check(&self) -> Result<(), Refusal> {
        let counts = [self.minutes, self.events, self.bytes];
        let is_sound = counts.iter().flatten().all(|most| 0 < *most);
        if is_sound && (1..=LAST_ROUND).contains(&self.last_round()) {
            return Ok(());
        }
        Err(Refusal::InvalidSettings)
    }
}

/// What ended a game before the rules did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Its minutes were over.
    Minutes,
    /// It had as many events as it may.
    Events,
    /// Its events had as many bytes as they may.
    Bytes,
}

/// Returns how many bytes an event has as JSON.
pub(super) fn bytes_of(event: &Event) -> u64 {
    let mut count = Count(0);
    // An event has no map whose keys could not be text, and counting never fails.
    let _is_counted = serde_json::to_writer(&mut count, event).is_ok();
    count.0
}

/// Counts what is written to it.
struct Count(u64);

impl io::Write for Count {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(buf.len() as u64);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Room {
    /// Puts the end of the game behind events that reach one of its bounds.
    pub(super) fn bounded(&self, mut events: Vec<Event>) -> Vec<Event> {
        let Some(limit) = self.reached(&events) else { return events };
        let mut room = self.clone();
        for event in &events {
            room.fold(event);
        }
        events.extend(room.cut_short(limit));
        events
    }

    /// Returns whether these events reach a bound that ends the game.
    pub(super) fn is_ended_by(&self, events: &[Event]) -> bool {
        self.reached(events).and_then(|limit| self.cut_short(limit)).is_some()
    }

    /// Returns whether a room whose game is over takes no more words.
    pub(super) fn is_full(&self) -> bool {
        self.reached_with(0, 0).is_some()
    }

    /// Returns the event that ends a game at a bound: with the scores so far, if there are any. A room
    /// that does not play any more has none.
    pub(super) fn cut_short(&self, limit: Limit) -> Option<Event> {
        match (self.life, &self.game) {
            (Life::InGame, Some(game)) if 0 < game.n_scored => {
                let (rounds, scores) = (game.n_scored, game.scores);
                let winners = winners(&scores);
                Some(Event::GameEnded { rounds, scores, winners, limit: Some(limit) })
            }
            (Life::Gathering | Life::InGame, _) => {
                Some(Event::RoomAbandoned { reason: AbandonReason::Limit })
            }
            (Life::Uncreated | Life::Completed | Life::Abandoned, _) => None,
        }
    }

    /// Returns the bound that the room reaches by these events.
    fn reached(&self, events: &[Event]) -> Option<Limit> {
        if events.is_empty() || self.settings.bounds.is_none() {
            return None;
        }
        let bytes = |_| events.iter().map(bytes_of).fold(0, u64::saturating_add);
        let bytes = self.settings.bounds.bytes.map_or(0, bytes);
        self.reached_with(events.len() as u64, bytes)
    }

    fn reached_with(&self, events: u64, bytes: u64) -> Option<Limit> {
        let bounds = &self.settings.bounds;
        let meets =
            |most: Option<u32>, count: u64| most.is_some_and(|most| u64::from(most) <= count);
        if meets(bounds.events, self.offset.saturating_add(events)) {
            return Some(Limit::Events);
        }
        let bytes = self.bytes.unwrap_or_default().saturating_add(bytes);
        meets(bounds.bytes, bytes).then_some(Limit::Bytes)
    }
}

#[cfg(test)]
mod tests {
    use infra_core::machine::StateMachine as _;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        Act, ActionNumber, Actor, ChatText, Command, Entropy, Name, PlayerId, Settings, Status,
    };

    /// A room and all that has happened in it.
    #[derive(Default)]
    struct Played {
        room: Room,
        events: Vec<Event>,
    }

    const ANN: PlayerId = PlayerId::from_uuid(Uuid::from_u128(1));

    impl Played {
        /// Creates a room, whose host is a person that never plays.
        fn new(bounds: Bounds) -> Self {
            let mut played = Self::default();
            let settings = Settings { bounds, ..Settings::default() };
            let name = Name::new("Ann").unwrap();
            played.give(Command::of(Actor::Player(ANN), Act::Create { name, settings })).unwrap();
            played
        }

        fn give(&mut self, command: Command) -> Result<(), Refusal> {
            for event in self.room.decide(command)? {
                self.room.evolve(&event);
                self.room.check().unwrap();
                self.events.push(event);
            }
            Ok(())
        }

        fn say(&mut self, action: u64) -> Result<(), Refusal> {
            let text = ChatText::new("well played").unwrap();
            self.give(Command::numbered(ANN, ActionNumber::new(action), Act::Chat { text }))
        }

        /// Starts the game and plays it to its end, or until this has happened.
        fn play_to(&mut self, wanted: &str) {
            let start = Act::Start { entropy: Entropy::new([7; 32]) };
            self.give(Command::of(Actor::Player(ANN), start)).unwrap();
            let mut number = 0;
            while let Some(due) = self.room.due() {
                number += 1;
                self.give(due.command(Entropy::new([number; 32]))).unwrap();
                if self.events.iter().any(|event| event.name() == wanted) {
                    return;
                }
            }
        }

        /// The last event, once it is certain that a replay comes to the same room.
        fn end(&self) -> &Event {
            let mut again = Room::default();
            for event in &self.events {
                again.evolve(event);
            }
            assert_eq!(again, self.room);
            let stored = serde_json::to_vec(&self.room).unwrap();
            assert_eq!(serde_json::from_slice::<Room>(&stored).unwrap(), self.room);
            self.events.last().unwrap()
        }
    }

    /// The rounds that a game ended after by a bound, if its scores are those of the last of them.
    fn cut(played: &Played, expected: Limit) -> u8 {
        let Event::GameEnded { rounds, scores, limit, winners: best } = played.end() else {
            panic!("{:?}", played.end());
        };
        let scored = played.events.iter().rev().find_map(|event| {
            let Event::RoundScored { round, scores, .. } = event else { return None };
            Some((*round, *scores))
        });
        assert_eq!((scored, *limit), (Some((*rounds, *scores)), Some(expected)));
        assert_eq!(*best, winners(scores));
        *rounds
    }

    const CLOSED: Event = Event::RoomAbandoned { reason: AbandonReason::Limit };

    #[test]
    fn a_game_ends_after_its_last_round() {
        for rounds in [1, 2] {
            let mut played = Played::new(Bounds { rounds: Some(rounds), ..Bounds::default() });
            played.play_to("nothing");
            let Event::GameEnded { rounds: after, limit, .. } = played.end() else {
                panic!("{:?}", played.end());
            };
            assert_eq!((*after, *limit), (rounds, None));
        }
    }

    #[test]
    fn a_game_that_has_its_events_or_bytes_ends_with_the_scores_so_far() {
        let mut played = Played::new(Bounds { events: Some(150), ..Bounds::default() });
        played.play_to("nothing");
        assert!(0 < cut(&played, Limit::Events));
        assert!((150..160).contains(&played.events.len()), "{}", played.events.len());
        let mut played = Played::new(Bounds { bytes: Some(15_000), ..Bounds::default() });
        played.play_to("nothing");
        assert!(0 < cut(&played, Limit::Bytes));
        let bytes: u64 = played.events.iter().map(bytes_of).sum();
        assert!((15_000..16_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_room_is_closed_at_a_bound_before_a_round_was_scored() {
        let mut played = Played::new(Bounds { events: Some(20), ..Bounds::default() });
        played.play_to("nothing");
        assert_eq!(*played.end(), CLOSED);
        let mut played = Played::new(Bounds { bytes: Some(2_000), ..Bounds::default() });
        for action in 1.. {
            if played.say(action).is_err() {
                break;
            }
        }
        assert_eq!(*played.end(), CLOSED);
        let mut at_once = Played::new(Bounds { events: Some(1), ..Bounds::default() });
        assert_eq!(at_once.events.len(), 1, "the room is told of before it can be closed");
        at_once.say(1).unwrap();
        assert_eq!(*at_once.end(), CLOSED);
    }

    #[test]
    fn only_the_clock_says_that_the_time_is_up_and_only_until_the_game_is_over() {
        let up = || Command::of(Actor::Clock, Act::TimeIsUp);
        let mut played = Played::new(Bounds::default());
        let by_ann = Command::of(Actor::Player(ANN), Act::TimeIsUp);
        assert_eq!(played.give(by_ann), Err(Refusal::NotAllowed));
        let by_operator = Command::of(Actor::Operator, Act::TimeIsUp);
        assert_eq!(played.give(by_operator), Err(Refusal::NotAllowed));
        played.play_to("round_scored");
        played.give(up()).unwrap();
        assert_eq!(cut(&played, Limit::Minutes), 1);
        assert_eq!(played.give(up()), Err(Refusal::WrongPhase));
        let mut played = Played::new(Bounds::default());
        played.play_to("declared");
        played.give(up()).unwrap();
        assert_eq!(*played.end(), CLOSED);
    }

    #[test]
    fn in_a_room_that_is_over_and_full_nothing_is_recorded_but_who_leaves() {
        let mut played = Played::new(Bounds { events: Some(150), ..Bounds::default() });
        played.play_to("nothing");
        let before = played.events.len();
        assert_eq!(played.say(1), Err(Refusal::WrongPhase));
        let refused = Command::numbered(ANN, ActionNumber::new(2), Act::DeclineRedeal);
        assert_eq!(played.give(refused), Err(Refusal::WrongPhase));
        assert_eq!(played.events.len(), before);
        played.give(Command::numbered(ANN, ActionNumber::new(3), Act::Leave)).unwrap();
        assert_eq!(played.events.len(), before + 1);
        played.end();
    }

    #[test]
    fn a_refusal_ends_no_game_and_is_not_kept_where_its_record_would() {
        let decline =
            |action| Command::numbered(ANN, ActionNumber::new(action), Act::DeclineRedeal);
        let mut played = Played::new(Bounds { events: Some(3), ..Bounds::default() });
        played.give(decline(1)).unwrap();
        assert_eq!(played.events.last().map(Event::name), Some("action_refused"));
        assert_eq!(played.give(decline(2)), Err(Refusal::WrongPhase));
        assert_eq!((played.events.len(), played.room.status()), (2, Some(Status::Waiting)));
        // Its number was not used up, and what is accepted ends the game.
        played.say(2).unwrap();
        assert_eq!((played.events.len(), played.end()), (4, &CLOSED));
    }

    #[test]
    fn a_bound_out_of_its_range_is_refused() {
        assert_eq!(Bounds::default().check(), Ok(()));
        assert_eq!(Bounds { rounds: Some(1), ..Bounds::default() }.check(), Ok(()));
        for bad in [
            Bounds { minutes: Some(0), ..Bounds::default() },
            Bounds { rounds: Some(0), ..Bounds::default() },
            Bounds { rounds: Some(21), ..Bounds::default() },
            Bounds { events: Some(0), ..Bounds::default() },
            Bounds { bytes: Some(0), ..Bounds::default() },
        ] {
            assert_eq!(bad.check(), Err(Refusal::InvalidSettings), "{bad:?}");
        }
    }

    #[test]
    fn bounds_that_are_not_set_are_not_written() {
        assert_eq!(serde_json::to_string(&Bounds::default()).unwrap(), "{}");
        let written = serde_json::to_string(&Bounds { rounds: Some(5), ..Bounds::default() });
        assert_eq!(written.unwrap(), r#"{"rounds":5}"#);
        assert!(serde_json::from_str::<Bounds>(r#"{"hours":1}"#).is_err());
    }

    #[test]
    fn the_bytes_of_an_event_are_those_of_its_json() {
        let event = Event::RoomAbandoned { reason: AbandonReason::Limit };
        assert_eq!(bytes_of(&event), serde_json::to_string(&event).unwrap().len() as u64);
    }
}
