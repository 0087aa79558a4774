//! A state machine that is stored before it changes.

use infra_core::{
    Error, ErrorKind, Result,
    event::{Append, NewEvent},
    id::{EventId, StreamName},
    version::{Expected, Version},
};
use tokio::task::JoinSet;

use super::{
    action::Action,
    envelope::Anchor,
    events::{self, Facts},
    journal::Journal,
    options::{DurableOptions, SnapshotCodec},
    persistent::Persistent,
    policy::{ChangeSeen, Progress},
    recorder::FlightRecorder,
    recovery::{Recovered, Report, Target, recover},
    snapshotting::sealed,
    telemetry::{self, Fate},
};

pub(super) const EXECUTE: &str = "execute command of machine";

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<M: Persistent> {
    /// It was accepted, and what it made happen is stored.
    Accepted {
        /// The version after it.
        version: Version,
        /// What happened; empty if nothing had to.
        events: Vec<M::Event>,
    },
    /// The machine refused it; nothing has changed.
    Refused(M::Refusal),
}

/// A machine whose every change is stored before it is made.
///
/// One value is the machine's only writer. It decides in memory, stores what was decided at the durability
/// of its options, and only then changes; so a failed write changes nothing. Where the fate of a write is
/// not known (an `Indeterminate` error, or a future that was dropped), the next command first reads
/// what the store has.
///
/// Snapshots are taken beside the commands and never make one wait or fail, except where they are all that is
/// kept. Beside events they are handed to the operating system only: a loss of power may take the newest.
///
/// ```
/// # use std::sync::Arc;
/// # use infra_core::{SystemClock, id::StreamName, machine::StateMachine, version::Version};
/// # use infra_persistence::state::{Action, Durable, DurableOptions, Outcome, Persistent, Strategy};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Debug, Clone, Default, Serialize, Deserialize)]
/// struct Door { is_open: bool }
///
/// impl StateMachine for Door {
///     type Command = bool;
///     type Event = bool;
///     type Refusal = &'static str;
///     const NAME: &'static str = "door";
///     const SCHEMA_VERSION: u32 = 1;
///
///     fn decide(&self, open: bool) -> Result<Vec<bool>, &'static str> {
///         if self.is_open == open { Err("it is so already") } else { Ok(vec![open]) }
///     }
///
///     fn evolve(&mut self, is_open: &bool) { self.is_open = *is_open; }
/// }
///
/// impl Persistent for Door {
///     fn kind(is_open: &bool) -> &'static str { if *is_open { "opened" } else { "closed" } }
///     fn phase(&self) -> &'static str { if self.is_open { "open" } else { "closed" } }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let clock = SystemClock::shared();
/// # let events = Arc::new(infra_testkit::model::ModelEvents::new(Arc::clone(&clock)));
/// let options = DurableOptions::new(Strategy::EventSourced(events), clock);
/// let (mut door, _) = Durable::<Door>::open(StreamName::new("door-1")?, options.clone()).await?;
/// door.execute(&Action::new("open").by("ann"), true).await?;
/// drop(door);
///
/// let (door, report) = Durable::<Door>::open(StreamName::new("door-1")?, options).await?;
/// assert!(door.state().is_open);
/// assert_eq!(report.replayed, 1);
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Durable<M: Persistent> {
    pub(super) machine: M,
    pub(super) version: Version,
    /// The id of the event of that version.
    pub(super) anchor: Anchor,
    pub(super) journal: Journal,
    pub(super) progress: Progress,
    pub(super) recorder: FlightRecorder,
    /// The fate of a write is not known: look at the store before the next command.
    pub(super) is_unsure: bool,
    /// Snapshots on their way; they end with this value.
    pub(super) snapshots: JoinSet<()>,
}

