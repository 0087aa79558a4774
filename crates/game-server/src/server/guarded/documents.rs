//! A document store behind policies.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Result,
    durability::Durability,
    id::Collection,
    store::{Batch, Document, DocumentStore, Features, Query, Receipt, Scan},
    version::Position,
};
use infra_resilience::{at_most_once, idempotent};

use super::Guard;

#[derive(Debug)]
pub(super) struct GuardedDocuments {
    store: Arc<dyn DocumentStore>,
    guard: Guard,
}

impl GuardedDocuments {
    pub(super) const fn new(store: Arc<dyn DocumentStore>, guard: Guard) -> Self {
        Self { store, guard }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DocumentStore for GuardedDocuments {
    fn features(&self) -> Features {
        self.store.features()
    }

    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>> {
        let call = idempotent(|| self.store.get(collection, key));
        self.guard.read("get document", call).await
    }

    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>> {
        let call = idempotent(|| self.store.get_many(collection, keys));
        self.guard.read("get documents", call).await
    }

    /// Made once: a batch that was done is not as expected the second time.
    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        let call = at_most_once(|| self.store.commit(batch));
        self.guard.once("commit documents", call).await
    }

    async fn reach(&self, commit: Position, durability: Durability) -> Result<()> {
        let call = idempotent(|| self.store.reach(commit, durability));
        self.guard.read("reach durability", call).await
    }

    async fn scan(&self, collection: &Collection, scan: Scan) -> Result<Vec<Document>> {
        let call = idempotent(|| self.store.scan(collection, scan.clone()));
        self.guard.read("scan documents", call).await
    }

    async fn query(&self, collection: &Collection, query: Query) -> Result<Vec<Document>> {
        let call = idempotent(|| self.store.query(collection, query.clone()));
        self.guard.read("query documents", call).await
    }

    async fn count(&self, collection: &Collection, prefix: &[u8]) -> Result<u64> {
        let call = idempotent(|| self.store.count(collection, prefix));
        self.guard.read("count documents", call).await
    }

    async fn history(
        &self,
        collection: &Collection,
        key: &[u8],
        limit: usize,
    ) -> Result<Vec<Document>> {
        let call = idempotent(|| self.store.history(collection, key, limit));
        self.guard.read("read history", call).await
    }
}
