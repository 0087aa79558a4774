//! What can be asked of a room, and who asks.

use std::fmt;

use super::{
    event::AbandonReason,
    pieces::Pieces,
    player::{ActionNumber, PlayerId, Style},
    seat::Seat,
    settings::Settings,
    text::{ChatText, Name},
};

/// 256 bits from the operating system, the seed of one shuffle.
///
/// It is not stored, sent or printed: events hold the deal, never the seed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entropy([u8; 32]);

impl Entropy {
    /// Wraps bytes that nobody can foresee.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) const fn bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(hidden)")
    }
}

/// Who gives a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A person, whose identity the shell has proved.
    Player(PlayerId),
    /// The room's own clock: what `Room::due` named has become due.
    Clock,
    /// Whoever runs the server.
    Operator,
}

/// A command to a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Who gives it.
    pub actor: Actor,
    /// The number of a player's action, if a retry of it shall be harmless.
    pub action: Option<ActionNumber>,
    /// What is asked.
    pub act: Act,
}

impl Command {
    /// Creates a command of a player, numbered so that a retry is harmless.
    pub const fn numbered(player: PlayerId, action: ActionNumber, act: Act) -> Self {
        Self { actor: Actor::Player(player), action: Some(action), act }
    }

    /// Creates a command without a number.
    pub const fn of(actor: Actor, act: Act) -> Self {
        Self { actor, action: None, act }
    }
}

/// What is asked of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Creates the room; the player becomes its host, on seat 0.
    Create {
        /// The host's name.
        name: Name,
        /// The room's settings.
        settings: Settings,
    },
    /// Takes the first free seat of a room whose game has not begun.
    Join {
        /// The player's name.
        name: Name,
    },
    /// Leaves the room; in a game a bot takes the seat for good.
    Leave,
    /// Puts a bot on the first free seat (host, before the game).
    AddBot {
        /// How the bot plays.
        style: Style,
    },
    /// Frees the seat of a bot (host, before the game).
    RemoveBot {
        /// The bot's seat.
        seat: Seat,
    },
    /// Starts the game (host); bots fill the free seats.
    Start {
        /// The seed of the first deal.
        entropy: Entropy,
    },
    /// Takes the redeal that the player's weak hand was offered.
    AcceptRedeal {
        /// The seed of the new deal.
        entropy: Entropy,
    },
    /// Keeps the weak hand.
    DeclineRedeal,
    /// Declares how many piles the player will capture.
    Declare {
        /// 0 to 8.
        piles: u8,
    },
    /// Plays pieces in a turn.
    Play {
        /// 1 to 6 pieces of the player's hand.
        pieces: Pieces,
    },
    /// Says something to everybody; it is kept with the game.
    Chat {
        /// What is said.
        text: ChatText,
    },
    /// Takes the seat back from the bot that plays for a silent player.
    Return,
    /// Lets a bot play for a player who did not answer in time (clock).
    TimeOut {
        /// The silent player's seat.
        seat: Seat,
        /// The offset from which the answer was awaited; an older one is not due any more.
        since: u64,
    },
    /// Lets the bot on a seat, or the one that plays for a silent player, choose and act (clock).
    PlayFor {
        /// The seat that is to act.
        seat: Seat,
        /// The offset from which the answer was awaited.
        since: u64,
        /// The seed of a deal, in case the bot takes a redeal.
        entropy: Entropy,
    },
    /// Deals the next round after the scores were shown (clock).
    NextRound {
        /// The offset from which this was awaited.
        since: u64,
        /// The seed of the deal.
        entropy: Entropy,
    },
    /// Ends a game whose minutes are over (clock).
    TimeIsUp,
    /// Gives the room up (clock or operator).
    Close {
        /// Why.
        reason: AbandonReason,
    },
}
