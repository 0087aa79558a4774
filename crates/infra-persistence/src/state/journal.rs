//! The stores of one machine: what is read back from them, and what is written.

use std::sync::Arc;

use infra_core::{
    Clock, Error, ErrorKind, Result,
    event::{Direction, EventStore, RecordedEvent},
    id::StreamName,
    snapshot::{Snapshot, SnapshotStore},
    version::Version,
};

use super::{
    envelope::{self, Anchor, Opened, Unusable},
    events::{self, FROM, REFUSED},
    options::{DurableOptions, Strategy},
    persistent::Persistent,
    recovery::{Recovered, Report, Skipped, Target},
};

/// How many events are read at a time.
const PAGE: usize = 512;

const RECOVER: &str = "recover machine";

/// The stores of one machine.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    pub(super) stream: StreamName,
    pub(super) options: DurableOptions,
}

/// Where a replay begins.
#[derive(Debug)]
struct Base<M> {
    machine: M,
    version: Version,
    snapshot: Option<Version>,
    anchor: Anchor,
}

impl Journal {
    pub(super) const fn new(stream: StreamName, options: DurableOptions) -> Self {
        Self { stream, options }
    }

    pub(super) async fn recover<M: Persistent>(&self, target: Target) -> Result<Recovered<M>> {
        let begun = self.options.clock.now();
        let mut recovered = match &self.options.strategy {
            Strategy::EventSourced(events) => self.fold_events(events, None, target).await?,
            Strategy::Hybrid { events, snapshots } => {
                self.fold_events(events, Some(snapshots), target).await?
            }
            Strategy::SnapshotOnly(snapshots) | Strategy::Versioned(snapshots) => {
                self.pick_snapshot(snapshots, target).await?
            }
        };
        recovered.report.took = self.options.clock.now().since(begun);
        Ok(recovered)
    }

    async fn fold_events<M: Persistent>(
        &self,
        events: &Arc<dyn EventStore>,
        snapshots: Option<&Arc<dyn SnapshotStore>>,
        target: Target,
    ) -> Result<Recovered<M>> {
        if let Target::Snapshot(version) = target {
            let snapshots =
                snapshots.ok_or_else(|| self.not_found("the strategy keeps no snapshots"))?;
            return self.one_snapshot(snapshots, version).await;
        }
        let bound = self.bound(events, target).await?;
        let (mut skipped, mut at_most) = (Vec::new(), bound);
        loop {
            let base = self.base::<M>(snapshots, at_most, &mut skipped).await?;
            let from_snapshot = base.snapshot;
            let mut recovered = self.replay(events, base, bound).await?;
            let Err(fault) = recovered.machine.check() else {
                recovered.report.target = target;
                recovered.report.skipped = skipped;
                return Ok(recovered);
            };
            // A state that breaks its invariants is of no use: perhaps an older snapshot is.
            let Some(version) = from_snapshot else {
                return Err(self.corrupt(format!("its events break an invariant: {fault}")));
            };
            skipped.push(Skipped { version, why: format!("it breaks an invariant: {fault}") });
            at_most = version.previous();
        }
    }

    /// Returns the last version that belongs to what is asked for.
    async fn bound(&self, events: &Arc<dyn EventStore>, target: Target) -> Result<Version> {
        let last = events.stream_info(&self.stream).await?.map_or(Version::ZERO, |info| info.last);
        match target {
            Target::Latest => Ok(last),
            Target::Version(version) | Target::Snapshot(version) if version <= last => Ok(version),
            Target::Version(version) | Target::Snapshot(version) => {
                Err(self.not_found(format!("version {version} is beyond the last one, {last}")))
            }
            Target::At(time) => {
                let found = self.newest(events, last, |event| event.recorded <= time).await?;
                Ok(found.map_or(Version::ZERO, |event| event.version))
            }
            Target::BeforeLastError => {
                let is_error = |event: &RecordedEvent| event.event.event_type.as_str() == REFUSED;
                let found = self.newest(events, last, is_error).await?;
                found
                    .map(|event| event.version.previous())
                    .ok_or_else(|| self.not_found("no refusal is remembered"))
            }
        }
    }

