//! An archive behind policies.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Result,
    archive::{ArchiveStore, ObjectInfo},
};
use infra_resilience::{at_most_once, idempotent};

use super::Guard;

#[derive(Debug)]
pub(super) struct GuardedArchive {
    store: Arc<dyn ArchiveStore>,
    guard: Guard,
}

impl GuardedArchive {
    pub(super) const fn new(store: Arc<dyn ArchiveStore>, guard: Guard) -> Self {
        Self { store, guard }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ArchiveStore for GuardedArchive {
    /// Made once: a second time there is such an object already.
    async fn create(&self, name: &str, body: Bytes) -> Result<()> {
        let call = at_most_once(|| self.store.create(name, body));
        self.guard.once("create object", call).await
    }

    async fn replace(&self, name: &str, body: Bytes) -> Result<()> {
        let call = idempotent(|| self.store.replace(name, body.clone()));
        self.guard.write("replace object", call).await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.guard.read("get object", idempotent(|| self.store.get(name))).await
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.guard.read("look up object", idempotent(|| self.store.head(name))).await
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<ObjectInfo>> {
        let call = idempotent(|| self.store.list(prefix, after, limit));
        self.guard.read("list objects", call).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.guard.write("delete object", idempotent(|| self.store.delete(name))).await
    }
}
