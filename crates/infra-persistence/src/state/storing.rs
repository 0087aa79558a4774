//! How a change of a machine reaches its store, by each strategy.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Error, ErrorKind, Result,
    event::{Append, EventStore, NewEvent},
    snapshot::SnapshotStore,
    version::{Expected, Version},
};

use super::{
    action::Action,
    durable::{Durable, EXECUTE},
    envelope::Anchor,
    events::{self, Facts},
    options::{Refusals, Strategy},
    persistent::Persistent,
    snapshotting::sealed,
    transition::Transition,
};

impl<M: Persistent> Durable<M> {
    /// Stores a change by the strategy; afterwards `version` is that of the change.
    pub(super) async fn store(&mut self, next: &M, recorded: Vec<NewEvent>) -> Result<()> {
        // More than the recorder holds would only push each other out.
        let n_passed = recorded.len().saturating_sub(self.journal.options.n_recorded);
        let steps: Vec<Transition> = recorded
            .iter()
            .zip(1..)
            .skip(n_passed)
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

    pub(super) async fn remember_refusal(
        &mut self,
        action: &Action,
        refusal: &M::Refusal,
    ) -> Result<()> {
        if self.journal.options.refusals == Refusals::Forget {
            return Ok(());
        }
        let Some(store) = self.journal.options.strategy.events().map(Arc::clone) else {
            return Ok(());
        };
        let phase = self.machine.phase();
        let facts = Facts { action, from: phase, to: phase, took: Duration::ZERO };
        let mark = events::refusal::<M>(self.new_id(), facts, &format!("{refusal:?}"))?;
        self.recorder.record(Transition::planned(
            &mark,
            self.version.next(),
            &*self.journal.options.clock,
        ));
        self.append(&store, vec![mark]).await
    }
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