impl<M: Persistent> Durable<M> {
    /// Recovers the machine of a stream, or begins it, and tells what was found.
    ///
    /// With a fence, its token is committed first: from then on the store refuses the owner before.
    ///
    /// # Errors
    ///
    /// As [`recover`], `Fenced` if a newer owner was first, and `Invalid` for options that cannot be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the token committed and nothing else.
    pub async fn open(stream: StreamName, options: DurableOptions) -> Result<(Self, Report)> {
        let journal = Journal::new(stream, options);
        check_options(&journal.options)?;
        own::<M>(&journal).await?;
        let recovered = recover::<M>(&journal.stream, &journal.options, Target::Latest).await?;
        let report = recovered.report.clone();
        Ok((Self::after(journal, recovered), report))
    }

    /// Goes on with a machine that was recovered, as by [`recover_all`](super::recover_all).
    ///
    /// If the stream has gone on since, the first command finds that out by a `Conflict`, and the next one
    /// begins with what the store has.
    ///
    /// # Errors
    ///
    /// `Invalid` for options that cannot be, for a fence, whose token must be committed before anything
    /// is read, and for a machine that was recovered to an earlier point than the latest.
    pub fn resume(
        stream: StreamName,
        options: DurableOptions,
        recovered: Recovered<M>,
    ) -> Result<Self> {
        check_options(&options)?;
        if options.fence.is_some() || recovered.report.target != Target::Latest {
            let what = "only the latest state is gone on with, and none that is bound to a lease";
            return Err(Error::invalid("resume machine", what));
        }
        Ok(Self::after(Journal::new(stream, options), recovered))
    }

    fn after(journal: Journal, recovered: Recovered<M>) -> Self {
        let Recovered { machine, report, anchor } = recovered;
        Self {
            machine,
            version: report.version,
            anchor,
            progress: progress_after(&report, &journal.options),
            recorder: FlightRecorder::new(journal.options.n_recorded),
            is_unsure: false,
            snapshots: JoinSet::new(),
            journal,
        }
    }

    /// Returns the machine's state.
    pub const fn state(&self) -> &M {
        &self.machine
    }

    /// Returns the version of the state.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns the machine's stream.
    pub const fn stream(&self) -> &StreamName {
        &self.journal.stream
    }

    /// Returns the newest transitions of this value's life.
    pub const fn recorder(&self) -> &FlightRecorder {
        &self.recorder
    }

    /// Gives the machine a command and stores what it decides.
    ///
    /// # Errors
    ///
    /// What the store fails with; nothing has changed then, or, if it is `Indeterminate`, may have.
    /// `Conflict` and `Fenced` mean that somebody else writes the stream. `Internal` if what was decided
    /// breaks an invariant of the machine; it is not stored.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the command stored or not; the next call finds out which.
    pub async fn execute(&mut self, action: &Action, command: M::Command) -> Result<Outcome<M>> {
        let executed = self.try_execute(action, command).await;
        let fate = match &executed {
            Ok(Outcome::Accepted { .. }) => Fate::Accepted,
            Ok(Outcome::Refused(_)) => Fate::Refused,
            Err(error) => {
                self.recorder.dump(self.stream(), &error.to_string());
                if let Some(reason) = self.journal.options.policy.after_error(&self.progress) {
                    self.begin_snapshot(reason);
                }
                Fate::Failed
            }
        };
        telemetry::COMMANDS.add_for(fate, 1);
        executed
    }

    async fn try_execute(&mut self, action: &Action, command: M::Command) -> Result<Outcome<M>> {
        self.refresh().await?;
        let begun = self.journal.options.clock.now();
        let decided = match self.machine.decide(command) {
            Ok(decided) => decided,
            Err(refusal) => {
                self.remember_refusal(action, &refusal).await?;
                return Ok(Outcome::Refused(refusal));
            }
        };
        if decided.is_empty() {
            return Ok(Outcome::Accepted { version: self.version, events: decided });
        }
        let (next, recorded) = self.prepare(action, &decided)?;
        let bytes = recorded.iter().map(|event| event.payload.body.len() as u64).sum();
        self.store(&next, recorded).await?;
        telemetry::SAVE.record(self.journal.options.clock.now().since(begun).as_secs_f64());
        let before = self.machine.phase();
        self.machine = next;
        self.progress.n_events = self.progress.n_events.saturating_add(decided.len() as u64);
        self.progress.bytes = self.progress.bytes.saturating_add(bytes);
        self.after_change(before);
        Ok(Outcome::Accepted { version: self.version, events: decided })
    }