    /// Looks for the newest event of which something is true.
    async fn newest(
        &self,
        events: &Arc<dyn EventStore>,
        last: Version,
        is_it: impl Fn(&RecordedEvent) -> bool,
    ) -> Result<Option<RecordedEvent>> {
        let mut from = last;
        while Version::ZERO < from {
            let page = events.read_stream(&self.stream, from, Direction::Backward, PAGE).await?;
            let Some(oldest) = page.last().map(|event| event.version) else { return Ok(None) };
            if let Some(found) = page.into_iter().find(|event| is_it(event)) {
                return Ok(Some(found));
            }
            from = oldest.previous();
        }
        Ok(None)
    }

    /// Returns the newest usable snapshot at or below a version; the beginning if there is none.
    async fn base<M: Persistent>(
        &self,
        snapshots: Option<&Arc<dyn SnapshotStore>>,
        at_most: Version,
        skipped: &mut Vec<Skipped>,
    ) -> Result<Base<M>> {
        let beginning = || Base {
            machine: M::default(),
            version: Version::ZERO,
            snapshot: None,
            anchor: Anchor::default(),
        };
        let Some(snapshots) = snapshots else { return Ok(beginning()) };
        let versions = match snapshots.versions(&self.stream).await {
            Ok(versions) => versions,
            // The events are the truth; without snapshots the way is longer, not closed.
            Err(error) => {
                skipped.push(Skipped { version: at_most, why: format!("not to be had: {error}") });
                return Ok(beginning());
            }
        };
        for version in versions.into_iter().filter(|version| *version <= at_most) {
            match self.read_snapshot(snapshots, version).await {
                Ok((Opened { machine, anchor, .. }, _)) => {
                    return Ok(Base { machine, version, snapshot: Some(version), anchor });
                }
                Err(Unusable::Newer(error)) => return Err(error),
                Err(Unusable::Damaged(error)) => {
                    skipped.push(Skipped { version, why: chain(&error) });
                }
            }
        }
        Ok(beginning())
    }

    async fn replay<M: Persistent>(
        &self,
        events: &Arc<dyn EventStore>,
        base: Base<M>,
        bound: Version,
    ) -> Result<Recovered<M>> {
        let Base { mut machine, mut version, snapshot, mut anchor } = base;
        let n_wanted = bound.get().saturating_sub(version.get());
        if self.options.max_replay < n_wanted {
            return Err(Error::new(ErrorKind::Overloaded, RECOVER).detail(format!(
                "{n_wanted} events to replay, at most {}",
                self.options.max_replay
            )));
        }
        let mut report = Report {
            target: Target::Latest,
            version: bound,
            snapshot,
            replayed: n_wanted,
            skipped: Vec::new(),
            broken: None,
            lost: 0,
            took: std::time::Duration::ZERO,
        };
        while version < bound {
            let n_left = bound.get().saturating_sub(version.get());
            let limit = usize::try_from(n_left).unwrap_or(PAGE).min(PAGE);
            let page =
                events.read_stream(&self.stream, version.next(), Direction::Forward, limit).await?;
            if page.is_empty() {
                return Err(self.corrupt(format!("event {} cannot be read", version.next())));
            }
            for recorded in page {
                if recorded.version != version.next() {
                    return Err(self.corrupt(format!("event {} is missing", version.next())));
                }
                if is_broken(&machine, &recorded) {
                    report.broken = report.broken.or(Some(recorded.version));
                }
                if let Some(event) = events::decode::<M>(&recorded, &self.options.migrations)? {
                    machine.evolve(&event);
                }
                version = recorded.version;
                anchor = recorded.event.id.as_uuid().into_bytes();
            }
        }
        Ok(Recovered { machine, report, anchor })
    }

    async fn one_snapshot<M: Persistent>(
        &self,
        snapshots: &Arc<dyn SnapshotStore>,
        version: Version,
    ) -> Result<Recovered<M>> {
        let (Opened { machine, anchor, .. }, _) = self.read_snapshot(snapshots, version).await?;
        let report = snapshot_report(Target::Snapshot(version), version);
        Ok(Recovered { machine, report, anchor })
    }

    async fn pick_snapshot<M: Persistent>(
        &self,
        snapshots: &Arc<dyn SnapshotStore>,
        target: Target,
    ) -> Result<Recovered<M>> {
        match target {
            Target::Version(version) | Target::Snapshot(version) => {
                self.one_snapshot(snapshots, version).await
            }
            Target::BeforeLastError => {
                Err(Error::new(ErrorKind::Unsupported, RECOVER)
                    .detail("snapshots remember no errors"))
            }
            Target::Latest | Target::At(_) => self.newest_snapshot(snapshots, target).await,
        }
    }

