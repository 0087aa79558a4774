//! The queue as a pure function of its log: every process that carries out the same entries holds
//! the same queue.

use infra_core::{
    Result,
    clock::{Instant, Timestamp},
    durability::Durability,
    queue::{Message, Settlement},
};

use super::entry::Command;
use crate::{
    queue::{Image, Moment, Options, State, Taken},
    wire::cause_of,
};

/// What became of a command.
#[derive(Debug)]
pub(super) enum Outcome {
    New(Result<Vec<bool>>),
    Taken(Vec<Taken>),
    Done(Result<()>),
    Is(bool),
    Count(u64),
}

/// A queue after some entry of its log.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) state: State,
    /// The sequence of the last entry that was carried out.
    pub(super) applied: u64,
    /// How many entries were since the last image.
    pub(super) n_since: u64,
    at: Timestamp,
}

/// The moment of a wall time. Times of the log are all that counts, so the line of its instants is
/// the wall time itself.
const fn moment(wall: Timestamp) -> Moment {
    Moment { now: Instant::from_start(wall.since(Timestamp::EPOCH)), wall }
}

impl Replica {
    pub(super) fn new(options: Options) -> Self {
        Self { state: State::new(options), applied: 0, n_since: 0, at: Timestamp::EPOCH }
    }

    /// Returns the replica after the entry `applied`, at the time of that entry.
    pub(super) fn from_image(
        options: Options,
        image: Image,
        applied: u64,
        at: Timestamp,
    ) -> Result<Self> {
        let state = State::from_image(options, image, moment(at))?;
        Ok(Self { state, applied, n_since: 0, at })
    }

    pub(super) const fn at(&self) -> Timestamp {
        self.at
    }

    /// Returns the time for an entry that is written at `wall`: time never goes back in a log, also
    /// where the clocks of its writers disagree.
    pub(super) fn time(&self, wall: Timestamp) -> Timestamp {
        self.at.max(wall)
    }

    /// Returns the moment for a look at `wall`.
    pub(super) fn moment(&self, wall: Timestamp) -> Moment {
        moment(self.time(wall))
    }

    /// Returns whether something is due that no entry has let happen yet.
    pub(super) fn is_due(&self, wall: Timestamp) -> bool {
        self.state.due().is_some_and(|due| due <= self.moment(wall).now)
    }

    /// Carries out the commands of an entry; what counts is counted if `is_own`.
    pub(super) fn apply(
        &mut self,
        sequence: u64,
        wall: Timestamp,
        commands: Vec<Command>,
        is_own: bool,
    ) -> Result<Vec<Outcome>> {
        self.applied = sequence;
        self.n_since += 1;
        self.at = self.time(wall);
        let at = moment(self.at);
        self.state.counted = u64::from(is_own);
        self.state.pass(at);
        commands.into_iter().map(|command| self.carry_out(command, at)).collect()
    }

    fn carry_out(&mut self, command: Command, at: Moment) -> Result<Outcome> {
        let state = &mut self.state;
        // Each command finds what the one before it made due.
        state.pass(at);
        Ok(match command {
            Command::Publish(envelopes) => {
                let messages = envelopes.into_iter().map(TryInto::try_into);
                let messages: Vec<Message> = messages.collect::<Result<_>>()?;
                Outcome::New(state.publish(messages, at))
            }
            Command::Take { limit, lease } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                Outcome::Taken(state.take(limit, lease, at))
            }
            Command::Settle { number, lease, verdict } => {
                Outcome::Done(state.settle(number, lease, Settlement::from(verdict), at))
            }
            Command::Extend { number, lease, length } => {
                Outcome::Done(state.extend(number, lease, length, at))
            }
            Command::Replay(id) => Outcome::Is(state.replay(id, at)),
            Command::Purge { before, cause } => {
                let cause = cause.map(|name| cause_of(&name)).transpose()?;
                Outcome::Count(state.purge_dead(before, cause, at))
            }
            Command::Clear => Outcome::Count(state.clear(at)),
            Command::Pause(paused) => {
                state.pause(paused);
                Outcome::Done(Ok(()))
            }
            Command::Pass => Outcome::Done(Ok(())),
        })
    }
}

/// What a server that acknowledges before it syncs can promise, and one that syncs always.
pub(super) const fn durability(syncs_always: bool) -> Durability {
    if syncs_always { Durability::Durable } else { Durability::Buffered }
}