    /// Folds what was decided into a copy, and writes down each step.
    fn prepare(&mut self, action: &Action, decided: &[M::Event]) -> Result<(M, Vec<NewEvent>)> {
        let options = &self.journal.options;
        let begun = options.clock.now();
        let mut next = self.machine.clone();
        let mut recorded = Vec::with_capacity(decided.len());
        for event in decided {
            let from = next.phase();
            next.evolve(event);
            let took = options.clock.now().since(begun);
            let facts = Facts { action, from, to: next.phase(), took };
            recorded.push(events::encode::<M>(self.new_id(), event, facts)?);
        }
        next.check().map_err(|fault| {
            let what = format!("`{}` would break an invariant: {fault}", action.name());
            Error::new(ErrorKind::Internal, EXECUTE).detail(what)
        })?;
        Ok((next, recorded))
    }

    /// Reads what the store has, if the fate of the last write is not known; else it does nothing.
    ///
    /// Each command begins with this. Who tells others of the machine's changes calls it before, so that
    /// what turns out to have been stored is told first.
    ///
    /// # Errors
    ///
    /// As [`recover`]; the fate is unknown still.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn refresh(&mut self) -> Result<()> {
        if !self.is_unsure {
            return Ok(());
        }
        let options = &self.journal.options;
        // It is rare, and large: no command shall have a place for it.
        let recovery = recover::<M>(&self.journal.stream, options, Target::Latest);
        let recovered = Box::pin(recovery).await?;
        self.progress = progress_after(&recovered.report, options);
        self.machine = recovered.machine;
        self.version = recovered.report.version;
        self.anchor = recovered.anchor;
        self.is_unsure = false;
        Ok(())
    }

    fn after_change(&mut self, before: &str) {
        let options = &self.journal.options;
        let change =
            ChangeSeen { from: before, to: self.machine.phase(), now: options.clock.now() };
        if let Some(reason) = options.policy.after_change(&self.progress, &change) {
            self.begin_snapshot(reason);
        }
    }

    pub(super) fn new_id(&self) -> EventId {
        let options = &self.journal.options;
        EventId::generate(options.clock.wall(), &options.random)
    }
}

impl<M: Persistent> Drop for Durable<M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.recorder.dump(&self.journal.stream, "a panic");
        }
    }
}

fn check_options(options: &DurableOptions) -> Result<()> {
    let is_whole_state = options.strategy.events().is_none();
    if is_whole_state && options.codec == SnapshotCodec::Bincode {
        let what = "bincode is for snapshots whose events still exist";
        return Err(Error::invalid("open machine", what));
    }
    Ok(())
}

/// Commits the token of a new owner, before anything is read: what is read then is final.
async fn own<M: Persistent>(journal: &Journal) -> Result<()> {
    let options = &journal.options;
    let Some(fence) = options.fence.clone() else { return Ok(()) };
    if let Some(events) = options.strategy.events() {
        let id = EventId::generate(options.clock.wall(), &options.random);
        let mark = events::ownership::<M>(id)?;
        let append = Append::to(journal.stream.clone(), Expected::Any, vec![mark]).fenced(fence);
        return events.append(append).await.map(|_| ());
    }
    let Some(snapshots) = options.strategy.snapshots() else { return Ok(()) };
    let recovered = recover::<M>(&journal.stream, options, Target::Latest).await?;
    let at = (recovered.report.version, recovered.anchor);
    let snapshot = sealed(journal, &recovered.machine, at)?;
    snapshots.put_snapshot(snapshot, options.durability, Some(fence)).await
}

fn progress_after(report: &Report, options: &DurableOptions) -> Progress {
    Progress { n_events: report.replayed, ..Progress::none(options.clock.now()) }
}