    /// Returns the newest snapshot that is valid, and not taken after the point in time if one is named.
    async fn newest_snapshot<M: Persistent>(
        &self,
        snapshots: &Arc<dyn SnapshotStore>,
        target: Target,
    ) -> Result<Recovered<M>> {
        let versions = snapshots.versions(&self.stream).await?;
        let mut skipped: Vec<Skipped> = Vec::new();
        for version in versions {
            let (opened, found) = match self.read_snapshot(snapshots, version).await {
                Ok(found) => found,
                Err(Unusable::Newer(error)) => return Err(error),
                Err(Unusable::Damaged(error)) => {
                    skipped.push(Skipped { version, why: chain(&error) });
                    continue;
                }
            };
            if matches!(target, Target::At(time) if time < found.taken) {
                continue;
            }
            let newest = skipped.iter().map(|skipped| skipped.version).max().unwrap_or(version);
            let lost = newest.get().saturating_sub(version.get());
            let report = Report { skipped, lost, ..snapshot_report(target, version) };
            let Opened { machine, anchor, .. } = opened;
            return Ok(Recovered { machine, report, anchor });
        }
        if let Some(newest) = skipped.first() {
            return Err(self
                .corrupt(format!("no snapshot is valid; of {}: {}", newest.version, newest.why)));
        }
        let report = Report { snapshot: None, ..snapshot_report(target, Version::ZERO) };
        Ok(Recovered { machine: M::default(), report, anchor: Anchor::default() })
    }

    /// Reads the snapshot of one version; its machine keeps its invariants and is of this history.
    pub(super) async fn read_snapshot<M: Persistent>(
        &self,
        snapshots: &Arc<dyn SnapshotStore>,
        version: Version,
    ) -> Result<(Opened<M>, Snapshot), Unusable> {
        let found = snapshots.latest(&self.stream, version).await?;
        let found = found
            .filter(|snapshot| snapshot.version == version)
            .ok_or_else(|| self.not_found(format!("there is no snapshot of version {version}")))?;
        let opened = envelope::open::<M>(&found.payload, &self.options.migrations)?;
        opened
            .machine
            .check()
            .map_err(|fault| self.corrupt(format!("it breaks an invariant: {fault}")))?;
        if !self.is_of_this_history(version, opened.anchor).await? {
            return Err(self.corrupt("it is of another history of the stream").into());
        }
        Ok((opened, found))
    }

    /// Returns whether the stream has the event that a snapshot was taken after.
    ///
    /// A stream that was made anew under the same name, or restored from a copy and gone on with, has other
    /// events. Where the event was cut off after the snapshot was taken, there is nothing to compare with.
    async fn is_of_this_history(&self, version: Version, anchor: Anchor) -> Result<bool> {
        let Some(events) = self.options.strategy.events() else {
            return Ok(anchor == Anchor::default());
        };
        let read = events.read_stream(&self.stream, version, Direction::Forward, 1).await?;
        if let Some(found) = read.first().filter(|event| event.version == version) {
            return Ok(found.event.id.as_uuid().into_bytes() == anchor);
        }
        let info = events.stream_info(&self.stream).await?;
        Ok(info.is_none_or(|info| version < info.first))
    }

    fn not_found(&self, what: impl Into<String>) -> Error {
        Error::new(ErrorKind::NotFound, RECOVER).detail(format!("{}: {}", self.stream, what.into()))
    }

    fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Corrupt, RECOVER).detail(format!("{}: {}", self.stream, what.into()))
    }
}

const fn snapshot_report(target: Target, version: Version) -> Report {
    Report {
        target,
        version,
        snapshot: Some(version),
        replayed: 0,
        skipped: Vec::new(),
        broken: None,
        lost: 0,
        took: std::time::Duration::ZERO,
    }
}

/// Returns whether an event was stored in another phase than the replay has come to.
fn is_broken<M: Persistent>(machine: &M, recorded: &RecordedEvent) -> bool {
    recorded.event.metadata.get(FROM).is_some_and(|from| from != machine.phase())
}

/// Writes an error with its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
