//! Snapshots in several stores at once.

use std::{collections::BTreeSet, num::NonZeroUsize, sync::Arc};

use async_trait::async_trait;
use futures_util::future::join_all;
use infra_core::{
    Error, ErrorKind, Result,
    durability::Durability,
    id::StreamName,
    lease::Fence,
    snapshot::{Snapshot, SnapshotStore},
    version::Version,
};

/// Snapshots in several stores: a put needs a number of them, a read takes the newest valid one of any.
///
/// A put that fewer stores than the quorum took is `Indeterminate`: some of them have it, and a read may find
/// it. A fence that one store refuses is `Fenced`, whatever the others say.
#[derive(Debug, Clone)]
pub struct QuorumSnapshots {
    stores: Vec<Arc<dyn SnapshotStore>>,
    quorum: NonZeroUsize,
}

impl QuorumSnapshots {
    /// Creates the snapshots of several stores, of which `quorum` must take a put.
    ///
    /// # Errors
    ///
    /// `Invalid` if there are fewer stores than the quorum.
    pub fn new(stores: Vec<Arc<dyn SnapshotStore>>, quorum: NonZeroUsize) -> Result<Self> {
        if stores.len() < quorum.get() {
            let what = format!("a quorum of {quorum} among {} stores", stores.len());
            return Err(Error::invalid("combine snapshot stores", what));
        }
        Ok(Self { stores, quorum })
    }

    /// Splits the answers of all stores; an error if none is good.
    fn good<T>(answers: Vec<Result<T>>) -> Result<Vec<T>> {
        let (mut good, mut bad) = (Vec::new(), None);
        for answer in answers {
            match answer {
                Ok(answer) => good.push(answer),
                Err(error) => bad = Some(error),
            }
        }
        match bad {
            Some(error) if good.is_empty() => Err(error),
            Some(_) | None => Ok(good),
        }
    }
}

#[async_trait]
impl SnapshotStore for QuorumSnapshots {
    async fn put_snapshot(
        &self,
        snapshot: Snapshot,
        durability: Durability,
        fence: Option<Fence>,
    ) -> Result<()> {
        let put = |store: &Arc<dyn SnapshotStore>| {
            let (store, snapshot, fence) = (Arc::clone(store), snapshot.clone(), fence.clone());
            async move { store.put_snapshot(snapshot, durability, fence).await }
        };
        let answers = join_all(self.stores.iter().map(put)).await;
        let n_good = answers.iter().filter(|answer| answer.is_ok()).count();
        let mut errors = answers.into_iter().filter_map(Result::err).collect::<Vec<_>>();
        if let Some(fenced) = errors.iter().position(|error| error.kind() == &ErrorKind::Fenced) {
            return Err(errors.swap_remove(fenced));
        }
        match errors.pop() {
            Some(error) if n_good == 0 => Err(error),
            Some(error) if n_good < self.quorum.get() => {
                Err(Error::new(ErrorKind::Indeterminate, "put snapshot")
                    .detail(format!(
                        "{n_good} of {} stores took it, {} must",
                        self.stores.len(),
                        self.quorum
                    ))
                    .because(error))
            }
            Some(error) => {
                tracing::warn!(%error, "a store did not take a snapshot that enough others have");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Returns the newest one that any store has and can read.
    async fn latest(&self, stream: &StreamName, at_most: Version) -> Result<Option<Snapshot>> {
        let answers = join_all(self.stores.iter().map(|store| store.latest(stream, at_most))).await;
        let newest_known =
            self.versions(stream).await?.into_iter().find(|version| *version <= at_most);
        let found =
            Self::good(answers)?.into_iter().flatten().max_by_key(|snapshot| snapshot.version);
        let found_version = found.as_ref().map(|found| found.version);
        if newest_known != found_version {
            let what =
                format!("that of version {} cannot be read", newest_known.unwrap_or(at_most));
            return Err(Error::new(ErrorKind::Corrupt, "read snapshot").detail(what));
        }
        Ok(found)
    }

    async fn versions(&self, stream: &StreamName) -> Result<Vec<Version>> {
        let answers = join_all(self.stores.iter().map(|store| store.versions(stream))).await;
        let versions: BTreeSet<Version> = Self::good(answers)?.into_iter().flatten().collect();
        Ok(versions.into_iter().rev().collect())
    }

    /// Prunes every store; returns how many versions are nowhere any more.
    async fn prune(&self, stream: &StreamName, keep: usize) -> Result<usize> {
        let n_before = self.versions(stream).await?.len();
        let answers = join_all(self.stores.iter().map(|store| store.prune(stream, keep))).await;
        Self::good(answers)?;
        Ok(n_before.saturating_sub(self.versions(stream).await?.len()))
    }
}
