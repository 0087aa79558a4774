//! What is said to a room's task, and the way to it.

use infra_core::{Result, context::Context};
use infra_ws::{Connection, ConnectionId};
use tokio::sync::{mpsc, oneshot, watch};

use super::summary::Summary;
use crate::{
    domain::{Act, ActionNumber, Name, Phase, PlayerId, RoomView, Settings},
    protocol::{Code, Emoji, Epoch, Position, Token, admin::LiveEvent},
};

/// Why a connection enters a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To create it.
    Create {
        /// The host's name.
        name: Name,
        /// The room's times.
        settings: Settings,
    },
    /// To take a seat.
    Join {
        /// The player's name.
        name: Name,
    },
    /// To take its own seat again.
    Return {
        /// The last event that was seen.
        from: Option<Position>,
    },
    /// To watch.
    Watch {
        /// The last event that was seen.
        from: Option<Position>,
    },
}

/// What a connection needs to enter.
#[derive(Debug)]
pub struct Enter {
    /// The connection.
    pub connection: Connection,
    /// Who it is.
    pub player: PlayerId,
    /// Why it enters.
    pub purpose: Purpose,
    /// The token to come back with; none for a spectator.
    pub token: Option<Token>,
}

/// How an attempt to enter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It is in; the answer was sent, and events follow.
    Entered,
    /// It is not.
    Refused(Code),
}

/// A letter to a room.
#[derive(Debug)]
pub enum Mail {
    /// A connection enters.
    Enter(Box<Enter>, oneshot::Sender<Entry>),
    /// A player acts.
    Act {
        /// The connection that gets the answer.
        connection: Connection,
        /// Who acts.
        player: PlayerId,
        /// The number of the action.
        action: ActionNumber,
        /// The type of the message.
        request: &'static str,
        /// What is asked.
        act: Act,
        /// Hears, once the answer was sent, whether the player has left the room by it.
        done: oneshot::Sender<bool>,
    },
    /// A player makes a gesture.
    Emoji {
        /// Who.
        player: PlayerId,
        /// Which.
        emoji: Emoji,
    },
    /// A connection has ended, or watches no more.
    Leave(ConnectionId),
    /// An operator looks.
    Look(oneshot::Sender<Look>),
    /// Somebody is forgotten: the room is read anew from its events. Hears how that went.
    ReadAnew(oneshot::Sender<Result<()>>),
}

/// What an operator sees of a room.
#[derive(Debug)]
pub struct Look {
    /// The epoch of its events.
    pub epoch: Epoch,
    /// The spectator's view.
    pub state: RoomView,
    /// The last events.
    pub recent: Vec<LiveEvent>,
}

/// A letter, with the context of who sent it: its correlation and trace, its deadline and its extra attempts.
pub(super) type Letter = (Context, Mail);

/// The way to a room's task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    pub(super) mailbox: mpsc::Sender<Letter>,
    pub(super) summary: watch::Receiver<Option<Summary>>,
}

impl RoomHandle {
    /// Puts a letter into the mailbox, waiting for room in it; gives it back if the task has ended.
    ///
    /// # Errors
    ///
    /// The letter.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the letter unsent.
    pub async fn send(&self, mail: Mail) -> Result<(), Mail> {
        self.mailbox.send((Context::current(), mail)).await.map_err(|refused| refused.0.1)
    }

    /// Returns the room in a line; `None` before it was created.
    pub fn summary(&self) -> Option<Summary> {
        self.summary.borrow().clone()
    }

    /// Returns the phase of the game that is played in it, if one is.
    pub fn phase(&self) -> Option<Phase> {
        self.summary.borrow().as_ref().and_then(|summary| summary.phase)
    }

    /// Returns whether the task has ended.
    pub fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }
}
