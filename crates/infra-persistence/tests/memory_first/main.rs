//! Repositories in memory: who stays, who leaves, what is read from where; units of work, questions,
//! migrations and configurations.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod configuration;
mod fields;
mod histories;
mod migrations;
mod pressure;
mod residents;

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result, SystemClock,
    codec::Payload,
    durability::Durability,
    id::{Collection, IndexName},
    store::{Batch, Document, DocumentStore, Features, Query, Receipt, Scan, Term, Write, ordered},
    version::{Expected, Position, Version},
};
use infra_persistence::{
    Backends, Entity, Factory, Filter, Limits, Migrations, Outbox, Preset, Repository,
    RepositoryConfig, Run, Select, SelectExt, Standing, StorageConfig, Strategy as Kept,
    UnitOfWork, Usage, memory,
};
use infra_testkit::model::ModelDocuments;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinSet};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    id: String,
    code: String,
    balance: i64,
    standing: u8,
}

impl Entity for Account {
    const COLLECTION: &'static str = "accounts";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        Bytes::copy_from_slice(self.id.as_bytes())
    }

    fn terms(&self) -> Result<Vec<Term>> {
        Ok(vec![
            Term::unique(IndexName::new("code")?, self.code.clone()),
            Term::new(IndexName::new("balance")?, ordered(self.balance)),
        ])
    }

    fn standing(&self) -> Standing {
        [Standing::Idle, Standing::Completed, Standing::Active][usize::from(self.standing)]
    }
}

fn account(id: &str, balance: i64, standing: u8) -> Account {
    Account { id: id.to_owned(), code: format!("code of {id}"), balance, standing }
}

/// A store that counts reads, and holds them while it is told to.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn DocumentStore>,
    reads: AtomicU64,
    is_shut: AtomicBool,
    opened: Notify,
}

impl Counting {
    fn new() -> Arc<Self> {
        Self::over(Arc::new(ModelDocuments::new(SystemClock::shared())))
    }

    fn over(inner: Arc<dyn DocumentStore>) -> Arc<Self> {
        let (reads, is_shut, opened) = (AtomicU64::new(0), AtomicBool::new(false), Notify::new());
        Arc::new(Self { inner, reads, is_shut, opened })
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl DocumentStore for Counting {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let found = self.inner.get(collection, key).await;
        loop {
            let opened = self.opened.notified();
            if !self.is_shut.load(Ordering::SeqCst) {
                return found;
            }
            opened.await;
        }
    }

    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>> {
        self.inner.get_many(collection, keys).await
    }

    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        self.inner.commit(batch).await
    }

    async fn reach(&self, commit: Position, durability: Durability) -> Result<()> {
        self.inner.reach(commit, durability).await
    }

    async fn scan(&self, collection: &Collection, scan: Scan) -> Result<Vec<Document>> {
        self.inner.scan(collection, scan).await
    }

    async fn query(&self, collection: &Collection, query: Query) -> Result<Vec<Document>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.query(collection, query).await
    }

    async fn count(&self, collection: &Collection, prefix: &[u8]) -> Result<u64> {
        self.inner.count(collection, prefix).await
    }

    async fn history(
        &self,
        collection: &Collection,
        key: &[u8],
        limit: usize,
    ) -> Result<Vec<Document>> {
        self.inner.history(collection, key, limit).await
    }
}

fn accounts(store: &Arc<Counting>, limits: Limits) -> Repository<Account> {
    let store: Arc<dyn DocumentStore> = Arc::<Counting>::clone(store);
    Repository::with_limits(store, limits).unwrap()
}

async fn save(repository: &Repository<Account>, account: Account) -> Version {
    repository.save(account, Expected::Any).await.unwrap()
}

async fn balance(repository: &Repository<Account>, id: &str) -> Option<i64> {
    repository.get(id.as_bytes()).await.unwrap().map(|found| found.entity.balance)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(future)
}
