//! A chair of the room: who sits on it, and what was answered to its last numbered action.

use serde::{Deserialize, Serialize};

use super::{
    player::{ActionNumber, PlayerId, Style},
    refusal::Refusal,
    room_view::SeatView,
    text::Name,
};

/// The first and only answer to a numbered action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Answer {
    /// It was done; `offset` is that of the event that says so.
    Accepted {
        /// The offset of the actor's own event.
        offset: u64,
    },
    /// It was refused.
    Refused {
        /// The offset of the refusal.
        offset: u64,
        /// Why.
        reason: Refusal,
    },
}

/// A numbered action and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answered {
    pub(super) action: ActionNumber,
    pub(super) answer: Answer,
}

/// Who sits on a chair.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum Occupant {
    #[default]
    Nobody,
    Person {
        player: PlayerId,
        name: Name,
        /// Whether a bot plays, because the person did not answer in time.
        silent: bool,
    },
    Bot {
        name: Name,
        style: Style,
    },
}

impl Occupant {
    pub(super) const fn name(&self) -> Option<&Name> {
        match self {
            Self::Nobody => None,
            Self::Person { name, .. } | Self::Bot { name, .. } => Some(name),
        }
    }

    pub(super) const fn player(&self) -> Option<PlayerId> {
        match self {
            Self::Person { player, .. } => Some(*player),
            Self::Nobody | Self::Bot { .. } => None,
        }
    }

    pub(super) const fn is_free(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    pub(super) const fn is_bot(&self) -> bool {
        matches!(self, Self::Bot { .. })
    }

    pub(super) const fn is_silent(&self) -> bool {
        matches!(self, Self::Person { silent: true, .. })
    }

    /// Returns how the bot on the chair plays, or the one that stands in for a silent person.
    pub(super) fn bot(&self) -> Option<Style> {
        match self {
            Self::Bot { style, .. } => Some(*style),
            Self::Person { silent: true, .. } => Some(Style::default()),
            Self::Person { silent: false, .. } | Self::Nobody => None,
        }
    }

    pub(super) fn view(&self) -> SeatView {
        match self {
            Self::Nobody => SeatView::Free {},
            Self::Person { player: _, name, silent } => {
                SeatView::Person { name: name.clone(), silent: *silent }
            }
            Self::Bot { name, style } => SeatView::Bot { name: name.clone(), style: *style },
        }
    }
}

/// One of the four chairs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chair {
    pub(super) occupant: Occupant,
    /// The last numbered action of the person who sits here.
    pub(super) answered: Option<Answered>,
    /// The last person who left this chair, and that person's last numbered action: leaving
    /// twice gets the first answer too.
    pub(super) departed: Option<(PlayerId, Answered)>,
}

impl Chair {
    /// Seats a person whose last numbered action in this room, if any, was `answered`.
    pub(super) fn seat_person(
        &mut self,
        player: PlayerId,
        name: &Name,
        answered: Option<Answered>,
    ) {
        self.answered = answered;
        self.occupant = Occupant::Person { player, name: name.clone(), silent: false };
    }

    /// Frees the chair.
    pub(super) fn vacate(&mut self) {
        let player = self.occupant.player();
        if let (Some(player), Some(answered)) = (player, self.answered.take()) {
            self.departed = Some((player, answered));
        }
        self.occupant = Occupant::Nobody;
    }

    /// Lets a bot stand in for the person, or ends that.
    pub(super) fn set_silent(&mut self, now: bool) {
        if let Occupant::Person { silent, .. } = &mut self.occupant {
            *silent = now;
        }
    }

    /// Returns the last answer to `player`, if that is who left this chair last.
    pub(super) fn answer_to_departed(&self, player: PlayerId) -> Option<Answered> {
        self.departed.filter(|(departed, _)| *departed == player).map(|(_, answered)| answered)
    }
}
