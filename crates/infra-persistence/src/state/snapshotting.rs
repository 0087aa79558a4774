//! The snapshots that a machine takes of itself, beside its commands and at its close.

use std::sync::Arc;

use infra_core::{
    Error, ErrorKind, Result,
    durability::Durability,
    snapshot::{Snapshot, SnapshotStore},
    version::Version,
};

use super::{
    durable::Durable,
    envelope::{self, Anchor},
    journal::Journal,
    options::Strategy,
    persistent::Persistent,
    policy::{Progress, Reason},
    telemetry,
};

impl<M: Persistent> Durable<M> {
    /// Takes a snapshot beside the commands, where snapshots are not all there is.
    pub(super) fn begin_snapshot(&mut self, reason: Reason) {
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

    /// Takes a snapshot now, at the durability of the options; of a strategy without snapshots it is `Unsupported`.
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
}

/// The version that a state is of, and the id of the event that led to it.
type At = (Version, Anchor);

pub(super) fn sealed<M: Persistent>(
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
    // The events are the truth: the disk has more urgent writes than what shortens their replay.
    let durability = if reason == Reason::Manual {
        options.durability
    } else {
        options.durability.min(Durability::Buffered)
    };
    snapshots.put_snapshot(snapshot, durability, options.fence.clone()).await?;
    telemetry::SNAPSHOTS.add_for(reason, 1);
    if !matches!(options.strategy, Strategy::Versioned(_)) {
        snapshots.prune(&journal.stream, options.policy.kept()).await?;
    }
    Ok(())
}
