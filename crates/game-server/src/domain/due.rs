//! What a room waits for, and what happens when it has waited long enough.

use super::{
    command::{Act, Actor, Command, Entropy},
    room::Room,
    room_view::Phase,
    seat::Seat,
    settings::{Millis, Settings},
};

/// Whom a room waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Awaited {
    /// A person; who does not answer in time is played by a bot.
    Person(Seat),
    /// The bot on a seat, or the one that plays for a silent person.
    Bot(Seat),
    /// Nobody: the scores are shown before the next deal.
    NextRound,
}

/// What a room waits for.
///
/// The shell waits a time of its choice between `earliest` and `latest`, then gives
/// [`command`](Self::command). It starts anew whenever `awaited` or `since` has changed;
/// a command that comes too late is refused as `not_due` and harms nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Due {
    /// Whom the room waits for.
    pub awaited: Awaited,
    /// The offset from which it waits.
    pub since: u64,
    /// The shortest time to wait.
    pub earliest: Millis,
    /// The longest time to wait.
    pub latest: Millis,
}

impl Due {
    /// Returns the command that the room's clock gives when the time is up.
    pub const fn command(&self, entropy: Entropy) -> Command {
        let since = self.since;
        let act = match self.awaited {
            Awaited::Person(seat) => Act::TimeOut { seat, since },
            Awaited::Bot(seat) => Act::PlayFor { seat, since, entropy },
            Awaited::NextRound => Act::NextRound { since, entropy },
        };
        Command::of(Actor::Clock, act)
    }
}

impl Room {
    /// Returns what the room waits for; nothing unless its game runs.
    pub fn due(&self) -> Option<Due> {
        let awaited = self.awaited()?;
        let phase = self.running()?.round.phase();
        let (earliest, latest) = wait(&self.settings, awaited, phase);
        Some(Due { awaited, since: self.since, earliest, latest })
    }

    pub(super) fn awaited(&self) -> Option<Awaited> {
        let game = self.running()?;
        if game.round.phase() == Phase::Scoring {
            return Some(Awaited::NextRound);
        }
        let seat = game.awaited()?;
        let plays_itself = self.chairs[seat].occupant.bot().is_none();
        Some(if plays_itself { Awaited::Person(seat) } else { Awaited::Bot(seat) })
    }
}

const fn wait(settings: &Settings, awaited: Awaited, phase: Phase) -> (Millis, Millis) {
    let exactly = match (awaited, phase) {
        (Awaited::Bot(_), _) => return (settings.bot_min_ms, settings.bot_max_ms),
        (Awaited::NextRound, _) | (Awaited::Person(_), Phase::Scoring) => settings.scoring_ms,
        (Awaited::Person(_), Phase::Preparation) => settings.preparation_ms,
        (Awaited::Person(_), Phase::Declaration) => settings.declaration_ms,
        (Awaited::Person(_), Phase::Turn) => settings.turn_ms,
    };
    (exactly, exactly)
}
