//! A set of projections that run side by side.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use async_trait::async_trait;
use infra_core::{
    Error, ErrorKind, Result,
    health::{Finding, HealthCheck},
    lifecycle::{Shutdown, Stop},
};
use parking_lot::Mutex;

use super::{Projection, Projector, Status};

/// A projector of any kind.
#[async_trait]
trait Runs: Send + Sync + Debug {
    fn name(&self) -> &str;
    async fn run(&self, stop: Stop) -> Result<()>;
    async fn rebuild(&self) -> Result<()>;
    async fn status(&self) -> Result<Status>;
}

#[async_trait]
impl<P: Projection> Runs for Projector<P> {
    fn name(&self) -> &str {
        self.name()
    }

    async fn run(&self, stop: Stop) -> Result<()> {
        self.run(stop).await
    }

    async fn rebuild(&self) -> Result<()> {
        self.begin_rebuild().await?;
        while self.step_rebuild().await? == super::Progress::More {}
        Ok(())
    }

    async fn status(&self) -> Result<Status> {
        self.status().await
    }
}

/// Runs projections side by side; one that ends does not stop the others.
#[derive(Debug, Default)]
pub struct Projections {
    projectors: Vec<Arc<dyn Runs>>,
    /// Why those that ended did, by name.
    ended: Arc<Mutex<BTreeMap<String, Error>>>,
}

impl Projections {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a projector.
    #[must_use]
    pub fn with<P: Projection>(mut self, projector: Arc<Projector<P>>) -> Self {
        self.projectors.push(projector);
        self
    }

    /// Runs each in a task of its own until the shutdown begins.
    pub fn start(&self, shutdown: &Shutdown) {
        for projector in &self.projectors {
            let (projector, ended) = (Arc::clone(projector), Arc::clone(&self.ended));
            let stop = shutdown.stop();
            shutdown.spawn(async move {
                if let Err(error) = projector.run(stop).await {
                    tracing::error!(
                        projection = projector.name(),
                        error = &error as &dyn std::error::Error,
                        "projection ended"
                    );
                    ended.lock().insert(projector.name().to_owned(), error);
                }
            });
        }
    }

    /// Builds all views of all projections anew.
    ///
    /// # Errors
    ///
    /// The first failure, after all others were rebuilt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rebuilds under way.
    pub async fn rebuild_all(&self) -> Result<()> {
        let mut outcome = Ok(());
        for projector in &self.projectors {
            let rebuilt = projector.rebuild().await;
            outcome = outcome.and(rebuilt);
        }
        outcome
    }

    /// Returns the status of each, in the order they were added.
    ///
    /// # Errors
    ///
    /// What the stores fail with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn status(&self) -> Result<Vec<Status>> {
        let mut all = Vec::with_capacity(self.projectors.len());
        for projector in &self.projectors {
            all.push(projector.status().await?);
        }
        Ok(all)
    }

    /// Returns why a projection has ended, if it has.
    pub fn failure(&self, name: &str) -> Option<Error> {
        self.ended.lock().get(name).cloned()
    }
}

#[async_trait]
impl HealthCheck for Projections {
    fn name(&self) -> &'static str {
        "projections"
    }

    async fn check(&self) -> Finding {
        if let Some((name, error)) = self.ended.lock().iter().next() {
            return Finding::down(format!("{name} ended: {error}"));
        }
        match self.status().await {
            Err(error) if *error.kind() == ErrorKind::Closed => Finding::down("closed"),
            Err(error) => Finding::down(error.to_string()),
            Ok(all) => {
                let parked = all.iter().find(|status| !status.parked.is_empty());
                parked.map_or_else(Finding::up, |status| {
                    let (count, name) = (status.parked.len(), &status.name);
                    Finding::degraded(format!("{count} keys of {name} are parked"))
                })
            }
        }
    }
}
