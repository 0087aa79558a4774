//! What actions cost, by the phase of the room.

use std::num::NonZeroU32;

/// What a player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its name")]
pub enum Action {
    CreateRoom,
    JoinRoom,
    LeaveRoom,
    StartGame,
    Play,
    Declare,
    AcceptRedeal,
    DeclineRedeal,
    Chat,
    Emoji,
    Replay,
    Statistics,
    Unknown,
}

impl Action {
    /// Returns what it costs in tokens.
    pub const fn cost(self) -> NonZeroU32 {
        let tokens = match self {
            Self::Replay => 10,
            Self::CreateRoom | Self::Statistics => 5,
            Self::StartGame => 3,
            Self::JoinRoom | Self::AcceptRedeal | Self::DeclineRedeal => 2,
            Self::LeaveRoom
            | Self::Play
            | Self::Declare
            | Self::Chat
            | Self::Emoji
            | Self::Unknown => 1,
        };
        NonZeroU32::MIN.saturating_add(tokens - 1)
    }

    /// Returns what it costs in a phase of the room in which the server has seated the player: its
    /// cost divided by the phase's factor, rounded up, never below one.
    pub const fn cost_in(self, phase: Phase) -> NonZeroU32 {
        let halves = match phase {
            Phase::Lobby => 1,
            Phase::Preparation | Phase::Scoring => 2,
            Phase::Declaration => 3,
            Phase::Turn => 4,
        };
        let cost = (self.cost().get() * 2).div_ceil(halves);
        NonZeroU32::MIN.saturating_add(cost.saturating_sub(1))
    }
}

/// Where a room is in its game.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Actions cost twice as much: nothing there is urgent.
    Lobby,
    /// Actions cost what they cost.
    Preparation,
    /// Actions cost two thirds.
    Declaration,
    /// Actions cost half.
    Turn,
    /// Actions cost what they cost.
    Scoring,
}
