//! What a viewer may see of an event: one answer for every event, so that no offset is missing.

use serde::{Deserialize, Serialize};

use super::{
    bounds::Limit,
    event::{AbandonReason, Event},
    pieces::Pieces,
    play::PlayType,
    player::{ActionNumber, Style},
    refusal::Refusal,
    seat::{BySeat, Seat},
    settings::Settings,
    text::{ChatText, Name},
};

/// Who looks at a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Viewer {
    /// The player on a seat: sees that seat's own hand.
    Seat(Seat),
    /// Anybody else, operators too: sees no hand.
    Spectator,
}

impl Viewer {
    /// Returns the seat, if the viewer has one.
    pub const fn seat(self) -> Option<Seat> {
        match self {
            Self::Seat(seat) => Some(seat),
            Self::Spectator => None,
        }
    }
}

/// An event as one viewer sees it; in JSON an object whose `type` is the event's name.
///
/// Ids of players and numbers of actions are never in it. [`Viewed::Hidden`] stands in for what
/// is none of the viewer's business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Viewed {
    /// The room was created.
    RoomCreated {
        /// The host's seat.
        seat: Seat,
        /// The host's name.
        name: Name,
        /// The room's settings.
        settings: Settings,
    },
    /// A player took a seat.
    PlayerJoined {
        /// The seat.
        seat: Seat,
        /// The player's name.
        name: Name,
    },
    /// A player gave the seat up for good.
    PlayerLeft {
        /// The seat.
        seat: Seat,
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
    },
    /// A bot's seat became free.
    BotRemoved {
        /// The seat.
        seat: Seat,
    },
    /// A bot plays for a silent player from now on.
    PlayerWentSilent {
        /// The seat.
        seat: Seat,
    },
    /// A silent player took its seat back.
    PlayerCameBack {
        /// The seat.
        seat: Seat,
    },
    /// The game began.
    GameStarted {},
    /// The pieces were dealt; each seat has eight.
    Dealt {
        /// The round, from 1.
        round: u8,
        /// What the round's scores are multiplied by.
        multiplier: u16,
        /// Who declares and plays first.
        starter: Seat,
        /// The viewer's own hand; a spectator has none.
        hand: Option<Pieces>,
    },
    /// A seat with a weak hand was asked whether it wants a redeal.
    RedealAsked {
        /// The seat.
        seat: Seat,
    },
    /// A seat took the redeal.
    RedealAccepted {
        /// The seat.
        seat: Seat,
    },
    /// A seat kept its weak hand.
    RedealDeclined {
        /// The seat.
        seat: Seat,
    },
    /// A seat declared.
    Declared {
        /// The seat.
        seat: Seat,
        /// 0 to 8.
        piles: u8,
    },
    /// A seat put down pieces.
    Played {
        /// The seat.
        seat: Seat,
        /// The pieces.
        pieces: Pieces,
        /// What they are as a play, if they are a valid one.
        play: Option<PlayType>,
        /// Whether the play is valid and of the starter's type.
        can_win: bool,
    },
    /// A turn was won.
    TurnWon {
        /// The seat that captured, and starts the next turn.
        winner: Seat,
        /// How many piles.
        piles: u8,
    },
    /// A round was scored.
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
    /// The room was given up.
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
    },
    /// An action of the viewer's own was refused.
    ActionRefused {
        /// The number of the action.
        action: ActionNumber,
        /// Why.
        reason: Refusal,
    },
    /// Something happened that the viewer has no part in.
    Hidden {},
}

/// Returns whether every viewer sees `event` alike, so that one encoding serves all.
pub const fn is_shared(event: &Event) -> bool {
    !matches!(event, Event::Dealt { .. } | Event::ActionRefused { .. })
}

/// Returns what `viewer` may see of `event`.
///
/// ```
/// use game_server::domain::{
///     ActionNumber, Event, Refusal, Seat, Viewed, Viewer, view,
/// };
///
/// let refused = Event::ActionRefused {
///     seat: Seat::First,
///     action: ActionNumber::new(4),
///     reason: Refusal::NotYourTurn,
/// };
/// assert_eq!(view(&refused, Viewer::Seat(Seat::Second)), Viewed::Hidden {});
/// assert_ne!(view(&refused, Viewer::Seat(Seat::First)), Viewed::Hidden {});
/// ```
pub fn view(event: &Event, viewer: Viewer) -> Viewed {
    match event {
        Event::RoomCreated { host: _, name, settings } => {
            Viewed::RoomCreated { seat: Seat::First, name: name.clone(), settings: *settings }
        }
        Event::PlayerJoined { seat, player: _, name } => {
            Viewed::PlayerJoined { seat: *seat, name: name.clone() }
        }
        Event::PlayerLeft { seat, cause: _ } => Viewed::PlayerLeft { seat: *seat },
        Event::HostChanged { seat } => Viewed::HostChanged { seat: *seat },
        Event::BotAdded { seat, name, style, cause: _ } => {
            Viewed::BotAdded { seat: *seat, name: name.clone(), style: *style }
        }
        Event::BotRemoved { seat, cause: _ } => Viewed::BotRemoved { seat: *seat },
        Event::PlayerWentSilent { seat } => Viewed::PlayerWentSilent { seat: *seat },
        Event::PlayerCameBack { seat, cause: _ } => Viewed::PlayerCameBack { seat: *seat },
        Event::GameStarted { cause: _ } => Viewed::GameStarted {},
        Event::Dealt { round, multiplier, starter, hands, weak: _ } => Viewed::Dealt {
            round: *round,
            multiplier: *multiplier,
            starter: *starter,
            hand: viewer.seat().map(|seat| hands.0[seat]),
        },
        Event::RedealAsked { seat } => Viewed::RedealAsked { seat: *seat },
        Event::RedealAccepted { seat, cause: _ } => Viewed::RedealAccepted { seat: *seat },
        Event::RedealDeclined { seat, cause: _ } => Viewed::RedealDeclined { seat: *seat },
        Event::Declared { seat, piles, cause: _ } => {
            Viewed::Declared { seat: *seat, piles: *piles }
        }
        Event::Played { seat, pieces, play, can_win, cause: _ } => {
            Viewed::Played { seat: *seat, pieces: *pieces, play: *play, can_win: *can_win }
        }
        Event::TurnWon { winner, piles } => Viewed::TurnWon { winner: *winner, piles: *piles },
        Event::RoundScored { round, multiplier, declared, captured, change, scores } => {
            Viewed::RoundScored {
                round: *round,
                multiplier: *multiplier,
                declared: *declared,
                captured: *captured,
                change: *change,
                scores: *scores,
            }
        }
        Event::GameEnded { rounds, scores, winners, limit } => Viewed::GameEnded {
            rounds: *rounds,
            scores: *scores,
            winners: winners.clone(),
            limit: *limit,
        },
        Event::RoomAbandoned { reason } => Viewed::RoomAbandoned { reason: *reason },
        Event::Chat { seat, text, cause: _ } => Viewed::Chat { seat: *seat, text: text.clone() },
        Event::ActionRefused { seat, action, reason } if viewer == Viewer::Seat(*seat) => {
            Viewed::ActionRefused { action: *action, reason: *reason }
        }
        Event::ActionRefused { seat: _, action: _, reason: _ } => Viewed::Hidden {},
    }
}
