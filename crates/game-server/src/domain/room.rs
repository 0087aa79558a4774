//! The room: the aggregate that commands are given to and that its event stream adds up to.

use infra_core::machine::StateMachine;
use serde::{Deserialize, Serialize};

use super::{
    chair::{Answer, Answered, Chair},
    command::Command,
    event::Event,
    game::Game,
    player::{ActionNumber, PlayerId},
    refusal::Refusal,
    room_view::{ChatView, Phase, ResultView, Status},
    seat::{BySeat, Seat},
    settings::Settings,
    text::Name,
};

/// How many messages of the chat a room remembers outside its event stream.
pub const RECENT_CHAT: usize = 20;

/// What a room has come to; whether a gathering one is ready follows from its chairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum Life {
    #[default]
    Uncreated,
    Gathering,
    InGame,
    Completed,
    Abandoned,
}

/// A room, the sum of its events.
///
/// The offset of an event is its place in the room's stream, counted from 1.
///
/// ```
/// use game_server::domain::{
///     Act, Actor, Command, Name, PlayerId, Room, Settings, Status,
/// };
/// use infra_core::machine::StateMachine;
///
/// let ann = Actor::Player(PlayerId::from_uuid(uuid::Uuid::from_u128(1)));
/// let create = Act::Create { name: Name::new("Ann").unwrap(), settings: Settings::default() };
///
/// let mut room = Room::default();
/// for event in room.decide(Command::of(ann, create)).unwrap() {
///     room.evolve(&event);
/// }
/// assert_eq!((room.status(), room.offset()), (Some(Status::Waiting), 1));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Room {
    pub(super) offset: u64,
    pub(super) life: Life,
    pub(super) settings: Settings,
    pub(super) host: Option<Seat>,
    pub(super) chairs: BySeat<Chair>,
    pub(super) game: Option<Game>,
    pub(super) result: Option<ResultView>,
    /// The offset from which what is due now has been due.
    pub(super) since: u64,
    pub(super) chat: Vec<ChatView>,
    /// How many bytes the events have, if they are bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
}

impl StateMachine for Room {
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    const NAME: &'static str = "room";
    const SCHEMA_VERSION: u32 = 1;

    /// Decides what a command makes happen.
    ///
    /// A numbered action of a seated player is answered by an event, also when it is refused:
    /// the answer is then found by [`Room::answer`]. A retry of it decides nothing anew.
    /// What reaches a bound of the room ends its game.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] of a command that has no number, or an older one than was answered last.
    fn decide(&self, command: Command) -> Result<Vec<Event>, Refusal> {
        self.decide_once(&command).map(|events| self.bounded(events))
    }

    fn evolve(&mut self, event: &Event) {
        self.fold(event);
    }

    fn check(&self) -> Result<(), String> {
        self.check_invariants()
    }
}

impl Room {
    /// Returns how many events this is the sum of: the offset of the last one.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns what the room is doing, once it has been created.
    pub fn status(&self) -> Option<Status> {
        match self.life {
            Life::Uncreated => None,
            Life::Gathering if self.first_free().is_none() => Some(Status::Ready),
            Life::Gathering => Some(Status::Waiting),
            Life::InGame => Some(Status::InGame),
            Life::Completed => Some(Status::Completed),
            Life::Abandoned => Some(Status::Abandoned),
        }
    }

    /// Returns the phase of the game, while one is played.
    pub fn phase(&self) -> Option<Phase> {
        self.running().map(|game| game.round.phase())
    }

    /// Returns the room's settings.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the host's seat.
    pub const fn host(&self) -> Option<Seat> {
        self.host
    }

    /// Returns the seat of a player.
    pub fn seat_of(&self, player: PlayerId) -> Option<Seat> {
        let sits = |(_, chair): &(Seat, &Chair)| chair.occupant.player() == Some(player);
        self.chairs.iter().find(sits).map(|(seat, _)| seat)
    }

    /// Returns the person on a seat; a silent one too.
    pub fn player_at(&self, seat: Seat) -> Option<PlayerId> {
        self.chairs[seat].occupant.player()
    }

    /// Returns the name of who sits on a seat.
    pub fn name_at(&self, seat: Seat) -> Option<&Name> {
        self.chairs[seat].occupant.name()
    }

    /// Returns whether a bot has a seat as its own.
    pub fn is_bot(&self, seat: Seat) -> bool {
        self.chairs[seat].occupant.is_bot()
    }

    /// Returns the round of the game, from 1, also after its end; 0 before it began.
    pub fn round(&self) -> u8 {
        self.game.as_ref().map_or(0, |game| game.round.number)
    }

    /// Returns the answer that a player's action got, if it was the player's last one.
    pub fn answer(&self, player: PlayerId, action: ActionNumber) -> Option<Answer> {
        let last = self.last_answered(player)?;
        (last.action == action).then_some(last.answer)
    }

    /// Returns the number of the player's last action that was answered.
    pub fn last_action(&self, player: PlayerId) -> Option<ActionNumber> {
        self.last_answered(player).map(|answered| answered.action)
    }

    pub(super) fn last_answered(&self, player: PlayerId) -> Option<Answered> {
        if let Some(seat) = self.seat_of(player) {
            return self.chairs[seat].answered;
        }
        let departed = self.chairs.values().filter_map(|chair| chair.answer_to_departed(player));
        departed.max_by_key(|answered| answered.action)
    }

    pub(super) fn first_free(&self) -> Option<Seat> {
        self.chairs.iter().find(|(_, chair)| chair.occupant.is_free()).map(|(seat, _)| seat)
    }

    /// Returns the game while it runs.
    pub(super) fn running(&self) -> Option<&Game> {
        match self.life {
            Life::InGame => self.game.as_ref(),
            Life::Uncreated | Life::Gathering | Life::Completed | Life::Abandoned => None,
        }
    }
}
