//! What happened in a room: its event stream is the only record of it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    bounds::Limit,
    pieces::Pieces,
    play::PlayType,
    player::{ActionNumber, PlayerId, Style},
    refusal::Refusal,
    seat::{BySeat, Seat},
    settings::Settings,
    text::{ChatText, Name},
};

/// The numbered action of a player that made an event happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// The seat that acted.
    pub seat: Seat,
    /// The number of its action.
    pub action: ActionNumber,
}

/// The hands of all four seats; they are never printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hands(pub BySeat<Pieces>);

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, fourth] = Seat::ALL.map(|seat| self.0[seat].len());
        write!(f, "Hands(hidden: {first} {second} {third} {fourth})")
    }
}

/// Why a room was given up before its game ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbandonReason {
    /// Nobody is left but bots.
    EverybodyLeft,
    /// Nobody did anything for too long.
    Idle,
    /// The operator closed it.
    Operator,
    /// It reached a bound before a round was scored.
    Limit,
}

/// What happened; in JSON an object whose `type` is the event's name. Unknown fields are refused.
///
/// `cause` stands on the one event that answers a numbered action; what follows from that event
/// in the same batch has none.
///
/// ```
/// use game_server::domain::{Event, Seat};
///
/// let event: Event = serde_json::from_str(r#"{"type":"host_changed","seat":2}"#).unwrap();
/// assert_eq!(event, Event::HostChanged { seat: Seat::Third });
/// assert_eq!(event.name(), "host_changed");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The room was created; its host sits on seat 0.
    RoomCreated {
        /// The host.
        host: PlayerId,
        /// The host's name.
        name: Name,
        /// The room's settings.
        settings: Settings,
    },
    /// A player took a seat.
    PlayerJoined {
        /// The seat.
        seat: Seat,
        /// The player.
        player: PlayerId,
        /// The player's name.
        name: Name,
    },
    /// A player gave the seat up for good.
    PlayerLeft {
        /// The seat.
        seat: Seat,
        /// The action that did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// Another player became the host.
    HostChanged {
        /// The new host's seat.
        seat: Seat,
    },
    /// A bot took a free seat.
    BotAdded {
        /// The seat.
        seat: Seat,
        /// The bot's name.
        name: Name,
        /// How it plays.
        style: Style,
        /// The action that did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// A bot's seat became free.
    BotRemoved {
        /// The seat.
        seat: Seat,
        /// The action that did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// A player did not answer in time: a bot plays for it from now on.
    PlayerWentSilent {
        /// The seat.
        seat: Seat,
    },
    /// A silent player took its seat back.
    PlayerCameBack {
        /// The seat.
        seat: Seat,
        /// The action that did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// The game began.
    GameStarted {
        /// The action that did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// The pieces were shuffled and dealt, for a new round or after a redeal.
    Dealt {
        /// The round, from 1.
        round: u8,
        /// What the round's scores are multiplied by: 1, and one more for each redeal.
        multiplier: u16,
        /// Who declares and plays first.
        starter: Seat,
        /// Every seat's eight pieces: secret.
        hands: Hands,
        /// The seats with a weak hand, in play order: secret until each is asked.
        weak: Vec<Seat>,
    },
    /// A seat with a weak hand was asked whether it wants a redeal.
    RedealAsked {
        /// The seat.
        seat: Seat,
    },
    /// A seat took the redeal; a deal follows.
    RedealAccepted {
        /// The seat.
        seat: Seat,
        /// The action that did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// A seat kept its weak hand.
    RedealDeclined {
        /// The seat.
        seat: Seat,
        /// The action that did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// A seat declared how many piles it will capture.
    Declared {
        /// The seat.
        seat: Seat,
        /// 0 to 8.
        piles: u8,
        /// The action that did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// A seat put down pieces.
    Played {
        /// The seat.
        seat: Seat,
        /// The pieces, for everybody to see.
        pieces: Pieces,
        /// What they are as a play, if they are a valid one; `null` must be written out.
        #[serde(deserialize_with = "written_out")]
        play: Option<PlayType>,
        /// Whether the play is valid and of the starter's type.
        can_win: bool,
        /// The action that did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// All four have played: the strongest play captured the piles.
    TurnWon {
        /// The seat that captured, and starts the next turn.
        winner: Seat,
        /// How many piles: as many as each player put down pieces.
        piles: u8,
    },
    /// The hands are empty: the round was scored.
    RoundScored {
        /// The round.
        round: u8,
        /// What the scores were multiplied by.
        multiplier: u16,
        /// What each seat declared.
        declared: BySeat<u8>,
        /// What each seat captured.
        captured: BySeat<u8>,
        /// What each seat won or lost, multiplied.
        change: BySeat<i32>,
        /// The scores after it.
        scores: BySeat<i32>,
    },
    /// The game is over.
    GameEnded {
        /// How many rounds were played.
        rounds: u8,
        /// The final scores.
        scores: BySeat<i32>,
        /// Who shares the highest score.
        winners: Vec<Seat>,
        /// The bound that ended it before the rules did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<Limit>,
    },
    /// The room was given up before its game ended.
    RoomAbandoned {
        /// Why.
        reason: AbandonReason,
    },
    /// A player said something.
    Chat {
        /// The seat.
        seat: Seat,
        /// What was said.
        text: ChatText,
        /// The action that did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// A numbered action was refused, once and for ever.
    ActionRefused {
        /// The seat that acted.
        seat: Seat,
        /// The number of its action.
        action: ActionNumber,
        /// Why.
        reason: Refusal,
    },
}

/// Reads an optional value whose field may not be left out.
fn written_out<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

impl Event {
    /// Returns the name of the event's type, as in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RoomCreated { .. } => "room_created",
            Self::PlayerJoined { .. } => "player_joined",
            Self::PlayerLeft { .. } => "player_left",
            Self::HostChanged { .. } => "host_changed",
            Self::BotAdded { .. } => "bot_added",
            Self::BotRemoved { .. } => "bot_removed",
            Self::PlayerWentSilent { .. } => "player_went_silent",
            Self::PlayerCameBack { .. } => "player_came_back",
            Self::GameStarted { .. } => "game_started",
            Self::Dealt { .. } => "dealt",
            Self::RedealAsked { .. } => "redeal_asked",
            Self::RedealAccepted { .. } => "redeal_accepted",
            Self::RedealDeclined { .. } => "redeal_declined",
            Self::Declared { .. } => "declared",
            Self::Played { .. } => "played",
            Self::TurnWon { .. } => "turn_won",
            Self::RoundScored { .. } => "round_scored",
            Self::GameEnded { .. } => "game_ended",
            Self::RoomAbandoned { .. } => "room_abandoned",
            Self::Chat { .. } => "chat",
            Self::ActionRefused { .. } => "action_refused",
        }
    }

    /// Returns the numbered action that this event accepts, if it is the answer to one.
    pub const fn cause(&self) -> Option<Cause> {
        match self {
            Self::PlayerLeft { cause, .. }
            | Self::BotAdded { cause, .. }
            | Self::BotRemoved { cause, .. }
            | Self::PlayerCameBack { cause, .. }
            | Self::GameStarted { cause }
            | Self::RedealAccepted { cause, .. }
            | Self::RedealDeclined { cause, .. }
            | Self::Declared { cause, .. }
            | Self::Played { cause, .. }
            | Self::Chat { cause, .. } => *cause,
            Self::RoomCreated { .. }
            | Self::PlayerJoined { .. }
            | Self::HostChanged { .. }
            | Self::PlayerWentSilent { .. }
            | Self::Dealt { .. }
            | Self::RedealAsked { .. }
            | Self::TurnWon { .. }
            | Self::RoundScored { .. }
            | Self::GameEnded { .. }
            | Self::RoomAbandoned { .. }
            | Self::ActionRefused { .. } => None,
        }
    }
}
