//! A state machine that is stored before it changes.

use std::{borrow::Cow, sync::Arc};

use infra_core::{
    Clock, Error, ErrorKind, Result,
    event::{Append, EventStore, NewEvent},
    id::{EventId, StreamName},
    snapshot::{Snapshot, SnapshotStore},
    version::{Expected, Version},
};
use tokio::task::JoinSet;

use super::{
    envelope::{self, Anchor},
    events::{self, Facts},
    journal::Journal,
    options::{DurableOptions, Refusals, SnapshotCodec, Strategy},
    persistent::Persistent,
    policy::{ChangeSeen, Progress, Reason},
    recorder::FlightRecorder,
    recovery::{Recovered, Report, Target, recover},
    telemetry::{self, Fate},
    transition::Transition,
};

const EXECUTE: &str = "execute command of machine";

/// What is being done and by whom, for the log of transitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    name: Cow<'static, str>,
    actor: Option<String>,
    notes: Vec<(&'static str, String)>,
}

impl Action {
    /// Creates an action without an actor: the system's own.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), actor: None, notes: Vec::new() }
    }

    /// Names who acts.
    #[must_use]
    pub fn by(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Adds a note of the caller's own, which stands in the metadata of each event of the action.
    ///
    /// Names that begin with `state-` belong to this crate: such a note is not kept.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.notes.push((name, value.into()));
        self
    }

    pub(super) fn notes(&self) -> &[(&'static str, String)] {
        &self.notes
    }

    /// Returns the action's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns who acts.
    pub fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
    }
}

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
/// kept.
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
    machine: M,
    version: Version,
    /// The id of the event of that version.
    anchor: Anchor,
    journal: Journal,
    progress: Progress,
    recorder: FlightRecorder,
    /// The fate of a write is not known: look at the store before the next command.
    is_unsure: bool,
    /// Snapshots on their way; they end with this value.
    snapshots: JoinSet<()>,
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

    /// Stores a change by the strategy; afterwards `version` is that of the change.
    async fn store(&mut self, next: &M, recorded: Vec<NewEvent>) -> Result<()> {
        let steps: Vec<Transition> = recorded
            .iter()
            .zip(1..)
            .map(|(event, ahead)| {
                Transition::planned(event, self.version.plus(ahead), &*self.journal.options.clock)
            })
            .collect();
        match self.journal.options.strategy.clone() {
            Strategy::EventSourced(store) | Strategy::Hybrid { events: store, .. } => {
                self.append(&store, recorded).await?;
            }
            Strategy::SnapshotOnly(store) | Strategy::Versioned(store) => {
                self.put_whole(&store, next, recorded.len()).await?;
            }
        }
        for step in steps {
            self.recorder.record(step);
        }
        Ok(())
    }

    async fn append(&mut self, store: &Arc<dyn EventStore>, events: Vec<NewEvent>) -> Result<()> {
        let expected = match self.version {
            Version::ZERO => Expected::Absent,
            version => Expected::Exactly(version),
        };
        let anchor = events.last().map(|event| event.id.as_uuid().into_bytes());
        let mut append = Append::to(self.journal.stream.clone(), expected, events)
            .durability(self.journal.options.durability);
        append.fence.clone_from(&self.journal.options.fence);
        self.is_unsure = true;
        let appended = store.append(append).await;
        match appended {
            Ok(appended) => {
                let last = appended.versions.first().copied();
                self.version = last.ok_or_else(|| {
                    Error::new(ErrorKind::Internal, EXECUTE).detail("the store told no version")
                })?;
                self.anchor = anchor.unwrap_or(self.anchor);
                self.is_unsure = false;
                Ok(())
            }
            Err(error) => {
                self.is_unsure = may_have_changed(&error);
                Err(error)
            }
        }
    }

    /// Stores the whole state as the only record of a change.
    async fn put_whole(
        &mut self,
        store: &Arc<dyn SnapshotStore>,
        next: &M,
        n_events: usize,
    ) -> Result<()> {
        let options = &self.journal.options;
        let version = self.version.plus(n_events as u64);
        let snapshot = sealed(&self.journal, next, (version, Anchor::default()))?;
        let (durability, fence) = (options.durability, options.fence.clone());
        self.is_unsure = true;
        let put = store.put_snapshot(snapshot, durability, fence).await;
        if let Err(error) = put {
            self.is_unsure = may_have_changed(&error);
            return Err(error);
        }
        if matches!(options.strategy, Strategy::SnapshotOnly(_))
            && let Err(error) = store.prune(&self.journal.stream, options.policy.kept()).await
        {
            // Too many are kept for now; the next change tries again.
            tracing::warn!(stream = %self.journal.stream, %error, "old snapshots could not be removed");
        }
        // Not before: a future that is dropped while it prunes has stored a change it has not made.
        self.version = version;
        self.is_unsure = false;
        Ok(())
    }

    async fn remember_refusal(&mut self, action: &Action, refusal: &M::Refusal) -> Result<()> {
        if self.journal.options.refusals == Refusals::Forget {
            return Ok(());
        }
        let Some(store) = self.journal.options.strategy.events().map(Arc::clone) else {
            return Ok(());
        };
        let phase = self.machine.phase();
        let facts = Facts { action, from: phase, to: phase, took: std::time::Duration::ZERO };
        let mark = events::refusal::<M>(self.new_id(), facts, &format!("{refusal:?}"))?;
        self.recorder.record(Transition::planned(
            &mark,
            self.version.next(),
            &*self.journal.options.clock,
        ));
        self.append(&store, vec![mark]).await
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
        let recovered = recover::<M>(&self.journal.stream, options, Target::Latest).await?;
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

    /// Takes a snapshot beside the commands, where snapshots are not all there is.
    fn begin_snapshot(&mut self, reason: Reason) {
        let Strategy::Hybrid { snapshots, .. } = &self.journal.options.strategy else { return };
        // One at a time: a store that is slower than the machine gets fewer of them.
        while self.snapshots.try_join_next().is_some() {}
        if !self.snapshots.is_empty() {
            return;
        }
        let (snapshots, journal) = (Arc::clone(snapshots), self.journal.clone());
        let (machine, at) = (self.machine.clone(), (self.version, self.anchor));
        self.progress = Progress::none(self.journal.options.clock.now());
        self.snapshots.spawn(async move {
            if let Err(error) = take_snapshot(&snapshots, &journal, &machine, at, reason).await {
                telemetry::SNAPSHOTS_FAILED.add(1);
                tracing::warn!(stream = %journal.stream, version = %at.0, %error, "snapshot failed");
            }
        });
    }

    /// Waits for the snapshot that is on its way.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the snapshot on its way.
    pub async fn settle(&mut self) {
        while self.snapshots.join_next().await.is_some() {}
    }

    /// Takes a snapshot now; of a strategy without snapshots it is `Unsupported`.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it stored or not.
    pub async fn snapshot(&mut self) -> Result<Version> {
        self.refresh().await?;
        self.settle().await;
        self.snapshot_because(Reason::Manual).await?;
        Ok(self.version)
    }

    async fn snapshot_because(&mut self, reason: Reason) -> Result<()> {
        let Some(snapshots) = self.journal.options.strategy.snapshots().map(Arc::clone) else {
            return Err(Error::new(ErrorKind::Unsupported, "take snapshot of machine")
                .detail("the strategy keeps no snapshots"));
        };
        let at = (self.version, self.anchor);
        take_snapshot(&snapshots, &self.journal, &self.machine, at, reason).await?;
        self.progress = Progress::none(self.journal.options.clock.now());
        Ok(())
    }

    /// Ends the machine's life in memory: waits for snapshots on their way and takes the one that its policy wants
    /// at the close.
    ///
    /// # Errors
    ///
    /// What the store fails with; no change is lost by that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the last snapshot taken or not.
    pub async fn close(mut self) -> Result<()> {
        self.refresh().await?;
        self.settle().await;
        let is_hybrid = matches!(self.journal.options.strategy, Strategy::Hybrid { .. });
        match self.journal.options.policy.at_shutdown(&self.progress) {
            Some(reason) if is_hybrid => self.snapshot_because(reason).await,
            Some(_) | None => Ok(()),
        }
    }

    fn new_id(&self) -> EventId {
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

/// Returns whether a write that failed may have been done all the same, or the store knows better than we do.
const fn may_have_changed(error: &Error) -> bool {
    // Of these it is certain; whatever else went wrong, looking costs one read.
    !matches!(
        error.kind(),
        ErrorKind::Invalid
            | ErrorKind::Unsupported
            | ErrorKind::Denied
            | ErrorKind::Fenced
            | ErrorKind::Overloaded
            | ErrorKind::Throttled { .. }
    )
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

/// The version that a state is of, and the id of the event that led to it.
type At = (Version, Anchor);

fn sealed<M: Persistent>(
    journal: &Journal,
    machine: &M,
    (version, anchor): At,
) -> Result<Snapshot> {
    let payload = envelope::seal(machine, journal.options.codec, anchor)?;
    telemetry::SNAPSHOT_BYTES.add(payload.body.len() as u64);
    let (stream, taken) = (journal.stream.clone(), journal.options.clock.wall());
    Ok(Snapshot { stream, version, payload, taken })
}

async fn take_snapshot<M: Persistent>(
    snapshots: &Arc<dyn SnapshotStore>,
    journal: &Journal,
    machine: &M,
    at: At,
    reason: Reason,
) -> Result<()> {
    let options = &journal.options;
    let snapshot = sealed(journal, machine, at)?;
    snapshots.put_snapshot(snapshot, options.durability, options.fence.clone()).await?;
    telemetry::SNAPSHOTS.add_for(reason, 1);
    if !matches!(options.strategy, Strategy::Versioned(_)) {
        snapshots.prune(&journal.stream, options.policy.kept()).await?;
    }
    Ok(())
}
