//! Rebuilding: a new generation of views beside the one that is served, then one switch.

use bytes::Bytes;
use infra_core::{
    Result,
    store::{Batch, Scan},
    version::{Expected, Position},
};

use super::{
    Projection, layout,
    projector::{Known, Progress, Projector},
};

/// How many documents of a retired generation are removed at a time.
const SWEEP: usize = 256;

impl<P: Projection> Projector<P> {
    /// Begins to build all views anew, from the first event; the old ones are served meanwhile.
    ///
    /// A rebuild that is under way begins again. [`Projector::run`] brings it to its end, or
    /// [`Projector::rebuild`] does.
    ///
    /// # Errors
    ///
    /// What the document store fails with; [`Conflict`](infra_core::ErrorKind::Conflict) if another
    /// process wrote at the same time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rebuild begun or not.
    pub async fn begin_rebuild(&self) -> Result<()> {
        let mut known = self.known.lock().await;
        let mut current = self.load().await?;
        if let Some((abandoned, _)) = current.checkpoint.rebuilding.take() {
            current.checkpoint.retired.push(abandoned);
        }
        let generation = current.checkpoint.next_generation();
        current.checkpoint.rebuilding = Some((generation, Position::ZERO));
        *known = Some(self.commit(Batch::new(), current).await?);
        Ok(())
    }

    /// Builds all views anew and serves them once they are as far as the old ones.
    ///
    /// # Errors
    ///
    /// What the stores fail with; the old views are served on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rebuild under way.
    pub async fn rebuild(&self) -> Result<()> {
        self.begin_rebuild().await?;
        while self.step_rebuild().await? == Progress::More {}
        Ok(())
    }

    /// Brings a rebuild one page further; switches when it has caught up, then removes what was
    /// served before.
    pub(super) async fn step_rebuild(&self) -> Result<Progress> {
        let mut known = self.known.lock().await;
        let current = match known.take() {
            Some(current) => current,
            None => self.load().await?,
        };
        let Some((generation, _)) = current.checkpoint.rebuilding else {
            let (next, progress) = self.sweep(current).await?;
            *known = Some(next);
            return Ok(progress);
        };
        let (mut next, progress) = self.advance(current, generation).await?;
        let position = next.checkpoint.position_of(generation);
        if progress == Progress::CaughtUp && next.checkpoint.position <= position {
            next.checkpoint.retired.push(next.checkpoint.generation);
            next.checkpoint.generation = generation;
            next.checkpoint.position = position;
            next.checkpoint.rebuilding = None;
            next = self.commit(Batch::new(), next).await?;
        }
        *known = Some(next);
        Ok(Progress::More)
    }

    /// Removes some documents of a retired generation.
    async fn sweep(&self, mut known: Known) -> Result<(Known, Progress)> {
        let Some(retired) = known.checkpoint.retired.last().copied() else {
            return Ok((known, Progress::CaughtUp));
        };
        let mut gone: Vec<Bytes> = Vec::new();
        for prefix in [layout::views(self.name(), retired), layout::parked(self.name(), retired)] {
            let scan = Scan::prefix(prefix, SWEEP);
            let found = self.documents.scan(&self.collection, scan).await?;
            gone.extend(found.into_iter().map(|document| document.key));
        }
        let mut batch = Batch::new();
        let is_empty = gone.is_empty();
        for key in gone {
            batch = batch.delete(self.collection.clone(), key, Expected::Exists);
        }
        if is_empty {
            known.checkpoint.retired.pop();
        }
        Ok((self.commit(batch, known).await?, Progress::More))
    }
}
